//! What an arena's chunks add up to, in bytes and in resident bytes, as they come by in the order
//! of their addresses. Its size is the same for every heap, and it can be set back.

use super::{
    book::{Book, RangeKind},
    shape::{FREE_CHUNK_HEADER_BYTES, SMALLEST_CHUNK_BYTES, align_down, align_up},
    target::Presence,
};
use crate::model::{
    census::HeapResidency, chunk_sizes::ChunkSizes, layout::PieceKind, site::Amount,
};

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

impl From<ChunkKind> for RangeKind {
    fn from(kind: ChunkKind) -> Self {
        match kind {
            ChunkKind::InUse => Self::InUse,
            ChunkKind::Free => Self::Free,
            ChunkKind::Fast => Self::Fast,
        }
    }
}

impl From<ChunkKind> for PieceKind {
    fn from(kind: ChunkKind) -> Self {
        match kind {
            ChunkKind::InUse => Self::InUse,
            ChunkKind::Free => Self::Free,
            ChunkKind::Fast => Self::Fastbin,
        }
    }
}

/// The sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Chunks that are handed out or in tcaches.
    pub in_use: Amount,
    /// The same by size.
    pub in_use_sizes: ChunkSizes,
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

impl FreeRun {
    /// The first page that can be given back, if it is wholly in the run.
    fn inside_start(&self, page_bytes: u64) -> u64 {
        align_up(self.start.saturating_add(FREE_CHUNK_HEADER_BYTES), page_bytes)
    }
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
    pub fn chunk(&mut self, book: &mut Book<'_>, kind: ChunkKind, start: u64, end: u64) {
        let amount = Amount::one(end - start);
        match kind {
            ChunkKind::InUse => {
                self.end_run(book);
                self.in_use += amount;
                self.in_use_sizes.add(end - start);
                self.resident.in_use_bytes += self.presence(book, RangeKind::InUse, start, end);
            }
            ChunkKind::Free => {
                self.free += amount;
                self.extend_run(book, kind, start, end);
            }
            ChunkKind::Fast => {
                self.fastbins += amount;
                self.extend_run(book, kind, start, end);
            }
        }
    }

    /// `top`, the end of a segment.
    pub fn top(&mut self, book: &mut Book<'_>, start: u64, end: u64, trim: TopTrim) {
        let mut merged = start;
        if self.run.ends_with_fast {
            merged = self.run.start;
            // It becomes part of `top`, whose pages stay, but for its end.
            let run = std::mem::take(&mut self.run);
            self.outside(run.inside);
            book.end_run(0, 0);
        }
        self.end_run(book);
        self.top_bytes += end - start;
        self.resident.top_bytes += self.presence(book, RangeKind::Top, start, end);
        if let TopTrim::By(unit) = trim {
            // systrim() leaves MINSIZE + 1 at least (malloc/malloc.c).
            let spare = (end - merged).saturating_sub(SMALLEST_CHUNK_BYTES + 1);
            let trimmed = (end - align_down(spare, unit)).max(merged);
            self.top_trim_bytes += book.pages.presence(trimmed, end).resident_bytes;
        }
    }

    /// The allocator's own.
    pub fn metadata(&mut self, book: &mut Book<'_>, start: u64, end: u64) {
        self.end_run(book);
        self.metadata_bytes += end - start;
        self.resident.metadata_bytes += self.presence(book, RangeKind::Other, start, end);
    }

    /// What is before a segment on its first page: libc's own `sbrk`, which no arena counts.
    pub fn before_segment(&mut self, book: &mut Book<'_>, start: u64) {
        let page = align_down(start, book.page_bytes());
        self.resident.metadata_bytes += self.presence(book, RangeKind::Other, page, start);
    }

    /// Memory that is not the allocator's.
    pub fn gap(&mut self, book: &mut Book<'_>, start: u64, end: u64) {
        self.end_run(book);
        self.gap_bytes += end - start;
        self.resident.unknown_bytes += self.presence(book, RangeKind::Other, start, end);
    }

    /// Memory that could not be understood.
    pub fn skipped(&mut self, book: &mut Book<'_>, start: u64, end: u64) {
        self.end_run(book);
        self.skipped_bytes += end - start;
        self.resident.unknown_bytes += self.presence(book, RangeKind::Other, start, end);
    }

    /// All bytes that came by.
    pub fn walked_bytes(&self) -> u64 {
        let chunks = self.in_use.bytes + self.free.bytes + self.fastbins.bytes + self.top_bytes;
        chunks + self.metadata_bytes + self.gap_bytes + self.skipped_bytes
    }

    fn presence(&mut self, book: &mut Book<'_>, kind: RangeKind, start: u64, end: u64) -> u64 {
        let Presence { resident_bytes, swapped_bytes } = book.presence(kind, start, end);
        self.swapped_bytes += swapped_bytes;
        resident_bytes
    }

    fn extend_run(&mut self, book: &mut Book<'_>, kind: ChunkKind, start: u64, end: u64) {
        if self.run.end != start {
            self.end_run(book);
            self.run.start = start;
        }
        self.run.end = end;
        self.run.ends_with_fast = kind == ChunkKind::Fast;
        let page = book.page_bytes();
        let split = self.run.inside_start(page).clamp(start, end);
        let header = self.presence(book, kind.into(), start, split);
        self.outside(Split::of(kind, header));
        if split < end {
            self.extend_inside(book, kind, split, end);
        }
    }

    fn extend_inside(&mut self, book: &mut Book<'_>, kind: ChunkKind, start: u64, end: u64) {
        let last_page = align_down(end, book.page_bytes());
        if last_page > start {
            let before = self.presence(book, kind.into(), start, last_page);
            self.run.inside.add(Split::of(kind, before));
            self.run.tail = Split::default();
        }
        let tail = Split::of(kind, self.presence(book, kind.into(), last_page.max(start), end));
        self.run.inside.add(tail);
        self.run.tail.add(tail);
    }

    fn end_run(&mut self, book: &mut Book<'_>) {
        if self.run == FreeRun::default() {
            return;
        }
        let run = std::mem::take(&mut self.run);
        book.end_run(run.inside_start(book.page_bytes()), align_down(run.end, book.page_bytes()));
        let whole = run.inside.free + run.inside.fast - run.tail.free - run.tail.fast;
        self.resident.returnable_bytes += whole;
        self.outside(run.tail);
    }

    fn outside(&mut self, bytes: Split) {
        self.resident.trapped_bytes += bytes.free;
        self.resident.cached_bytes += bytes.fast;
    }

    /// The segment is over.
    pub fn finish_segment(&mut self, book: &mut Book<'_>) {
        self.end_run(book);
    }
}
