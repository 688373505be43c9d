//! `struct malloc_state`, `struct heap_info` and chunks: what of their form is the same in every
//! version, and what of it a build decides. Source: malloc/malloc.c, malloc/arena.c of 2.17 to
//! 2.43 (64-bit).

/// From `bins` to `next`: 254 words of bins and 16 bytes of `binmap`.
pub const BINS_TO_NEXT_BYTES: u64 = 0x800;
/// `NFASTBINS` of 64-bit programs.
pub const FASTBINS: usize = 10;
/// `flags` has this bit when the memory of an arena may have gaps.
pub const NONCONTIGUOUS: u32 = 2;

/// `PREV_INUSE`: the chunk before this one is not in a bin.
pub const PREVIOUS_IN_USE: u64 = 1;
/// `IS_MMAPPED`.
pub const IS_MAPPED: u64 = 2;
/// All flags of a chunk's size.
pub const FLAGS: u64 = 7;
/// `MINSIZE`.
pub const SMALLEST_CHUNK_BYTES: u64 = 0x20;
/// `MALLOC_ALIGNMENT`.
pub const ALIGNMENT_BYTES: u64 = 0x10;
/// From a chunk to the program's memory in it.
pub const CHUNK_HEADER_BYTES: u64 = 0x10;
/// `sizeof(struct malloc_chunk)`: what `malloc_trim` leaves of a free chunk.
pub const FREE_CHUNK_HEADER_BYTES: u64 = 0x30;
/// `HEAP_MAX_SIZE`: size and alignment of the heaps of other arenas than the main one.
pub const HEAP_MAX_BYTES: u64 = 64 << 20;

/// What of a `malloc_state` differs between versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaShape {
    /// Offset of `next`.
    pub next: u64,
    /// It has `attached_threads` (since 2.23, and in backports).
    pub counts_threads: bool,
}

impl ArenaShape {
    /// Offset of `bins`.
    pub fn bins(self) -> u64 {
        self.next - BINS_TO_NEXT_BYTES
    }

    /// Offset of `top`.
    pub fn top(self) -> u64 {
        self.bins() - 0x10
    }

    /// Offset of `fastbinsY`, until 2.42.
    pub fn fastbins(self) -> Option<u64> {
        let size = 8 * FASTBINS as u64;
        self.top().checked_sub(size).filter(|offset| *offset >= 8)
    }

    /// Offset of `attached_threads`, after `next` and `next_free`.
    pub fn attached_threads(self) -> Option<u64> {
        self.counts_threads.then_some(self.next + 0x10)
    }

    /// Offset of `system_mem`; `max_system_mem` follows.
    pub fn system_mem(self) -> u64 {
        self.next + 0x10 + if self.counts_threads { 8 } else { 0 }
    }

    /// `sizeof(struct malloc_state)`.
    pub fn size_bytes(self) -> u64 {
        self.system_mem() + 0x10
    }

    /// Whether blocks that are mapped one by one count their header in their size: until 2.42.
    pub fn mapped_size_has_header(self) -> bool {
        self.fastbins().is_some()
    }
}

/// The next multiple of `unit` (a power of two); saturates.
pub fn align_up(address: u64, unit: u64) -> u64 {
    address.checked_add(unit - 1).map_or(!(unit - 1), |sum| sum & !(unit - 1))
}

/// The multiple of `unit` (a power of two) at or before.
pub fn align_down(address: u64, unit: u64) -> u64 {
    address & !(unit - 1)
}
