//! What one arena holds.
//!
//! Residency is attributed pool by pool: a pool's resident bytes are its blocks in use, its header
//! and rest, and what is free. That is exact as long as every block that was ever handed out is
//! resident, since handing it out writes to it; only a pool that is partly in swap is not, and then
//! blocks in use come first.

use super::layout::{ArenaObject, Geometry, POOL_HEADER_BYTES, Pool};
use crate::{
    allocator::present::{NoResidency, Present, resident_bytes},
    model::{
        census::{Extent, HeapResidency, PymallocHeap},
        layout::{PoolLayout, PymallocArenaLayout},
        memory::{PageRun, Residency, TargetMemory},
        site::Amount,
    },
};

/// Adds an arena to a heap; where its pools lie.
pub(super) fn add<M: TargetMemory, R: Residency>(
    heap: &mut PymallocHeap,
    present: &mut Present<'_, M, R>,
    arena: &ArenaObject,
    geometry: Geometry,
) -> Result<PymallocArenaLayout, NoResidency> {
    let extent = arena.extent(geometry);
    let runs = present.runs(extent)?;
    let pools: Vec<Extent> = arena.pools(geometry).collect();
    let carved = pools.partition_point(|pool| pool.start < arena.pool_address);
    let starts: Vec<u64> = pools[..carved].iter().map(|pool| pool.start).collect();
    let headers = present.read_each(&starts);
    let used = Vec::new();
    let mut sum = ArenaSum { heap, runs: &runs, is_free: arena.is_free(), used };
    for (pool, header) in pools.iter().zip(headers) {
        let pool_found = header.and_then(|it| Pool::decode(&it, arena.index, geometry));
        sum.add_pool(*pool, pool_found);
    }
    pools[carved..].iter().for_each(|pool| sum.add_free_pool(*pool));
    sum.add_margins(extent, &pools);
    let pools = std::mem::take(&mut sum.used);
    heap.arenas += 1;
    Ok(PymallocArenaLayout { extent, pool_bytes: geometry.pool_bytes, pools })
}

/// The heap that an arena's parts are added to.
struct ArenaSum<'a> {
    heap: &'a mut PymallocHeap,
    runs: &'a [PageRun],
    /// It has no block in use: the next free releases it.
    is_free: bool,
    /// Pools that are not free.
    used: Vec<PoolLayout>,
}

impl ArenaSum<'_> {
    fn add_pool(&mut self, pool: Extent, found: Option<Pool>) {
        match found {
            Some(Pool::Free) => self.add_free_pool(pool),
            Some(Pool::Used { block_bytes, blocks, capacity }) => {
                self.add_used_pool(pool, block_bytes, blocks, capacity);
                self.used.push(PoolLayout::used(pool.start, block_bytes, blocks, capacity));
            }
            // In swap, or changed while it was read.
            None => {
                self.heap.resident.unknown_bytes += resident_bytes(self.runs, pool);
                self.used.push(PoolLayout { start: pool.start, ..PoolLayout::default() });
            }
        }
    }

    fn add_free_pool(&mut self, pool: Extent) {
        let resident = resident_bytes(self.runs, pool);
        self.heap.free_pools_bytes += pool.end - pool.start;
        self.heap.free_pools_resident_bytes += resident;
        let kind = match self.is_free {
            true => &mut self.heap.resident.returnable_bytes,
            false => &mut self.heap.resident.trapped_bytes,
        };
        *kind += resident;
    }

    fn add_used_pool(&mut self, pool: Extent, block_bytes: u64, blocks: u64, capacity: u64) {
        let free = capacity.saturating_sub(blocks);
        let rest = (pool.end - pool.start) - POOL_HEADER_BYTES - capacity * block_bytes;
        self.heap.used_pools += 1;
        self.heap.in_use += Amount::new(blocks * block_bytes, blocks);
        self.heap.free_blocks += Amount::new(free * block_bytes, free);
        self.heap.overhead_bytes += POOL_HEADER_BYTES + rest;
        let resident = resident_bytes(self.runs, pool);
        let tail = Extent { start: pool.end - rest, end: pool.end };
        let metadata = POOL_HEADER_BYTES + resident_bytes(self.runs, tail);
        self.heap.resident += split(resident, blocks * block_bytes, metadata);
    }

    /// An arena that does not start at a pool's boundary has a part of a pool at both ends.
    fn add_margins(&mut self, extent: Extent, pools: &[Extent]) {
        let (Some(first), Some(last)) = (pools.first(), pools.last()) else { return };
        let margins = [
            Extent { start: extent.start, end: first.start },
            Extent { start: last.end.min(extent.end), end: extent.end },
        ];
        for margin in margins {
            self.heap.overhead_bytes += margin.end - margin.start;
            self.heap.resident.metadata_bytes += resident_bytes(self.runs, margin);
        }
    }
}

/// A used pool's resident bytes by what they are: in use first.
fn split(resident: u64, in_use: u64, metadata: u64) -> HeapResidency {
    let in_use_bytes = in_use.min(resident);
    let metadata_bytes = metadata.min(resident - in_use_bytes);
    let trapped_bytes = resident - in_use_bytes - metadata_bytes;
    HeapResidency { in_use_bytes, metadata_bytes, trapped_bytes, ..HeapResidency::default() }
}
