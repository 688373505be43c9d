//! What of arenas is free and in memory, and how it is split.

use crate::model::{
    census::Extent,
    layout::{HeapLayout, PoolLayout, PymallocArenaLayout},
};

/// `POOL_OVERHEAD`: `sizeof(struct pool_header)` of Objects/obmalloc.c.
const POOL_HEADER_BYTES: u64 = 48;

/// Parts of a number that are as equal as can be and add up to it; the first ones are larger.
pub fn even(bytes: u64, parts: usize) -> impl DoubleEndedIterator<Item = u64> + ExactSizeIterator {
    let many = parts.max(1) as u64;
    (0..parts).map(move |part| bytes / many + u64::from((part as u64) < bytes % many))
}

/// Which pages are there.
#[derive(Clone, Copy)]
pub struct Residents<'l>(&'l HeapLayout);

impl<'l> Residents<'l> {
    /// Those of a layout.
    pub fn of(layout: &'l HeapLayout) -> Self {
        Self(layout)
    }

    /// How much of a range is in memory.
    pub fn bytes(self, extent: Extent) -> u64 {
        self.0.resident_bytes(extent)
    }

    /// The resident bytes of an arena's pools that are free, or were never made.
    pub fn free_pools(self, arena: &PymallocArenaLayout) -> u64 {
        let pool = |pool: &PoolLayout| self.bytes(extent_of(arena, pool));
        let used = arena.pools.iter().map(pool).fold(0, u64::saturating_add);
        self.bytes(pools_of(arena)).saturating_sub(used)
    }

    /// The resident bytes of a pool in use that no block has: blocks in use are taken to be
    /// resident, as they have been written to.
    pub fn trapped_in(self, arena: &PymallocArenaLayout, pool: &PoolLayout) -> u64 {
        if !pool.is_known() {
            return 0;
        }
        let extent = extent_of(arena, pool);
        let block_bytes = u64::from(pool.block_bytes);
        let blocks_end = POOL_HEADER_BYTES + u64::from(pool.capacity) * block_bytes;
        let tail = Extent { start: pool.start.saturating_add(blocks_end), end: extent.end };
        let in_use = u64::from(pool.in_use) * block_bytes;
        let own = in_use.saturating_add(POOL_HEADER_BYTES).saturating_add(self.bytes(tail));
        self.bytes(extent).saturating_sub(own)
    }
}

fn extent_of(arena: &PymallocArenaLayout, pool: &PoolLayout) -> Extent {
    Extent { start: pool.start, end: pool.start.saturating_add(arena.pool_bytes) }
}

/// An arena that does not start at a pool's boundary has no pools at its ends.
fn pools_of(arena: &PymallocArenaLayout) -> Extent {
    let pool_bytes = arena.pool_bytes.max(1);
    let start = arena.extent.start.checked_next_multiple_of(pool_bytes).unwrap_or(u64::MAX);
    let pools = arena.extent.end.saturating_sub(start) / pool_bytes;
    Extent { start, end: start.saturating_add(pools * pool_bytes) }
}
