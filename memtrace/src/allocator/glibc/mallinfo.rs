//! What `mallinfo2()` would say, from a walk. Source: `int_mallinfo` in malloc/malloc.c.

use crate::model::{census::GlibcHeap, site::Amount};

/// `struct mallinfo2`, without the fields that are always 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MallInfo {
    /// Bytes of all arenas.
    pub arena: u64,
    /// Free chunks, a `top` for each arena included; without fastbins.
    pub ordblks: u64,
    /// Chunks in fastbins.
    pub smblks: u64,
    /// Blocks that were mapped one by one.
    pub hblks: u64,
    /// Their bytes.
    pub hblkhd: u64,
    /// Bytes in fastbins.
    pub fsmblks: u64,
    /// All that is not free: tcaches, headers and gaps are in it, too.
    pub uordblks: u64,
    /// Bytes in bins, fastbins and `top`.
    pub fordblks: u64,
    /// The main arena's `top`.
    pub keepcost: u64,
}

impl MallInfo {
    /// Of a heap.
    pub fn of(heap: &GlibcHeap) -> Self {
        let arena = heap.arenas.iter().map(|arena| arena.system_bytes).sum();
        let top: u64 = heap.arenas.iter().map(|arena| arena.top_bytes).sum();
        let (mut free, mut fast) = (Amount::default(), Amount::default());
        for arena in &heap.arenas {
            free += arena.free;
            fast += arena.fastbins;
        }
        let fordblks = free.bytes + fast.bytes + top;
        Self {
            arena,
            ordblks: free.count + heap.arenas.len() as u64,
            smblks: fast.count,
            hblks: heap.mapped.count,
            hblkhd: heap.mapped.bytes,
            fsmblks: fast.bytes,
            uordblks: arena.saturating_sub(fordblks),
            fordblks,
            keepcost: heap.arenas.first().map_or(0, |main| main.top_bytes),
        }
    }
}
