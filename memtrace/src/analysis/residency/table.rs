//! From counted pages and walked heaps to the table.

use std::collections::BTreeMap;

use super::PageCount;
use crate::model::census::{
    GlibcHeap, HeapResidency, MuslHeap, PymallocHeap, RssKind, RssRow, RssTable,
};

/// The heaps that were walked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heaps<'a> {
    /// Every glibc.
    pub glibc: &'a [GlibcHeap],
    /// Every musl.
    pub musl: &'a [MuslHeap],
    /// Every CPython.
    pub pymalloc: &'a [PymallocHeap],
}

/// The table. What the walkers found and what was counted afterwards can differ when the process
/// goes on meanwhile: the difference is the row [`RssKind::Remainder`].
pub fn table(count: &PageCount, heaps: Heaps<'_>) -> RssTable {
    let mut bytes: BTreeMap<RssKind, i64> =
        count.kinds.iter().map(|(kind, bytes)| (*kind, *bytes as i64)).collect();
    for (kind, walked) in walked(heaps) {
        *bytes.entry(kind).or_default() += walked as i64;
    }
    let sum: i64 = bytes.values().sum();
    bytes.insert(RssKind::Remainder, count.resident_bytes as i64 - sum);
    let rows = bytes.into_iter().filter(|(_, bytes)| *bytes != 0);
    RssTable {
        rss_bytes: count.resident_bytes,
        rows: rows.map(|(kind, resident_bytes)| RssRow { kind, resident_bytes }).collect(),
        huge_bytes: count.huge_bytes,
        swap_bytes: count.swapped_bytes,
    }
}

fn walked(heaps: Heaps<'_>) -> Vec<(RssKind, u64)> {
    let mut rows = Vec::new();
    for heap in heaps.glibc {
        rows.extend(program_heap(heap.resident()));
        rows.push((RssKind::MappedBlocks, heap.mapped_resident_bytes));
    }
    rows.extend(heaps.musl.iter().flat_map(|heap| program_heap(heap.resident)));
    rows.extend(heaps.pymalloc.iter().flat_map(python_heap));
    rows
}

fn program_heap(resident: HeapResidency) -> [(RssKind, u64); 7] {
    [
        (RssKind::InUse, resident.in_use_bytes),
        (RssKind::FreeReturnable, resident.returnable_bytes),
        (RssKind::FreeTrapped, resident.trapped_bytes),
        (RssKind::AllocatorCache, resident.cached_bytes),
        (RssKind::Top, resident.top_bytes),
        (RssKind::AllocatorMetadata, resident.metadata_bytes),
        (RssKind::HeapUnknown, resident.unknown_bytes),
    ]
}

/// pymalloc's rows have names of their own; headers are in use as long as their pools are.
fn python_heap(heap: &PymallocHeap) -> [(RssKind, u64); 4] {
    let HeapResidency { in_use_bytes, metadata_bytes, unknown_bytes, .. } = heap.resident;
    let free_pools = heap.free_pools_resident_bytes;
    let in_use = in_use_bytes + metadata_bytes;
    let rest = heap.resident.total_bytes() - in_use - unknown_bytes;
    [
        (RssKind::PymallocInUse, in_use),
        (RssKind::PymallocFreeInPools, rest.saturating_sub(free_pools)),
        (RssKind::PymallocFreePools, free_pools),
        (RssKind::HeapUnknown, unknown_bytes),
    ]
}
