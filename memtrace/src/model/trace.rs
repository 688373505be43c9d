//! What was traced, when, and what of it was seen: the facts of one window, as they are kept in a
//! capture and shown in a report.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{
    census::Census,
    site::{Amount, SiteStats},
    timeline::RssParts,
};

/// Who was traced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Target {
    /// Process id, as the caller gave it.
    pub pid: u32,
    /// The kernel's 15-byte name.
    pub command: String,
    /// Arguments, as in `/proc/PID/cmdline`.
    pub command_line: Vec<String>,
    /// The executable's path in the target's own mount namespace.
    pub executable: String,
    /// The probed objects, e.g. glibc 2.36; the first is the one that serves `malloc`.
    pub allocators: Vec<AllocatorReport>,
    /// Threads at the start.
    pub threads: u64,
    /// Its Python, if it has one.
    pub python: Option<PythonReport>,
}

/// A CPython in the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PythonReport {
    /// `3.11.7`, where it is known.
    pub version: Option<String>,
    /// The object that holds it: the executable, or libpython.
    pub path: String,
    /// Why its frames are missing; `None` when they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A probed allocator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AllocatorReport {
    /// `glibc`, `musl`, `jemalloc`, ...; `unknown` when only its symbols are known.
    pub name: String,
    /// Its version, where the object says it.
    pub version: Option<String>,
    /// What its functions' names begin with: `_rjem_` of one that a Rust program brings along.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub symbol_prefix: String,
    /// From when on it is traced, after the window was opened, in nanoseconds: it was loaded in the
    /// window. `None` when from the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub armed_after_ns: Option<u64>,
    /// Path in the target's mount namespace.
    pub path: String,
    /// Build ID in hex.
    pub build_id: Option<String>,
    /// Armed probe sites.
    pub probes: Vec<ProbeReport>,
}

/// An armed probe site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbeReport {
    /// The function.
    pub function: Cow<'static, str>,
    /// Bytes from the function's first instruction to the probe.
    pub offset: u64,
    /// The kernel emulates the instruction there (one trap a hit), or single-steps it (two).
    pub emulated: bool,
}

/// The window that was traced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Window {
    /// RFC 3339, UTC.
    pub started_at: String,
    /// From the arming of the probes to the end.
    pub duration_ns: u64,
    /// Why it ended.
    pub ended_by: EndReason,
    /// Blocks younger than this at the end are not counted as survivors.
    pub min_age_ns: u64,
    /// An allocation was looked at for every so many bytes allocated, on average, where that was
    /// asked for; an interval that memtrace chooses changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_bytes: Option<u64>,
    /// How long it took until all probes were armed, from the start of memtrace.
    pub attach_ns: u64,
    /// What took how long of it, in order.
    pub attach_steps: Vec<AttachStep>,
    /// How long the removal of the probes took.
    pub detach_ns: u64,
}

/// A part of the attach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttachStep {
    /// What was done.
    pub step: Cow<'static, str>,
    /// How long it took.
    pub duration_ns: u64,
}

/// Why a window ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// `--duration` was over.
    Duration,
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM or SIGHUP.
    Terminated,
    /// The target ended.
    TargetExited,
    /// What a watch looked out for has happened.
    Condition,
    /// It is not known: the capture ends before the window did.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Resident memory of the target and of memtrace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rss {
    /// VmRSS when the probes were armed.
    pub start_bytes: u64,
    /// VmRSS at the end; the last sample when the target had ended.
    pub end_bytes: u64,
    /// VmHWM, the kernel's exact high-water mark since the target's start.
    pub peak_bytes: u64,
    /// What it consisted of at the start; `None` before Linux 4.5.
    pub start_parts: Option<RssParts>,
    /// What it consisted of at the end.
    pub end_parts: Option<RssParts>,
    /// The lowest memory limit of the target's control groups.
    pub limit_bytes: Option<u64>,
    /// memtrace's own VmHWM.
    pub own_peak_bytes: u64,
}

/// Sums over all sites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// malloc and kin.
    pub heap: SiteStats,
    /// mmap and kin, called by the program.
    pub mappings: SiteStats,
    /// mmap, brk and kin, called by the allocator for its arenas: not added to the heap.
    pub allocator_mappings: SiteStats,
    /// mmap, called by CPython for arenas of small objects (pymalloc): an allocator's footprint,
    /// whose arenas are released only when all objects in them are. Not in `mappings`.
    pub pymalloc_arenas: SiteStats,
    /// Heap and mappings that survived `min_age_ns`.
    pub survivors: Amount,
    /// Frees of blocks that were allocated before the window.
    pub unmatched_frees: u64,
    /// Unmapped bytes that were mapped before the window.
    pub unmatched_unmapped_bytes: u64,
}

