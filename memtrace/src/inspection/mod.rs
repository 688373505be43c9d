//! A look at a process's memory as data: what `memtrace inspect` says, for people and programs.

#[cfg(test)]
pub(crate) mod sample;

use serde::Serialize;

use crate::{
    analysis::verdict::{RssChange, VerdictInput, verdict},
    model::{
        census::{Arena, Census},
        verdict::Verdict,
    },
};

/// The schema of the JSON document; docs/inspect-json.md describes every field.
pub const SCHEMA: &str = "memtrace-inspect/1";

/// One look at a process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// When it was taken, RFC 3339 in UTC.
    pub taken_at: String,
    /// The process.
    pub target: Subject,
    /// What the kernel states of it.
    pub kernel: KernelStatement,
    /// What to read first.
    pub summary: Summary,
    /// What this look says of it; whether it grows is not known.
    pub verdict: Verdict,
    /// The table, the heaps, and what could not be looked into.
    #[serde(flatten)]
    pub census: Census,
    /// What the look took.
    pub cost: Cost,
}

/// The process.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Subject {
    /// As the caller gave it.
    pub pid: u32,
    /// The kernel's 15-byte name.
    pub command: String,
    /// Arguments.
    pub command_line: Vec<String>,
    /// The executable's path in the target's own mount namespace.
    pub executable: String,
    /// Threads.
    pub threads: u64,
}

/// What the kernel states of a process's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KernelStatement {
    /// `VmRSS`; approximate from Linux 6.2 to 6.16, by some dozen pages a CPU.
    pub rss_bytes: u64,
    /// `VmHWM`: the largest VmRSS so far.
    pub peak_rss_bytes: u64,
    /// Part of RSS that the kernel may take at any time (`MADV_FREE`).
    pub lazy_free_bytes: u64,
    /// Mapped to the page of zeros and not in RSS; `None` before Linux 6.7, which counts such pages
    /// in no row and tells them in no way.
    pub zero_bytes: Option<u64>,
}

/// What to read first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// In use by the program in all heaps that were walked, pymalloc apart.
    pub in_use_bytes: u64,
    /// Resident bytes of those heaps.
    pub heap_resident_bytes: u64,
    /// Resident, free, and not to be given back.
    pub trapped_bytes: u64,
    /// What `malloc_trim(0)` would give back now; `None` without a glibc heap.
    pub trim_bytes: Option<u64>,
    /// Arenas that no thread uses any more.
    pub stranded_arenas: u64,
    /// Their resident bytes.
    pub stranded_bytes: u64,
    /// Stacks of threads, the main thread's apart.
    pub live_stacks: u64,
    /// Stacks that libc keeps for the next threads.
    pub cached_stacks: u64,
}

/// What a look took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// CPU time of memtrace.
    pub cpu_ns: u64,
}

impl Summary {
    /// The summary of a census; stacks are counted by the caller.
    pub fn of(census: &Census) -> Self {
        let arenas = || census.glibc.iter().flat_map(|heap| &heap.arenas);
        let stranded = || arenas().filter(|arena| is_stranded(arena));
        let trim = census.glibc.iter().map(|heap| heap.trim_bytes).sum();
        Self {
            in_use_bytes: census.in_use_bytes(),
            heap_resident_bytes: census.heap_resident_bytes(),
            trapped_bytes: census.trapped_bytes(),
            trim_bytes: (!census.glibc.is_empty()).then_some(trim),
            stranded_arenas: stranded().count() as u64,
            stranded_bytes: stranded().map(|arena| arena.resident.total_bytes()).sum(),
            ..Self::default()
        }
    }
}

/// What one look tells.
pub fn verdict_of(census: &Census) -> Verdict {
    let bytes = census.rss.rss_bytes;
    let rss = RssChange { start_bytes: bytes, end_bytes: bytes, ..RssChange::default() };
    verdict(&VerdictInput { rss, after: Some(census.clone()), ..VerdictInput::default() })
}

/// Whether no thread is attached to an arena: what is in it stays until a new thread is given this
/// arena. The main arena is never counted as such.
pub fn is_stranded(arena: &Arena) -> bool {
    arena.index > 0 && arena.attached_threads == Some(0)
}
