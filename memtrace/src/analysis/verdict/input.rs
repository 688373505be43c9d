//! What a verdict is reached from. Everything but RSS may be missing.

use crate::model::{
    census::Census,
    site::Amount,
    timeline::{RssParts, Timeline},
};

/// Everything that is known of a process's memory over a window, or at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VerdictInput {
    /// Length of the window; 0 for one look, of which `after` is the census.
    pub window_ns: u64,
    /// The kernel's view.
    pub rss: RssChange,
    /// How it went in between.
    pub timeline: Timeline,
    /// A walk of the heap near the start.
    pub before: Option<Census>,
    /// A walk of the heap near the end.
    pub after: Option<Census>,
    /// What the probes saw.
    pub traced: Option<Traced>,
    /// The memory limit of the process's cgroup.
    pub limit_bytes: Option<u64>,
    /// Who pins what is trapped at the end.
    pub pins: Option<Pins>,
}

/// Who pins what is trapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// All that is trapped.
    pub trapped_bytes: u64,
    /// What is pinned by blocks whose site is not known.
    pub unknown_bytes: u64,
    /// By what they pin, the largest first.
    pub sites: Vec<Pin>,
}

/// A site whose blocks pin free memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pin {
    /// As [`TracedSite::name`].
    pub name: String,
    /// Its part of what is trapped.
    pub trapped_bytes: u64,
    /// What RSS drops by without its blocks, after `malloc_trim(0)`.
    pub drop_bytes: u64,
    /// Its chunks in use.
    pub chunk_bytes: u64,
    /// How many those are.
    pub chunks: u64,
}

/// RSS at both ends of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RssChange {
    /// VmRSS at the start.
    pub start_bytes: u64,
    /// VmRSS at the end.
    pub end_bytes: u64,
    /// What it consisted of at the start.
    pub start_parts: Option<RssParts>,
    /// What it consisted of at the end.
    pub end_parts: Option<RssParts>,
}

impl RssChange {
    /// End minus start.
    pub fn grown_bytes(&self) -> i64 {
        difference(self.end_bytes, self.start_bytes)
    }

    /// What it grew by, by what the pages are: anonymous, of files, shared.
    pub fn grown_parts(&self) -> Option<[i64; 3]> {
        let (start, end) = (self.start_parts?, self.end_parts?);
        Some([
            difference(end.anonymous_bytes, start.anonymous_bytes),
            difference(end.file_bytes, start.file_bytes),
            difference(end.shmem_bytes, start.shmem_bytes),
        ])
    }
}

/// `one - other`, at the ends of what a number of bytes can be.
pub(super) fn difference(one: u64, other: u64) -> i64 {
    let difference = i128::from(one) - i128::from(other);
    difference.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// What the probes saw in the window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traced {
    /// All heap allocations.
    pub allocated: Amount,
    /// Those of them that were freed.
    pub freed: Amount,
    /// Heap blocks that were allocated and not freed.
    pub heap_live: Amount,
    /// What the program mapped itself and did not unmap.
    pub mapped_live: Amount,
    /// What the allocator mapped for itself and did not unmap.
    pub allocator_mapped_bytes: u64,
    /// Frees of blocks from before the window; how large those were is not known.
    pub frees_of_older: u64,
    /// By surviving bytes, the largest first.
    pub sites: Vec<TracedSite>,
    /// The part of the time that the probes of a family were not armed: what happened then is
    /// estimated.
    pub unwatched_percent: u8,
    /// No event was lost.
    pub complete: bool,
    /// Frees may be among what was lost.
    pub frees_may_be_lost: bool,
}

/// An allocation site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TracedSite {
    /// For people, e.g. `load_model (model_server.py:88)`.
    pub name: String,
    /// Not freed.
    pub survivors: Amount,
    /// Allocated in the window.
    pub allocated: Amount,
    /// Allocated in the window and freed.
    pub freed: Amount,
    /// It maps memory itself instead of asking the heap.
    pub maps: bool,
    /// How its live bytes went, where that is known.
    pub pattern: SitePattern,
}

/// How a site's live bytes went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SitePattern {
    /// Not known.
    #[default]
    Unknown,
    /// Up, again and again.
    Growing,
    /// Up to a bound, or up and down.
    Bounded,
}
