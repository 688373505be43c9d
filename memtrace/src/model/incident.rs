//! Why a capture was taken when nobody was there: the condition that fired, or the kill.

use serde::{Deserialize, Serialize};

/// See the module. Nothing of a capture that somebody asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Incident {
    /// The condition that fired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fired: Option<Fired>,
    /// The kernel killed the target for want of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_kill: Option<OomKill>,
}

impl Incident {
    /// Nothing happened.
    pub fn is_nothing(&self) -> bool {
        self.fired.is_none() && self.oom_kill.is_none()
    }
}

/// A condition that fired.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fired {
    /// As it can be typed, e.g. `rss>80% for 30s`.
    pub condition: String,
    /// RFC 3339, UTC.
    pub at: String,
    /// What was watched: the path of a control group, or a command.
    pub watched: String,
    /// Its memory then, without what can be dropped.
    pub rss_bytes: u64,
    /// What there was room for.
    pub limit_bytes: Option<u64>,
    /// How fast it grew, in a second.
    pub bytes_per_second: Option<f64>,
    /// When the limit would have been reached at that rate.
    pub time_to_limit_ns: Option<u64>,
    /// From then until the trace had begun: a look at the heap, and arming. `None` where it had begun
    /// before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub armed_after_ns: Option<u64>,
}

/// A kill for want of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OomKill {
    /// Who was killed.
    pub pid: u32,
    /// The kernel's 15-byte name.
    pub command: String,
    /// `CLOCK_MONOTONIC` when the kernel chose it, or when that was noticed.
    pub time_ns: u64,
    /// Its own memory then; approximate by some dozen pages a CPU. `None` where the kernel did not
    /// tell: the kill was noticed by the control group's counter.
    pub anonymous_bytes: Option<u64>,
    /// Of files.
    pub file_bytes: Option<u64>,
    /// Shared.
    pub shmem_bytes: Option<u64>,
    /// As it was set for the process: -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// The control group; empty where it is not known.
    pub cgroup: String,
    /// The lowest limit of its control groups.
    pub limit_bytes: Option<u64>,
    /// The highest memory ever charged to its group: the kernel's own mark, and no sample.
    pub peak_bytes: Option<u64>,
}

impl OomKill {
    /// What it had that cannot be dropped: at least this was charged to its group when it was killed.
    /// 0 where the kernel did not tell.
    pub fn undroppable_bytes(&self) -> u64 {
        self.anonymous_bytes.unwrap_or(0).saturating_add(self.shmem_bytes.unwrap_or(0))
    }
}