/// Percentiles of a distribution (each within 1 % of the true value, by hdrhistogram).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Distribution {
    /// Number of values.
    pub count: u64,
    /// Smallest.
    pub min: u64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// Largest.
    pub max: u64,
    /// Mean.
    pub mean: f64,
}

/// Calls of one function, as counted in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FunctionReport {
    /// The function.
    pub function: Cow<'static, str>,
    /// Outermost calls.
    pub calls: u64,
    /// Calls inside another traced call of the same family; not counted above.
    pub nested: u64,
    /// Calls that failed or had nothing to do (`free(NULL)`).
    pub void: u64,
    /// Calls whose event was lost.
    pub lost: u64,
    /// Of the outermost ones, those that were only counted: they were not drawn, or free or resize
    /// a block that was not.
    pub passed_over: u64,
    /// What the outermost calls that lead to a block asked for, drawn or not.
    pub requested_bytes: u64,
}

/// What is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Completeness {
    /// No event was lost.
    pub complete: bool,
    /// Events received.
    pub events: u64,
    /// Calls in flight when the window opened or closed.
    pub cut_calls: u64,
    /// Children that the target forked.
    pub forks: u64,
    /// Those that were to be followed and could not.
    #[serde(skip_serializing_if = "NotFollowed::is_nothing")]
    pub not_followed: NotFollowed,
    /// Programs that the target executed; memory of the ones before is gone.
    pub execs: u64,
    /// Bytes and blocks that were live when an exec discarded them.
    pub discarded_by_exec: Amount,
    /// Every loss that happened, with its count.
    pub losses: Vec<LossReport>,
    /// Anything else a reader must know, as sentences.
    pub notes: Vec<String>,
}

/// Children that were to be followed and could not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NotFollowed {
    /// They ended before memtrace had attached to them.
    pub ended_early: u64,
    /// There were too many processes at a time, or in all.
    pub beyond_limit: u64,
    /// The window was closed before memtrace had attached to them.
    pub beyond_window: u64,
    /// memtrace could not attach to them.
    pub refused_count: u64,
    /// Some of those, with the reason.
    pub refused: Vec<Refused>,
}

impl NotFollowed {
    /// All were followed.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.ended_early + self.beyond_limit + self.beyond_window + self.refused_count
    }
}

/// A process that memtrace could not attach to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refused {
    /// Its process id.
    pub pid: u32,
    /// Why.
    pub reason: String,
}

/// The size of the unwind tables at the end of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnwindTables {
    /// Objects (files and the vDSO) with rows.
    pub objects: u64,
    /// Objects that have code but no rows: they are walked by frame pointers.
    pub objects_without_rows: u64,
    /// Length of the executable segments of the objects with rows.
    pub text_bytes: u64,
    /// Rows.
    pub rows: u64,
    /// Entries of the page index.
    pub pages: u64,
    /// Distinct rules.
    pub rules: u64,
    /// What rows, index and rules take.
    pub size_bytes: u64,
    /// How long it took to make them, the reading of the files included.
    pub build_ns: u64,
}

/// One kind of loss.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LossReport {
    /// A stable name.
    pub name: Cow<'static, str>,
    /// How often.
    pub count: u64,
    /// What it is and what to do; follows the count.
    pub sentence: Cow<'static, str>,
    /// Such a loss can make freed memory look never freed.
    pub can_fake_a_survivor: bool,
}

/// What the walks of a window found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Walks {
    /// Near the start.
    pub before: Option<Census>,
    /// The last.
    pub after: Option<Census>,
    /// When that began, since the window's start.
    pub at_ns: u64,
    /// How many there were.
    pub count: u64,
    /// CPU time of all of them.
    pub cpu_ns: u64,
    /// Blocks that were allocated in the window and that the last walk found in use, by the sizes
    /// of their chunks; `None` where it was not asked for them.
    pub traced_in_use: Option<Amount>,
    /// What became of the survivors that the last walk was asked for.
    pub check: Option<SurvivorCheck>,
}

/// Live blocks by what the heap says of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SurvivorCheck {
    /// In use.
    pub in_use: u64,
    /// Free, by requested bytes: their free was not seen. They are no survivors.
    pub freed: Amount,
    /// In memory that was not walked; taken for survivors.
    pub unknown: u64,
    /// Smaller ones that were not looked for; taken for survivors.
    pub unchecked: u64,
}

/// A mapped object with code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Module {
    /// Path in the target's mount namespace, or `[vdso]`.
    pub path: String,
    /// Build ID in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// First address of the executable mapping.
    pub start: u64,
    /// One past its last.
    pub end: u64,
    /// Offset of `start` in the file.
    pub file_offset: u64,
}

/// The machine that a window was traced on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// e.g. `6.12.1-amd64`.
    pub kernel: String,
    /// e.g. `x86_64`.
    pub machine: String,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Processors.
    pub cpus: u64,
}
