//! What is decided before the object is loaded.

use std::num::NonZeroU32;

use memtrace_common::{config::StackMode, remembered, sample::Interval};

use crate::model::footprint::GrowthBy;

/// Smallest and largest ring that makes sense; the kernel wants a power of two of pages.
pub const RING_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;

/// Load-time options.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// The target's thread group id.
    pub pid: NonZeroU32,
    /// Size of the ring buffer; see [`RING_BYTES`].
    pub ring_bytes: u32,
    /// How stacks are walked.
    pub stacks: StackMode,
    /// The kernel has `bpf_loop` (5.17); else the walk is unrolled, which takes long to verify.
    pub bpf_loop: bool,
    /// Words for unwind rows, and for their page index.
    pub table_words: TableWords,
    /// Forward the BPF side's debug messages to the `log` crate.
    pub debug_log: bool,
    /// Where the kernel's `task_struct` has the thread group id, if children are wanted by name; 0 if
    /// not.
    pub task_tgid: u64,
    /// Use perf-event links even where multi-uprobe links work; for tests of the former.
    pub perf_event_links: bool,
    /// How densely allocations are looked at.
    pub sampling: Sampling,
    /// There may be probes in the target.
    pub uprobes: bool,
    /// Growth is followed so, and no calls of allocators.
    pub growth: Option<GrowthBy>,
    /// How much memory of the kernel's it may take.
    pub room: Room,
}

/// How much memory of the kernel's a trace may take: it is charged to memtrace's own control group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// As much as makes it fast: all programs are verified at once.
    #[default]
    Ample,
    /// As little as will do, where memory runs short: programs are verified one after another, and
    /// fewer stacks are told apart.
    Scarce,
}

impl Room {
    /// Most stacks that are told apart; they take some 80 bytes each.
    pub(super) fn stacks(self) -> u32 {
        match self {
            Self::Ample => 1 << 18,
            Self::Scarce => 1 << 15,
        }
    }
}

/// Which allocations are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampling {
    /// Each, for as long as the window is open.
    #[default]
    Exact,
    /// Those that are drawn.
    Variable {
        /// How densely at first; see [`Kernel::set_interval`](super::Kernel::set_interval).
        interval: Interval,
        /// Most live blocks that are expected to be followed at once: 16 bytes each in the kernel,
        /// at most 16 MiB.
        blocks: usize,
    },
}

impl Sampling {
    pub(super) fn interval(self) -> Interval {
        match self {
            Self::Exact => Interval::EXACT,
            Self::Variable { interval, .. } => interval,
        }
    }

    /// The mean distance of sample points at first; `None` when each allocation is looked at.
    pub fn mean_bytes(self) -> Option<u64> {
        let interval = Some(self.interval()).filter(|interval| !interval.is_exact());
        interval.map(Interval::mean_bytes)
    }

    /// Of the table of followed blocks: a power of two, 0 when none is needed. Twice as many places
    /// as blocks, because buckets fill unevenly.
    pub(super) fn buckets(self) -> u32 {
        const MOST: usize = 1 << 18;
        match self {
            Self::Exact => 0,
            Self::Variable { blocks, .. } => {
                blocks.div_ceil(remembered::PLACES / 2).clamp(1 << 10, MOST).next_power_of_two()
                    as u32
            }
        }
    }
}

/// How large the maps of the unwind tables are; rounded up to [`CHUNK_WORDS`](memtrace_common::unwind::table::CHUNK_WORDS).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableWords {
    /// Rows.
    pub rows: usize,
    /// Index entries.
    pub pages: usize,
}
