//! Chunks of glibc's heap: how many there are, by size, and which blocks are none of them.

use std::ops::AddAssign;

/// Classes: four to a doubling, so that the small sizes have one each.
const CLASSES: usize = 128;
/// The smallest chunk, `MINSIZE`, and what chunks are multiples of, `MALLOC_ALIGNMENT` (malloc/malloc.c of
/// glibc 2.17 to 2.43, 64-bit).
const SMALLEST_BYTES: u64 = 32;
const ALIGNMENT_BYTES: u64 = 16;
/// What a chunk has besides the program's memory: its size (`SIZE_SZ`).
const SIZE_BYTES: u64 = 8;
/// What precedes the block in a chunk that is a mapping of its own (`CHUNK_HDR_SZ`).
const HEADER_BYTES: u64 = 2 * SIZE_BYTES;
/// Bytes of a page on x86-64 and, mostly, aarch64.
const PAGE_BYTES: u64 = 4096;

/// Numbers of chunks by class of size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSizes {
    counts: [u32; CLASSES],
}

impl Default for ChunkSizes {
    fn default() -> Self {
        Self { counts: [0; CLASSES] }
    }
}

impl ChunkSizes {
    /// Counts a chunk of so many bytes, its header included.
    pub fn add(&mut self, chunk_bytes: u64) {
        let count = &mut self.counts[class(chunk_bytes)];
        *count = count.saturating_add(1);
    }

    /// One less.
    pub fn remove(&mut self, chunk_bytes: u64) {
        let count = &mut self.counts[class(chunk_bytes)];
        *count = count.saturating_sub(1);
    }

    /// How many there are of the class that a request of so many bytes leads to.
    pub fn of_request(&self, requested_bytes: u64) -> u64 {
        self.of_class(Self::class_of_request(requested_bytes))
    }

    /// How many there are of a class, a number below [`Self::CLASSES`].
    pub fn of_class(&self, class: usize) -> u64 {
        self.counts[class].into()
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    /// The class of the chunk for a request (`request2size`): a number below [`Self::CLASSES`].
    pub fn class_of_request(requested_bytes: u64) -> usize {
        let bytes = requested_bytes.saturating_add(SIZE_BYTES + ALIGNMENT_BYTES - 1);
        class((bytes & !(ALIGNMENT_BYTES - 1)).max(SMALLEST_BYTES))
    }

    /// How many classes there are.
    pub const CLASSES: usize = CLASSES;
}

impl AddAssign for ChunkSizes {
    fn add_assign(&mut self, other: Self) {
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum = sum.saturating_add(count);
        }
    }
}

/// Whether a block of this size at this address may be a mapping of its own, as only one in 256 others seems to
/// be: what becomes of such a one is seen wherever mappings are.
pub fn may_be_mapped(address: u64, size_bytes: u64) -> bool {
    size_bytes >= PAGE_BYTES && address % PAGE_BYTES == HEADER_BYTES
}

/// Sizes beyond 64 GiB share the last class.
fn class(chunk_bytes: u64) -> usize {
    let bytes = chunk_bytes.max(SMALLEST_BYTES);
    let log = bytes.ilog2();
    let quarter = bytes >> (log - 2) & 3;
    (4 * (log - SMALLEST_BYTES.ilog2()) as usize + quarter as usize).min(CLASSES - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_requests_have_the_class_of_their_chunks() {
        let mut sizes = ChunkSizes::default();
        for chunk_bytes in [32, 32, 48, 112, 128] {
            sizes.add(chunk_bytes);
        }
        let found = [0, 24, 25, 40, 41, 104, 105, 120].map(|request| sizes.of_request(request));
        assert_eq!(found, [2, 2, 1, 1, 0, 1, 1, 1]);
        sizes.remove(32);
        sizes.remove(64);
        assert_eq!((sizes.of_request(1), sizes.of_request(50)), (1, 0));
        let mut both = sizes;
        both += sizes;
        assert_eq!(both.of_request(100), 2);
    }

    #[test]
    fn a_large_block_behind_the_header_at_the_start_of_a_page_may_be_a_mapping() {
        assert!(may_be_mapped(0x7f00_0000_0010, 20 << 20));
        assert!(!may_be_mapped(0x7f00_0000_0010, 100), "it is too small");
        assert!(!may_be_mapped(0x7f00_0000_0020, 20 << 20), "it is in a heap");
    }

    proptest! {
        #[test]
        fn larger_chunks_are_of_no_smaller_class(bytes: u64, more: u64) {
            let larger = class(bytes.saturating_add(more));
            prop_assert!(class(bytes) <= larger && larger < CLASSES);
            prop_assert!(ChunkSizes::class_of_request(bytes) < CLASSES);
        }
    }
}
