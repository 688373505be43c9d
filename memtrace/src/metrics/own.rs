//! What memtrace itself costs.

use crate::sys::{clock, procfs::ProcFs};

/// memtrace's own cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct OwnCost {
    /// CPU time of all threads.
    pub(super) cpu_ns: Option<u64>,
    /// Resident memory.
    pub(super) rss_bytes: Option<u64>,
}

impl OwnCost {
    /// Asks the kernel.
    pub(super) fn now() -> Self {
        let pid = std::process::id();
        Self {
            cpu_ns: clock::process_cpu_ns(pid).ok(),
            rss_bytes: ProcFs::new("/proc").rss_bytes(pid).ok(),
        }
    }
}
