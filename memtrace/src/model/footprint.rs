//! How the growth of a process's memory was followed, and what its resident memory came to.

use serde::{Deserialize, Serialize};

use super::timeline::RssParts;

/// By what system calls are to be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GrowthBy {
    /// At functions of the kernel; where that is not possible in the program, and else at tracepoints.
    #[default]
    Auto,
    /// In the kernel: at its functions, or at tracepoints.
    Kernel,
    /// In the program: where its code makes them.
    Program,
}

/// How it was followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GrowthProbes {
    /// A page is a sample for every so many bytes that come into use, on average.
    pub interval_bytes: u64,
    /// At the kernel's own functions; else at tracepoints, which cost every process a little.
    pub at_functions: bool,
    /// System calls at the process's own instructions that make them, and only pages there.
    pub in_program: bool,
}

/// Resident memory as the kernel told of it whenever it changed (tracepoint `rss_stat`). Since Linux
/// 6.2 a part of it waits on each CPU until it is worth adding: up to 32 pages a CPU and kind are
/// missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RssChanges {
    /// How often it told.
    pub updates: u64,
    /// The most that was resident in the window.
    pub peak_bytes: u64,
    /// When that was, since the window's start.
    pub peak_at_ns: u64,
    /// What it consisted of then.
    pub at_peak: RssParts,
    /// What is resident at the end.
    pub at_end: RssParts,
}
