//! pymalloc's structs: Objects/obmalloc.c up to 3.11, Include/internal/pycore_obmalloc.h from 3.12
//! on. They are the same from 3.6 to 3.14; the sizes of arenas and pools are not.

use crate::model::census::Extent;

/// `sizeof(struct arena_object)`.
pub(super) const ARENA_OBJECT_BYTES: usize = 48;

/// `POOL_OVERHEAD`: `sizeof(struct pool_header)`.
pub(super) const POOL_HEADER_BYTES: u64 = 48;

/// `SMALL_REQUEST_THRESHOLD`.
const MAX_BLOCK_BYTES: u64 = 512;

/// Sizes that depend on the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) arena_bytes: u64,
    pub(super) pool_bytes: u64,
}

impl Geometry {
    /// Up to 3.9, and later without `WITH_PYMALLOC_RADIX_TREE`; then 3.10 and later with it.
    pub(super) const ALL: [Self; 2] = [
        Self { arena_bytes: 256 << 10, pool_bytes: 4 << 10 },
        Self { arena_bytes: 1 << 20, pool_bytes: 16 << 10 },
    ];
}

/// A slot of the `arenas` array that has an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ArenaObject {
    /// Its number, which its pools state, too.
    pub(super) index: u32,
    pub(super) address: u64,
    /// Where the next pool will be carved.
    pub(super) pool_address: u64,
    pub(super) free_pools: u32,
    pub(super) total_pools: u32,
}

impl ArenaObject {
    pub(super) fn extent(&self, geometry: Geometry) -> Extent {
        let end = self.address.saturating_add(geometry.arena_bytes);
        Extent { start: self.address, end }
    }

    /// Where pools start, those that are not carved yet included.
    pub(super) fn pools(&self, geometry: Geometry) -> impl Iterator<Item = Extent> + use<> {
        let pool_bytes = geometry.pool_bytes;
        let first = self.address.next_multiple_of(pool_bytes);
        (0..u64::from(self.total_pools))
            .map(move |number| first + number * pool_bytes)
            .map(move |start| Extent { start, end: start + pool_bytes })
    }

    pub(super) fn is_free(&self) -> bool {
        self.free_pools == self.total_pools
    }
}

/// A slot of the `arenas` array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Arena(ArenaObject),
    /// Free, with the address of the next free slot.
    Free {
        next: u64,
    },
}

impl Slot {
    /// Decodes a slot; `None` when it cannot be one.
    pub(super) fn decode(index: u32, bytes: &[u8; ARENA_OBJECT_BYTES]) -> Option<Self> {
        let (address, pool_address) = (word(bytes, 0), word(bytes, 8));
        let (free_pools, total_pools) = (half(bytes, 16), half(bytes, 20));
        if address == 0 {
            return Some(Self::Free { next: word(bytes, 32) });
        }
        // One pool less when the arena does not start at a pool's boundary.
        let is_sound = address % 16 == 0
            && address < 1 << 56
            && matches!(total_pools, 63 | 64)
            && free_pools <= total_pools
            && pool_address >= address
            && Geometry::ALL.iter().any(|it| pool_address <= address + it.arena_bytes);
        is_sound.then_some(Self::Arena(ArenaObject {
            index,
            address,
            pool_address,
            free_pools,
            total_pools,
        }))
    }
}

/// What a pool's header says, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pool {
    Free,
    Used { block_bytes: u64, blocks: u64, capacity: u64 },
}

impl Pool {
    /// Decodes the header of a pool in the arena of this number; `None` when it cannot be one.
    pub(super) fn decode(
        bytes: &[u8; POOL_HEADER_BYTES as usize],
        index: u32,
        geometry: Geometry,
    ) -> Option<Self> {
        let (blocks, size_index) = (u64::from(half(bytes, 0)), u64::from(half(bytes, 36)));
        let (next_offset, max_offset) = (half(bytes, 40), u64::from(half(bytes, 44)));
        if half(bytes, 32) != index {
            return None;
        }
        if blocks == 0 {
            return Some(Self::Free);
        }
        let block_bytes = geometry.pool_bytes.checked_sub(max_offset)?;
        // `ALIGNMENT` is 8 up to 3.6, and 16 later.
        let is_class = [8, 16].iter().any(|align| (size_index + 1) * align == block_bytes);
        if !is_class || block_bytes > MAX_BLOCK_BYTES {
            return None;
        }
        let capacity = (geometry.pool_bytes - POOL_HEADER_BYTES) / block_bytes;
        let carved = u64::from(next_offset).checked_sub(POOL_HEADER_BYTES)?;
        let is_sound = blocks <= capacity
            && carved % block_bytes == 0
            && blocks <= carved / block_bytes
            && u64::from(next_offset) <= geometry.pool_bytes;
        is_sound.then_some(Self::Used { block_bytes, blocks, capacity })
    }
}

fn word(bytes: &[u8; 48], at: usize) -> u64 {
    u64::from(half(bytes, at)) | u64::from(half(bytes, at + 4)) << 32
}

fn half(bytes: &[u8; 48], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
