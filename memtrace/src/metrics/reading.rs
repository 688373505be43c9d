//! What can be said of a watched target.

use std::collections::BTreeMap;

use crate::{inspection::Inspection, model::census::RssKind};

/// A size that goes up and down, and has a maximum since the last scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantity {
    /// VmRSS; of several processes the sum.
    Rss,
    /// What the control group is charged for.
    Cgroup,
    /// Swapped out.
    Swap,
    /// Allocated since the attach, and not freed.
    Live,
    /// In use by the program in the heaps that were walked.
    InUse,
    /// In use by objects of Python.
    Pymalloc,
    /// Free, resident, and not to be given back.
    Trapped,
    /// What `malloc_trim(0)` would give back.
    Returnable,
    /// In caches of the allocator.
    Cached,
}

impl Quantity {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Rss,
        Self::Cgroup,
        Self::Swap,
        Self::Live,
        Self::InUse,
        Self::Pymalloc,
        Self::Trapped,
        Self::Returnable,
        Self::Cached,
    ];

    /// The middle of its metric's name, `memtrace_target_NAME_bytes`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rss => "rss",
            Self::Cgroup => "cgroup_memory",
            Self::Swap => "swap",
            Self::Live => "heap_live",
            Self::InUse => "heap_in_use",
            Self::Pymalloc => "pymalloc_in_use",
            Self::Trapped => "heap_trapped",
            Self::Returnable => "heap_returnable",
            Self::Cached => "heap_cached",
        }
    }

    /// The metric's help.
    pub fn help(self) -> &'static str {
        match self {
            Self::Rss => "Resident memory of the target.",
            Self::Cgroup => "Memory that the target's control group is charged for.",
            Self::Swap => "Memory of the target that is swapped out.",
            Self::Live => "Bytes allocated while memtrace traced, and not freed.",
            Self::InUse => "Bytes in use by the program in the heaps of malloc.",
            Self::Pymalloc => "Bytes in use in CPython's own allocator for small objects.",
            Self::Trapped => {
                "Resident bytes that are free and cannot be given back: fragmentation."
            }
            Self::Returnable => "Resident bytes that malloc_trim(0) would give back.",
            Self::Cached => "Resident bytes that are free in caches of the allocator.",
        }
    }
}

/// Sizes at one moment, in bytes; what is not known is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading([Option<u64>; Quantity::ALL.len()]);

impl Reading {
    /// With this size, too.
    pub fn with(mut self, quantity: Quantity, bytes: impl Into<Option<u64>>) -> Self {
        self.set(quantity, bytes);
        self
    }

    /// Sets a size, or forgets it.
    pub fn set(&mut self, quantity: Quantity, bytes: impl Into<Option<u64>>) {
        self.0[quantity as usize] = bytes.into();
    }

    /// A size, where it is known.
    pub fn get(&self, quantity: Quantity) -> Option<u64> {
        self.0[quantity as usize]
    }

    /// What a look at a process tells. What heaps hold is not known when none could be walked.
    pub fn of(inspection: &Inspection) -> Self {
        let Inspection { census, summary, kernel, .. } = inspection;
        let is_walked = !census.glibc.is_empty() || !census.musl.is_empty();
        let walked = |bytes| is_walked.then_some(bytes);
        let cached = u64::try_from(census.rss.bytes(RssKind::AllocatorCache)).unwrap_or(0);
        let python = census.pymalloc.iter().map(|heap| heap.in_use.bytes).sum();
        Self::default()
            .with(Quantity::Rss, kernel.rss_bytes)
            .with(Quantity::Swap, census.rss.swap_bytes)
            .with(Quantity::InUse, walked(summary.in_use_bytes))
            .with(Quantity::Pymalloc, (!census.pymalloc.is_empty()).then_some(python))
            .with(Quantity::Trapped, walked(summary.trapped_bytes))
            .with(Quantity::Returnable, summary.trim_bytes)
            .with(Quantity::Cached, walked(cached))
    }
}

/// What a target is: the labels of `memtrace_target_info`. They change when it is restarted, which
/// is why no other metric has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Its pid; `None` where many are watched.
    pub pid: Option<u32>,
    /// Its name.
    pub command: String,
    /// Its control group.
    pub cgroup: String,
    /// Its container's id, where it is in one.
    pub container: String,
    /// Its pod's uid, where it is in one.
    pub pod_uid: String,
}

/// What memtrace did since it began, where it takes captures by itself: only goes up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Conditions that were met.
    pub firings: u64,
    /// Captures that were written.
    pub captures_written: u64,
    /// Captures that could not be taken or written.
    pub captures_failed: u64,
    /// Captures that were removed to make room.
    pub captures_removed: u64,
    /// Processes of all targets, also of those that are gone, that the kernel killed for want of
    /// memory.
    pub oom_kills: u64,
    /// What traces lost, by [`crate::model::loss::Loss::name`].
    pub losses: BTreeMap<String, u64>,
}

/// All that is said of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// What it is.
    pub about: About,
    /// Its sizes now.
    pub now: Reading,
    /// The lowest limit of its control groups.
    pub limit_bytes: Option<u64>,
    /// The most that was ever resident of it (VmHWM).
    pub peak_rss_bytes: Option<u64>,
    /// The most that its control group was ever charged for.
    pub peak_cgroup_bytes: Option<u64>,
    /// Its processes, where many are watched.
    pub processes: Option<u64>,
    /// When the limit will be reached if it goes on growing as it does.
    pub time_to_limit_ns: Option<u64>,
    /// When its memory was looked at for the last time, in milliseconds since 1970.
    pub looked_at_unix_ms: Option<u64>,
    /// Looks at its memory so far.
    pub looks: u64,
    /// Processes of it that the kernel has killed for want of memory; `None` where nobody counts.
    pub oom_kills: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspection::sample;

    #[test]
    fn a_look_is_read_as_its_summary_says() {
        let look = sample::fragmented();
        let reading = Reading::of(&look);
        assert_eq!(reading.get(Quantity::Rss), Some(look.kernel.rss_bytes));
        assert_eq!(reading.get(Quantity::InUse), Some(look.summary.in_use_bytes));
        assert_eq!(reading.get(Quantity::Trapped), Some(look.summary.trapped_bytes));
        assert_eq!(reading.get(Quantity::Live), None);
    }

    #[test]
    fn heaps_that_were_not_walked_are_not_empty_heaps() {
        let mut look = sample::fragmented();
        (look.census.glibc, look.census.musl) = (Vec::new(), Vec::new());
        let reading = Reading::of(&look);
        assert_eq!(reading.get(Quantity::InUse), None);
        assert_eq!(reading.get(Quantity::Trapped), None);
        assert!(reading.get(Quantity::Rss).is_some());
    }

    #[test]
    fn every_quantity_has_a_place_of_its_own() {
        for (at, quantity) in Quantity::ALL.into_iter().enumerate() {
            assert_eq!(quantity as usize, at, "{}", quantity.name());
        }
    }
}
