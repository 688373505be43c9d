//! What two words of a heap say, if they are the start of a chunk.

use super::{
    segment::Segment,
    shape::{
        ALIGNMENT_BYTES, CHUNK_HEADER_BYTES, FLAGS, IS_MAPPED, PREVIOUS_IN_USE,
        SMALLEST_CHUNK_BYTES,
    },
};

/// Fence posts (with what aligns them) are no longer than this, at the end of a segment.
pub const FENCE_BYTES: u64 = 0x40;

/// The first two words of a chunk (`mchunk_prev_size`, `mchunk_size`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Size of the chunk before, if that is free.
    pub footer: u64,
    /// Size and flags.
    pub size: u64,
}

/// What a header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A chunk up to this address.
    Chunk(u64),
    /// `top`, up to the end.
    Top,
    /// The first of a pair of fence posts.
    Fence,
    /// No chunk starts there.
    Nonsense,
}

impl Header {
    /// The chunk before is in use, or in a cache.
    pub fn previous_in_use(self) -> bool {
        self.size & PREVIOUS_IN_USE != 0
    }

    /// Size of the chunk, in bytes.
    pub fn bytes(self) -> u64 {
        self.size & !FLAGS
    }

    /// Whether it can be what follows a chunk of so many bytes, if it follows one: a free chunk
    /// has its size at its end.
    pub fn follows(self, previous_bytes: Option<u64>) -> bool {
        self.previous_in_use() || previous_bytes.is_none_or(|bytes| bytes == self.footer)
    }

    /// Where a chunk that starts at `at` ends; `None` when it cannot be one.
    pub fn end(self, at: u64, segment: &Segment) -> Option<u64> {
        let bytes = self.bytes();
        let is_chunk = bytes >= SMALLEST_CHUNK_BYTES
            && bytes.is_multiple_of(ALIGNMENT_BYTES)
            && self.size & IS_MAPPED == 0;
        at.checked_add(bytes).filter(|end| is_chunk && *end <= segment.end)
    }

    /// What it is at `at`, behind a chunk of so many bytes.
    pub fn meaning(self, at: u64, segment: &Segment, previous_bytes: Option<u64>) -> Meaning {
        if !self.follows(previous_bytes) {
            return Meaning::Nonsense;
        }
        match self.end(at, segment) {
            Some(end) if segment.top != Some(at) => Meaning::Chunk(end),
            Some(end) if end == segment.end => Meaning::Top,
            None if self.is_fence(segment.end - at, previous_bytes) => Meaning::Fence,
            _ => Meaning::Nonsense,
        }
    }

    /// A fence post follows a chunk in use, or a free one whose size is before it. `rest` is what
    /// the segment has from it on.
    fn is_fence(self, rest: u64, previous_bytes: Option<u64>) -> bool {
        let is_last = rest <= FENCE_BYTES;
        let bytes = self.bytes();
        (bytes == CHUNK_HEADER_BYTES || (bytes == 0 && is_last))
            && self.size & IS_MAPPED == 0
            && (self.previous_in_use() || previous_bytes.is_some())
    }

    /// Whether it has flags that no chunk of the segment has. A free chunk never has
    /// `NON_MAIN_ARENA`, so that its absence says nothing.
    pub fn is_foreign(self, segment: &Segment) -> bool {
        segment.is_main && self.size & FLAGS & !PREVIOUS_IN_USE != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocator::glibc::tally::TopTrim;

    const SEGMENT: Segment = Segment {
        start: 0x1000,
        first: 0x1000,
        end: 0x9000,
        top: Some(0x8000),
        top_trim: TopTrim::Never,
        is_main: true,
    };

    fn meaning(at: u64, footer: u64, size: u64, previous_bytes: Option<u64>) -> Meaning {
        Header { footer, size }.meaning(at, &SEGMENT, previous_bytes)
    }

    #[test]
    fn a_chunk_ends_in_its_segment_and_top_at_its_end() {
        assert_eq!(meaning(0x2000, 7, 0x101, Some(0x40)), Meaning::Chunk(0x2100));
        assert_eq!(meaning(0x2000, 7, 0x7011, None), Meaning::Nonsense);
        assert_eq!(meaning(0x8000, 7, 0x1001, Some(0x40)), Meaning::Top);
        assert_eq!(meaning(0x8000, 7, 0x101, Some(0x40)), Meaning::Nonsense);
        assert_eq!(meaning(0x2000, 7, !6, None), Meaning::Nonsense);
    }

    #[test]
    fn a_free_chunk_has_its_size_at_its_end() {
        assert_eq!(meaning(0x2000, 0x40, 0x100, Some(0x40)), Meaning::Chunk(0x2100));
        assert_eq!(meaning(0x2000, 0x50, 0x100, Some(0x40)), Meaning::Nonsense);
        assert_eq!(meaning(0x2000, 0x50, 0x100, None), Meaning::Chunk(0x2100));
    }

    #[test]
    fn fence_posts_are_too_small_for_chunks() {
        assert_eq!(meaning(0x2000, 7, 0x11, Some(0x40)), Meaning::Fence);
        assert_eq!(meaning(0x2000, 0x40, 0x10, Some(0x40)), Meaning::Fence);
        assert_eq!(meaning(0x2000, 0, 0x10, None), Meaning::Nonsense);
        assert_eq!(meaning(0x8ff0, 7, 1, Some(0x40)), Meaning::Fence);
        assert_eq!(meaning(0x2000, 7, 1, Some(0x40)), Meaning::Nonsense);
    }
}
