//! `main_arena` where the file does not tell: by its bins. In 127 pairs of words that follow each
//! other, each is an empty bin, which points to itself, or the ends of a list that lead back to
//! it. The ring of arenas then decides where `next` is.

use super::{
    layout::Layout,
    shape::{ArenaShape, BINS_TO_NEXT_BYTES, align_down, align_up},
    target::{PresentMemory, Target},
};
use crate::model::census::Extent;

/// Pairs of words in `bins`.
const BINS: usize = 127;
/// `bins`, `binmap`, `next`.
const ARENA_WORDS: usize = 2 * BINS + 3;
/// From the structure to `bins`: up to 2.26, up to 2.42, and from 2.43 on.
const BINS_OFFSETS: [u64; 3] = [0x68, 0x70, 0x18];
/// Lists that may be in the middle of a change.
const MOST_BROKEN: usize = 8;
/// An arena after its first use and before its last has this many empty bins at least.
const FEWEST_EMPTY: usize = 8;
/// No data segment that has it is larger.
const LARGEST_DATA_BYTES: u64 = 16 << 20;

/// Looks for `main_arena` in the writable data of the object that has malloc: `data` as it is in
/// the process. The layout has no parameters, which the
/// file may tell ([`ParameterLayout::find`](super::layout::ParameterLayout::find)).
pub fn scan(target: &Target<'_>, data: &[Extent]) -> Option<Layout> {
    let memory = PresentMemory::new(target);
    data.iter().find_map(|extent| scan_extent(target, &memory, *extent))
}

fn scan_extent(target: &Target<'_>, memory: &PresentMemory<'_>, extent: Extent) -> Option<Layout> {
    let start = align_down(extent.start, target.page_bytes);
    let end = align_up(extent.end, target.page_bytes);
    let words =
        present_words(target, memory, start, end.min(start.saturating_add(LARGEST_DATA_BYTES)));
    (0..words.len().saturating_sub(ARENA_WORDS)).find_map(|at| {
        let bins = start + 8 * at as u64;
        let candidate = &words[at..at + ARENA_WORDS];
        are_bins(memory, bins, candidate).then(|| arena_at(memory, bins, candidate))?
    })
}

/// The words of some pages; those of pages that are not there are 0.
fn present_words(
    target: &Target<'_>,
    memory: &PresentMemory<'_>,
    start: u64,
    end: u64,
) -> Vec<u64> {
    let mut words = Vec::with_capacity((end.saturating_sub(start) / 8) as usize);
    let mut page = vec![0; target.page_bytes as usize];
    for address in (start..end).step_by(target.page_bytes as usize) {
        if !memory.read(address, &mut page) {
            page.fill(0);
        }
        let (in_page, _) = page.as_chunks::<8>();
        words.extend(in_page.iter().map(|word| u64::from_le_bytes(*word)));
    }
    words
}

fn are_bins(memory: &PresentMemory<'_>, bins: u64, words: &[u64]) -> bool {
    // Most places fail here.
    if words[0] == 0 || words[2 * BINS - 1] == 0 {
        return false;
    }
    let (mut empty, mut broken) = (0, 0);
    for (number, pair) in (0..).zip(words[..2 * BINS].chunks_exact(2)) {
        let bin = bins + 16 * number - 16;
        match (pair[0], pair[1]) {
            (first, last) if first == bin && last == bin => empty += 1,
            (first, last) if !may_be_chunk(first) || !may_be_chunk(last) => return false,
            (first, last) if leads_back(memory, bin, first, last) => {}
            _ => broken += 1,
        }
    }
    broken <= MOST_BROKEN && empty >= FEWEST_EMPTY
}

fn may_be_chunk(address: u64) -> bool {
    address.is_multiple_of(16) && address >= 4096
}

/// The first chunk's `bk` and the last one's `fd`.
fn leads_back(memory: &PresentMemory<'_>, bin: u64, first: u64, last: u64) -> bool {
    let word = |chunk: u64, offset| chunk.checked_add(offset).and_then(|at| memory.word(at));
    word(first, 24) == Some(bin) && word(last, 16) == Some(bin)
}

fn arena_at(memory: &PresentMemory<'_>, bins: u64, words: &[u64]) -> Option<Layout> {
    let next = words[(BINS_TO_NEXT_BYTES / 8) as usize];
    BINS_OFFSETS.into_iter().find_map(|offset| {
        let main_arena = bins.checked_sub(offset)?;
        let shape = ArenaShape { next: offset + BINS_TO_NEXT_BYTES, counts_threads: false };
        let closes = ring_closes(memory, shape, next, main_arena);
        let shape =
            ArenaShape { counts_threads: counts_threads(memory, main_arena, shape), ..shape };
        closes.then_some(Layout { main_arena, shape, parameters: None })
    })
}

/// More arenas than that are not followed.
const LONGEST_RING: usize = 4096;

fn ring_closes(memory: &PresentMemory<'_>, shape: ArenaShape, next: u64, end: u64) -> bool {
    let mut arena = next;
    for _ in 0..LONGEST_RING {
        if arena == end {
            return true;
        }
        let Some(next) = arena.checked_add(shape.next).and_then(|at| memory.word(at)) else {
            return false;
        };
        arena = next;
    }
    false
}

/// The main arena always has a thread, and memory comes in pages.
fn counts_threads(memory: &PresentMemory<'_>, arena: u64, shape: ArenaShape) -> bool {
    let after = memory.words::<2>(arena + shape.next + 0x10);
    after.is_some_and(|[threads, system]| (1..1 << 12).contains(&threads) && system >= 1 << 12)
}
