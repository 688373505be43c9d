//! The caches of threads. Each is a chunk of an arena whose content gives it away: counts and
//! heads of lists that fit each other. Chunks in a tcache look in use to their neighbours.

use super::{
    links::{ArenaMap, Followed, Follower, List},
    shape::{ALIGNMENT_BYTES, CHUNK_HEADER_BYTES, SMALLEST_CHUNK_BYTES},
    window::Window,
};

/// `tcache_perthread_struct` of some versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    /// Its chunk; one of half a `MINSIZE` more is possible where the rest was too small to split.
    chunk_bytes: u64,
    bins: usize,
    /// Of those, how many have chunks of one size each.
    small_bins: usize,
    count_bytes: usize,
    /// The counts say how many more may come (`num_slots`), not how many there are.
    counts_slots: bool,
}

/// 2.26 to 2.29, 2.30 to 2.41, and from 2.42 on.
const FORMS: [Form; 3] = [
    Form { chunk_bytes: 0x250, bins: 64, small_bins: 64, count_bytes: 1, counts_slots: false },
    Form { chunk_bytes: 0x290, bins: 64, small_bins: 64, count_bytes: 2, counts_slots: false },
    Form { chunk_bytes: 0x300, bins: 76, small_bins: 64, count_bytes: 2, counts_slots: true },
];

impl Form {
    fn of(chunk_bytes: u64) -> Option<Self> {
        // Most chunks are smaller.
        if chunk_bytes < FORMS[0].chunk_bytes {
            return None;
        }
        let fits = |form: &&Self| {
            chunk_bytes == form.chunk_bytes || chunk_bytes == form.chunk_bytes + ALIGNMENT_BYTES
        };
        FORMS.iter().find(fits).copied()
    }

    fn size_bytes(self) -> usize {
        self.bins * (self.count_bytes + 8)
    }

    /// Counts and heads, or `None` when they cannot be those of a tcache.
    fn bins_in(self, bytes: &[u8], most: Option<u64>) -> Option<Vec<Bin>> {
        self.bins_or_not(bytes, most)?.collect()
    }

    /// The bins, those left out that make no sense; `None` when these are more than a thread can
    /// be changing at a moment.
    fn bins_but_few(self, bytes: &[u8], most: Option<u64>) -> Option<Vec<Bin>> {
        let torn = self.bins_or_not(bytes, most)?.filter(Option::is_none);
        let is_one = torn.take(MOST_TORN_BINS + 1).count() <= MOST_TORN_BINS;
        is_one.then(|| self.bins_or_not(bytes, most)).flatten().map(|it| it.flatten().collect())
    }

    fn bins_or_not(
        self,
        bytes: &[u8],
        most: Option<u64>,
    ) -> Option<impl Iterator<Item = Option<Bin>>> {
        let (counts, heads) =
            bytes.get(..self.size_bytes())?.split_at(self.bins * self.count_bytes);
        let counts = counts.chunks_exact(self.count_bytes).map(little_endian);
        let heads = heads.as_chunks().0.iter().map(|head| u64::from_le_bytes(*head));
        let bins = counts.zip(heads).enumerate().map(move |(number, (count, head))| {
            let count = if self.counts_slots { most?.checked_sub(count)? } else { count };
            let fits = (count == 0) == (head == 0)
                && head % ALIGNMENT_BYTES == 0
                && head < 1 << 56
                && most.is_none_or(|most| count <= most);
            let small = SMALLEST_CHUNK_BYTES + ALIGNMENT_BYTES * number as u64;
            let chunk_bytes = (number < self.small_bins).then_some(small);
            fits.then_some(Bin { count, head, chunk_bytes })
        });
        Some(bins)
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// A list of a tcache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bin {
    count: u64,
    head: u64,
    chunk_bytes: Option<u64>,
}

/// Bins whose count and head do not fit because they were read between two writes: one, and one
/// more for the time that the reading takes.
const MOST_TORN_BINS: usize = 2;
/// How often a tcache is read again that makes no sense: its thread may be using it.
const MOST_TRIES: usize = 16;

/// More threads than this are not looked for.
const MOST_CANDIDATES: usize = 1 << 15;

/// Chunks that may be tcaches.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    /// Chunk and its size.
    chunks: Vec<(u64, u64)>,
    most_in_bin: Option<u64>,
}

impl Candidates {
    /// `tcache_count` of the target, where it is known.
    pub fn with_most_in_bin(most_in_bin: Option<u64>) -> Self {
        Self { chunks: Vec::new(), most_in_bin }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.chunks.len()
    }

    /// Forgets the last ones.
    pub fn truncate(&mut self, length: usize) {
        self.chunks.truncate(length);
    }

