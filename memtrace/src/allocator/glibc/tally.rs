//! What an arena's chunks add up to, in bytes and in resident bytes, as they come by in the order
//! of their addresses. Its size is the same for every heap, and it can be set back.

use super::{
    shape::{FREE_CHUNK_HEADER_BYTES, SMALLEST_CHUNK_BYTES, align_down, align_up},
    target::{Pages, Presence},
};
use crate::model::{census::HeapResidency, site::Amount};

/// What a chunk is, as far as its neighbours and the fastbins tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkKind {
    /// Handed out, or in a tcache.
    InUse,
    /// In a bin.
    Free,
    /// In a fastbin.
    Fast,
}

/// The sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Chunks that are handed out or in tcaches.
    pub in_use: Amount,
    /// Chunks in bins.
    pub free: Amount,
    /// Chunks in fastbins.
    pub fastbins: Amount,
    /// `top`.
    pub top_bytes: u64,
    /// Headers of arenas and heaps, fence posts.
    pub metadata_bytes: u64,
    /// Memory of others within the heap: the program's own `sbrk`.
    pub gap_bytes: u64,
    /// What was not understood.
    pub skipped_bytes: u64,
    /// Swapped out.
    pub swapped_bytes: u64,
    /// The resident part.
    pub resident: HeapResidency,
    /// What trimming would take off the end of the main arena's `top`.
    pub top_trim_bytes: u64,
    run: FreeRun,
}

/// Chunks next to each other that `malloc_trim` makes one free chunk of, because it empties the
/// fastbins first. It gives back the run's whole pages, apart from the header at its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct FreeRun {
    start: u64,
    end: u64,
    ends_with_fast: bool,
    /// Resident, behind the header's page.
    inside: Split,
    /// Of `inside`: on the page that the run ends on.
    tail: Split,
}

/// Resident bytes of free chunks and of those in fastbins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Split {
    free: u64,
    fast: u64,
}

impl Split {
    fn of(kind: ChunkKind, bytes: u64) -> Self {
        match kind {
            ChunkKind::Fast => Self { free: 0, fast: bytes },
            _ => Self { free: bytes, fast: 0 },
        }
    }

    fn add(&mut self, other: Self) {
        self.free += other.free;
        self.fast += other.fast;
    }
}

/// How `top` is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopTrim {
    /// Not at all: it is not the main arena, or something else is behind it.
    Never,
    /// By multiples of so many bytes.
    By(u64),
}

impl Tally {
    /// A chunk of `[start, end)`.
    pub fn chunk(&mut self, pages: &mut Pages<'_>, kind: ChunkKind, start: u64, end: u64) {
        let amount = Amount::one(end - start);
        match kind {
            ChunkKind::InUse => {
                self.end_run();
                self.in_use += amount;
                self.resident.in_use_bytes += self.presence(pages, start, end);
            }
            ChunkKind::Free => {
                self.free += amount;
                self.extend_run(pages, kind, start, end);
            }
            ChunkKind::Fast => {
                self.fastbins += amount;
                self.extend_run(pages, kind, start, end);
            }
        }
    }

    /// `top`, the end of a segment.
    pub fn top(&mut self, pages: &mut Pages<'_>, start: u64, end: u64, trim: TopTrim) {
        let mut merged = start;
        if self.run.ends_with_fast {
            merged = self.run.start;
            // It becomes part of `top`, whose pages stay, but for its end.
            let run = std::mem::take(&mut self.run);
            self.outside(run.inside);
        }
        self.end_run();
        self.top_bytes += end - start;
        self.resident.top_bytes += self.presence(pages, start, end);
        if let TopTrim::By(unit) = trim {
            // systrim() leaves MINSIZE + 1 at least (malloc/malloc.c).
            let spare = (end - merged).saturating_sub(SMALLEST_CHUNK_BYTES + 1);
            let trimmed = (end - align_down(spare, unit)).max(merged);
            self.top_trim_bytes += pages.presence(trimmed, end).resident_bytes;
        }
    }

    /// The allocator's own.
    pub fn metadata(&mut self, pages: &mut Pages<'_>, start: u64, end: u64) {
        self.end_run();
        self.metadata_bytes += end - start;
        self.resident.metadata_bytes += self.presence(pages, start, end);
    }

    /// What is before a segment on its first page: libc's own `sbrk`, which no arena counts.
    pub fn before_segment(&mut self, pages: &mut Pages<'_>, start: u64) {
        let page = align_down(start, pages.page_bytes());
        self.resident.metadata_bytes += self.presence(pages, page, start);
    }

    /// Memory that is not the allocator's.
    pub fn gap(&mut self, pages: &mut Pages<'_>, start: u64, end: u64) {
        self.end_run();
        self.gap_bytes += end - start;
        self.resident.unknown_bytes += self.presence(pages, start, end);
    }

    /// Memory that could not be understood.
    pub fn skipped(&mut self, pages: &mut Pages<'_>, start: u64, end: u64) {
        self.end_run();
        self.skipped_bytes += end - start;
        self.resident.unknown_bytes += self.presence(pages, start, end);
    }

    /// All bytes that came by.
    pub fn walked_bytes(&self) -> u64 {
        let chunks = self.in_use.bytes + self.free.bytes + self.fastbins.bytes + self.top_bytes;
        chunks + self.metadata_bytes + self.gap_bytes + self.skipped_bytes
    }

    fn presence(&mut self, pages: &mut Pages<'_>, start: u64, end: u64) -> u64 {
        let Presence { resident_bytes, swapped_bytes } = pages.presence(start, end);
        self.swapped_bytes += swapped_bytes;
        resident_bytes
    }

    fn extend_run(&mut self, pages: &mut Pages<'_>, kind: ChunkKind, start: u64, end: u64) {
        if self.run.end != start {
            self.end_run();
            self.run.start = start;
        }
        self.run.end = end;
        self.run.ends_with_fast = kind == ChunkKind::Fast;
        let page = pages.page_bytes();
        let inside = align_up(self.run.start.saturating_add(FREE_CHUNK_HEADER_BYTES), page);
        let split = inside.clamp(start, end);
        let header = self.presence(pages, start, split);
        self.outside(Split::of(kind, header));
        if split < end {
            self.extend_inside(pages, kind, split, end);
        }
    }

    fn extend_inside(&mut self, pages: &mut Pages<'_>, kind: ChunkKind, start: u64, end: u64) {
        let last_page = align_down(end, pages.page_bytes());
        if last_page > start {
            let before = self.presence(pages, start, last_page);
            self.run.inside.add(Split::of(kind, before));
            self.run.tail = Split::default();
        }
        let tail = Split::of(kind, self.presence(pages, last_page.max(start), end));
        self.run.inside.add(tail);
        self.run.tail.add(tail);
    }

    fn end_run(&mut self) {
        let run = std::mem::take(&mut self.run);
        let whole = run.inside.free + run.inside.fast - run.tail.free - run.tail.fast;
        self.resident.returnable_bytes += whole;
        self.outside(run.tail);
    }

    fn outside(&mut self, bytes: Split) {
        self.resident.trapped_bytes += bytes.free;
        self.resident.cached_bytes += bytes.fast;
    }

    /// The segment is over.
    pub fn finish_segment(&mut self) {
        self.end_run();
    }
}
