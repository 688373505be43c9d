//! The heap at the end of the window, as it was walked: also what was allocated before it.

use serde::Serialize;

use crate::model::{
    census::{GlibcHeap, MuslHeap, OpaqueAllocator, PymallocHeap, Refusal},
    site::Amount,
    trace::{SurvivorCheck, Walks},
};

/// The heap at the end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeapReport {
    /// When it was walked, since the window's start.
    pub at_ns: u64,
    /// How long that took.
    pub duration_ns: u64,
    /// Walks in the window, this one included.
    pub walks: u64,
    /// What all of them took of a CPU.
    pub walks_cpu_ns: u64,
    /// In use by the program, in chunks: headers included, pymalloc apart.
    pub in_use_bytes: u64,
    /// Resident bytes of the heaps.
    pub heap_resident_bytes: u64,
    /// Resident, free, and on pages with blocks in use.
    pub trapped_bytes: u64,
    /// What `malloc_trim(0)` would give back; `None` without a glibc heap.
    pub trim_bytes: Option<u64>,
    /// Of `in_use_bytes`: blocks that were allocated in the window.
    pub traced_in_use: Option<Amount>,
    /// The rest of it: allocated before the window, or too late to be looked for.
    pub allocated_before_bytes: Option<u64>,
    /// What became of survivors.
    pub survivor_check: Option<SurvivorCheck>,
    /// Every glibc that has a heap.
    pub glibc: Vec<GlibcHeap>,
    /// Every CPython with small objects.
    pub pymalloc: Vec<PymallocHeap>,
    /// Every musl with a heap.
    pub musl: Vec<MuslHeap>,
    /// Allocators that cannot be walked.
    pub opaque: Vec<OpaqueAllocator>,
    /// Parts that could not be looked into.
    pub refusals: Vec<Refusal>,
    /// How far any sum can be off, at most.
    pub error_bound_bytes: u64,
}

impl HeapReport {
    /// From the last walk.
    pub(super) fn of(walks: &Walks) -> Option<Self> {
        let census = walks.after.clone()?;
        let in_use_bytes = census.in_use_bytes();
        let trim: u64 = census.glibc.iter().map(|heap| heap.trim_bytes).sum();
        let older = |traced: Amount| in_use_bytes.saturating_sub(traced.bytes);
        Some(Self {
            at_ns: walks.at_ns,
            duration_ns: census.duration_ns,
            walks: walks.count,
            walks_cpu_ns: walks.cpu_ns,
            in_use_bytes,
            heap_resident_bytes: census.heap_resident_bytes(),
            trapped_bytes: census.trapped_bytes(),
            trim_bytes: (!census.glibc.is_empty()).then_some(trim),
            traced_in_use: walks.traced_in_use,
            allocated_before_bytes: walks.traced_in_use.map(older),
            survivor_check: walks.check,
            glibc: census.glibc,
            pymalloc: census.pymalloc,
            musl: census.musl,
            opaque: census.opaque,
            refusals: census.refusals,
            error_bound_bytes: census.error_bound_bytes,
        })
    }
}