    /// Takes a chunk in use, when it has a tcache's size and, as far as the window shows it, a
    /// tcache's content.
    pub fn consider(&mut self, window: &Window<'_>, chunk: u64, chunk_bytes: u64) {
        let Some(form) = Form::of(chunk_bytes) else { return };
        let content = window.bytes(chunk + CHUNK_HEADER_BYTES, form.size_bytes());
        let is_one = content.is_none_or(|bytes| form.looks_right(bytes, self.most_in_bin));
        if is_one && self.chunks.len() < MOST_CANDIDATES {
            self.chunks.push((chunk, chunk_bytes));
        }
    }
}

impl Form {
    fn looks_right(self, bytes: &[u8], most: Option<u64>) -> bool {
        self.bins_but_few(bytes, most).is_some_and(|bins| self.counts_slots || has_any(&bins))
    }
}

/// A tcache without chunks is nothing but zeros until 2.42, and so are many other chunks.
fn has_any(bins: &[Bin]) -> bool {
    bins.iter().any(|bin| bin.head != 0)
}

/// What all tcaches hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tcaches {
    /// The chunks of the tcaches themselves, and their sizes.
    pub structures: Vec<(u64, u64)>,
    /// The chunks in them, and their sizes; ascending.
    pub chunks: Vec<(u64, u64)>,
    /// The word that marks a chunk in a tcache (`tcache_key`), where most have the same: since
    /// 2.34.
    pub key: Option<u64>,
    /// A list did not come to its end: it changed while it was read.
    pub torn: bool,
}

/// Reads the tcaches among the candidates. Later ones are not taken when they claim chunks that
/// others have.
pub fn read(follower: &mut Follower<'_, '_>, candidates: &Candidates) -> Tcaches {
    let mut tcaches = Tcaches::default();
    for (chunk, chunk_bytes) in &candidates.chunks {
        let most = candidates.most_in_bin;
        if let Some(content) = read_whole(follower, *chunk, *chunk_bytes, most) {
            tcaches.structures.push((*chunk, *chunk_bytes));
            tcaches.torn |= !content.complete;
            tcaches.chunks.extend(content.chunks);
        }
    }
    tcaches.chunks.sort_unstable();
    tcaches.chunks.dedup();
    tcaches.key = key(follower, &tcaches.chunks);
    tcaches
}

/// Reads a tcache, at a moment at which it makes sense.
fn read_whole(
    follower: &mut Follower<'_, '_>,
    chunk: u64,
    chunk_bytes: u64,
    most: Option<u64>,
) -> Option<Followed> {
    for _ in 0..MOST_TRIES {
        let bytes = may_be_one(follower, chunk, chunk_bytes, most)?;
        if let Some(content) = read_one(follower, chunk_bytes, &bytes, most) {
            return Some(content);
        }
    }
    None
}

/// A tcache's content, unless it cannot be one, at any moment.
fn may_be_one(
    follower: &Follower<'_, '_>,
    chunk: u64,
    chunk_bytes: u64,
    most: Option<u64>,
) -> Option<Vec<u8>> {
    let form = Form::of(chunk_bytes)?;
    let mut bytes = vec![0; form.size_bytes()];
    let is_read = follower.memory().read(chunk + CHUNK_HEADER_BYTES, &mut bytes);
    (is_read && form.looks_right(&bytes, most)).then_some(bytes)
}

fn read_one(
    follower: &mut Follower<'_, '_>,
    chunk_bytes: u64,
    bytes: &[u8],
    most: Option<u64>,
) -> Option<Followed> {
    let form = Form::of(chunk_bytes)?;
    let bins = form.bins_in(bytes, most)?;
    let mut all = Followed { chunks: Vec::new(), complete: true };
    for bin in bins.iter().filter(|bin| bin.head != 0) {
        let is_inside = is_in(follower.map(), bin.head - CHUNK_HEADER_BYTES);
        let followed = is_inside.then(|| follower.follow(bin.list()))?;
        if followed.chunks.is_empty() {
            return None;
        }
        all.complete &= followed.complete && followed.chunks.len() as u64 == bin.count;
        all.chunks.extend(followed.chunks);
    }
    (form.counts_slots || has_any(&bins)).then_some(all)
}

impl Bin {
    fn list(self) -> List {
        List {
            head: self.head - CHUNK_HEADER_BYTES,
            link_target: CHUNK_HEADER_BYTES,
            chunk_bytes: self.chunk_bytes,
            most: self.count as usize,
        }
    }
}

fn is_in(map: &ArenaMap, chunk: u64) -> bool {
    map.arena_of(chunk).is_some()
}

/// The key that more than half of some chunks of tcaches carry.
fn key(follower: &Follower<'_, '_>, chunks: &[(u64, u64)]) -> Option<u64> {
    let sample = chunks.iter().take(64);
    let mut keys: Vec<_> = sample
        .filter_map(|(chunk, _)| follower.memory().word(chunk + CHUNK_HEADER_BYTES + 8))
        .collect();
    keys.sort_unstable();
    let candidate = *keys.get(keys.len() / 2)?;
    let votes = keys.iter().filter(|key| **key == candidate).count();
    (candidate != 0 && votes * 2 > keys.len()).then_some(candidate)
}
