//! How memory developed: samples over a window.

use serde::{Deserialize, Serialize};

/// One sample. Cheap sources are in every one, a walk of the heap only in some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimelineSample {
    /// Since the window's start.
    pub at_ns: u64,
    /// VmRSS.
    pub rss_bytes: u64,
    /// The highest VmRSS since the sample before, where the kernel's mark tells: `VmHWM` rose since
    /// then.
    pub rss_peak_bytes: Option<u64>,
    /// Live bytes that were traced since the attach; `None` without probes.
    pub live_bytes: Option<u64>,
    /// From a walk: bytes in use, as the allocators count them.
    pub in_use_bytes: Option<u64>,
    /// From a walk: resident bytes of the heaps.
    pub heap_resident_bytes: Option<u64>,
    /// From a walk: free but trapped.
    pub trapped_bytes: Option<u64>,
}

/// Where a peak comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeakSource {
    /// VmHWM rose in the window, so that it is the window's exact peak.
    HighWaterMark,
    /// VmHWM was reset at the start of the window (`/proc/PID/clear_refs`): exact.
    ResetHighWaterMark,
    /// The largest sample: there may have been higher ones between samples. A later version's source
    /// that this one does not know is taken for no better.
    #[serde(other)]
    Samples,
}

/// The samples of a window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeline {
    /// Ascending by time.
    pub samples: Vec<TimelineSample>,
    /// The highest RSS of the window.
    pub rss_peak_bytes: u64,
    /// Where that comes from.
    pub rss_peak_source: Option<PeakSource>,
    /// The cgroup's own peak (`memory.peak`), where there is one: of all its processes, and since
    /// its creation.
    pub cgroup_peak_bytes: Option<u64>,
}

/// VmRSS by what the pages are, as `/proc/PID/status` tells since Linux 4.5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RssParts {
    /// RssAnon: private memory that is not from a file.
    pub anonymous_bytes: u64,
    /// RssFile: pages of files.
    pub file_bytes: u64,
    /// RssShmem: shared memory, tmpfs files, memfd.
    pub shmem_bytes: u64,
}
