//! What memtrace can and cannot see of a process, before any probe is armed. The serialized
//! [`Diagnosis`] is the document of `memtrace doctor --json`, described in docs/doctor.md.
//!
//! Pure: `session` gathers the facts, [`findings()`] says what they mean.

mod findings;
#[cfg(test)]
pub(crate) mod sample;

use std::collections::BTreeMap;

use serde::Serialize;

pub use findings::findings;

use crate::model::{cost::Cost, mapping::KERNEL_CODE, place::Place};

/// The schema's name and version.
pub const SCHEMA: &str = "memtrace-doctor/1";

/// All that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diagnosis {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// `attach` would arm its probes.
    pub traceable: bool,
    /// Why it would not, in its own words.
    pub obstacles: Vec<String>,
    /// Who was looked at; `None` where only the machine was.
    pub target: Option<Subject>,
    /// Where that runs.
    pub place: Option<Place>,
    /// The running kernel.
    pub kernel: KernelFacts,
    /// Objects that would be probed; the first serves `malloc`.
    pub allocators: Vec<AllocatorFacts>,
    /// Objects that are, or may be, allocators and would not be probed.
    pub left_out: Vec<Exception>,
    /// At so many places in the target its system calls can be seen by `--growth`; 0 when only at
    /// tracepoints. `None` where only the machine was looked at.
    pub growth_probes: Option<u64>,
    /// The target's CPython, if it has one.
    pub python: Option<PythonFacts>,
    /// Mapped executable code, the largest first.
    pub objects: Vec<ObjectFacts>,
    /// Sums over the objects.
    pub totals: TableTotals,
    /// What an attach would cost at the rate of calls just now; `None` where calls were not counted.
    pub cost: Option<Cost>,
    /// Why they could not be, where that was tried.
    pub not_counted: Option<String>,
    /// What a result would lack, and how to get it.
    pub findings: Vec<Finding>,
}

/// The process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// As given.
    pub pid: u32,
    /// The kernel's 15-byte name.
    pub command: String,
    /// Arguments.
    pub command_line: Vec<String>,
    /// Path in the target's mount namespace.
    pub executable: String,
    /// Threads.
    pub threads: u64,
    /// VmRSS.
    pub resident_bytes: u64,
    /// A seccomp filter decides on its system calls, as in most containers.
    pub seccomp_filter: bool,
}

/// What the kernel offers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KernelFacts {
    /// Major and minor version.
    pub version: String,
    /// All of `uname -r`.
    pub release: String,
    /// It has uprobes.
    pub uprobes: bool,
    /// memtrace may create its maps and load its programs; `None` when that could not be tried.
    pub bpf_permitted: Option<bool>,
    /// One link for all probes of a file (Linux 6.10); `None` when that could not be tried.
    pub multi_uprobe_links: Option<bool>,
    /// The `bpf_loop` helper (Linux 5.17).
    pub bpf_loop: bool,
    /// It describes its types (BTF), which Python's frames need.
    pub btf: bool,
    /// BPF programs are compiled; `None` when that cannot be read.
    pub jit: Option<bool>,
    /// The CPU counts instructions, and the kernel lets memtrace read how many.
    pub counts_instructions: bool,
    /// How far it protects itself from root.
    pub lockdown: LockdownFacts,
    /// Where tracefs is mounted; it is not needed.
    pub tracefs: Option<String>,
    /// Capabilities that memtrace needs and does not have, and what for.
    pub lacking_rights: Vec<Exception>,
    /// Return probes would get this process killed (Linux 6.11 to 6.13 with a seccomp filter).
    pub seccomp_hazard: bool,
    /// A profiler that takes user stacks beside probes can make it panic (6.12 to 6.12.18, and some
    /// 6.6).
    pub profiler_hazard: bool,
}

/// kernel_lockdown(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LockdownFacts {
    /// Not in force.
    #[default]
    Off,
    /// The kernel may not be changed.
    Integrity,
    /// It may not be read either.
    Confidentiality,
}

