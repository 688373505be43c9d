//! The heaps of a process by the walkers of its allocators.

use super::{Inspector, objects::Loaded};
use crate::{
    analysis::residency::Claim,
    model::{
        census::{GlibcHeap, MuslHeap, PymallocHeap, Refusal},
        mapping::Mapping,
    },
    threads::ThreadStack,
};

/// What the walkers found.
#[derive(Default)]
pub(super) struct WalkedHeaps {
    pub(super) glibc: Vec<GlibcHeap>,
    pub(super) musl: Vec<MuslHeap>,
    pub(super) pymalloc: Vec<PymallocHeap>,
    /// Where the heaps are.
    pub(super) claims: Vec<Claim>,
    pub(super) refusals: Vec<Refusal>,
    /// How far their sums can be off, at most.
    pub(super) error_bound_bytes: u64,
}

/// Walks every heap that is understood. `stacks` are in nobody's heap.
pub(super) fn walk(
    _inspector: &Inspector,
    _loaded: &Loaded,
    _maps: &[Mapping],
    _stacks: &[ThreadStack],
) -> WalkedHeaps {
    WalkedHeaps::default()
}