/// A CPython.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PythonFacts {
    /// Where it is known.
    pub version: Option<String>,
    /// The object that holds it, in the target's mount namespace.
    pub path: String,
    /// Why its frames would be missing; `None` when they would not.
    pub refused: Option<String>,
}

/// An object that would be probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AllocatorFacts {
    /// `glibc`, `jemalloc`, ...; `unknown` when only its functions are known.
    pub name: String,
    /// Where the object says it.
    pub version: Option<String>,
    /// What its functions' names begin with.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub symbol_prefix: String,
    /// Path in the target's mount namespace.
    pub path: String,
    /// In hex.
    pub build_id: Option<String>,
    /// Where the probes would go.
    pub probes: Vec<ProbeFacts>,
    /// Functions that would not be probed; the names of [`Exception`] are theirs.
    pub skipped: Vec<Exception>,
    /// What a reader of a result must know, as sentences.
    pub notes: Vec<String>,
}

/// A planned probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeFacts {
    /// The function.
    pub function: &'static str,
    /// Others at the same address.
    pub aliases: Vec<&'static str>,
    /// Bytes from the function's first instruction.
    pub offset: u64,
    /// The kernel emulates the instruction there: one trap a hit, else two.
    pub emulated: bool,
}

/// Something that is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exception {
    /// A path, or a function.
    pub name: String,
    /// Why, as a clause.
    pub reason: String,
}

/// Executable code of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ObjectFacts {
    /// Path in the target's mount namespace, or `[name]` of memory without a file.
    pub path: String,
    /// The file's last link is gone.
    pub deleted: bool,
    /// In hex.
    pub build_id: Option<String>,
    /// Length of its executable mappings.
    pub text_bytes: u64,
    /// How stacks pass through it.
    pub unwind: UnwindFacts,
    /// What names its code.
    pub symbols: SymbolFacts,
}

/// How stacks pass through an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UnwindFacts {
    /// Rows in the kernel's tables.
    pub rows: u64,
    /// What they take there, with their index.
    pub table_bytes: u64,
    /// Functions with unwind information.
    pub functions: u64,
    /// Those of them that a stack may not get through.
    pub unsupported_functions: u64,
    /// Why not, with the number of places.
    pub unsupported: BTreeMap<&'static str, u64>,
    /// Why there are no rows, as a clause: stacks are guessed by frame pointers there.
    pub missing: Option<String>,
}

/// How much of an object's code has names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SymbolKind {
    /// Nothing: `object+0xoffset`.
    #[default]
    None,
    /// Functions that other objects may call.
    Exported,
    /// All functions.
    Functions,
    /// All functions, and those that were inlined into them.
    DebugInfo,
    /// The same with source lines.
    Lines,
    /// A map that a just-in-time compiler writes.
    PerfMap,
}

/// Where a symbol file was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SymbolOrigin {
    /// In the object.
    Embedded,
    /// In a file found by build ID.
    BuildId,
    /// In a file found by debug link.
    DebugLink,
}

/// What names an object's code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SymbolFacts {
    /// The best there is.
    pub kind: SymbolKind,
    /// Where that is; `None` where there is nothing.
    pub origin: Option<SymbolOrigin>,
    /// The file, where that is another one.
    pub path: Option<String>,
}

/// The tables of all objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TableTotals {
    /// Length of the executable mappings.
    pub text_bytes: u64,
    /// Rows.
    pub rows: u64,
    /// What the tables take in the kernel.
    pub table_bytes: u64,
    /// How long it took to make them.
    pub build_ns: u64,
}

/// Something that a result would lack, or that would cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is so, as a sentence.
    pub what: String,
    /// What to do about it, as a sentence.
    pub remedy: String,
}

impl ObjectFacts {
    /// File name without directories, or the `[name]`.
    pub fn base_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// It is memory without a file that something else wrote code into.
    pub fn is_generated(&self) -> bool {
        !self.path.starts_with('/') && !KERNEL_CODE.contains(&self.path.as_str())
    }
}
