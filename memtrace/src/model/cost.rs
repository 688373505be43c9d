//! What a trace costs its target: before, while it goes on, and what was done to keep to a budget.

use serde::{Deserialize, Serialize};

/// What a hit of a probe costs the thread that runs into it, on this machine and kernel, in
/// nanoseconds. The program that runs there only counts; where that is not wanted, it does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbeCosts {
    /// At an instruction that the kernel emulates.
    pub emulated_ns: f64,
    /// At one that it single-steps.
    pub stepped_ns: f64,
    /// What the return of a function costs more, where it is wanted.
    pub return_ns: f64,
    /// They were measured here by memtrace on itself; else they are those of usual machines.
    pub measured: bool,
}

/// Those of an ordinary machine (x86-64, 2024: the nop5 series of the uprobes' developers), and 150 ns
/// for the program.
impl Default for ProbeCosts {
    fn default() -> Self {
        Self { emulated_ns: 500.0, stepped_ns: 1050.0, return_ns: 200.0, measured: false }
    }
}

/// What the trace cost, and what it was allowed to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// By which share the target might become slower: 0.1 for a tenth; `None` without a limit.
    pub max_overhead: Option<f64>,
    /// What hits cost.
    pub probes: ProbeCosts,
    /// What was expected when the window opened; `None` where calls were not counted before.
    pub expected: Option<Expected>,
    /// By which share the target was slower, by the number of hits and what each costs; `None` where
    /// that was not followed.
    pub overhead: Option<f64>,
    /// The part of the time that all probes were armed, from 0 to 1; `None` where that was not
    /// followed.
    pub covered: Option<f64>,
    /// Probes that see releases were away at times: of a block from before such a time it is not known
    /// whether it was freed, unless the heap says so.
    pub misses_releases: bool,
    /// How closely the target was looked at when the window opened, in words.
    pub setting: Option<String>,
    /// What was changed in the window to keep to the limit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<SettingChange>,
}

/// What was counted before the window opened, and what follows from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Expected {
    /// How long was counted.
    pub counted_ns: u64,
    /// Calls of the functions that obtain or release memory, in a second of that time.
    pub calls_per_second: f64,
    /// The part of one CPU that the target used meanwhile; 2 for two of them.
    pub target_cpus: f64,
    /// The share of a second that a CPU would spend on tracing each call.
    pub exact_cpus: f64,
    /// By which share the target would be slower if each allocation was recorded.
    pub exact_overhead: f64,
    /// By which share it is likely to be with what was chosen.
    pub overhead: f64,
}

/// The target was looked at more or less closely from some moment on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SettingChange {
    /// Since the window's start.
    pub at_ns: u64,
    /// How closely before, in words.
    pub from: String,
    /// How closely from then on.
    pub to: String,
    /// Why, as a clause.
    pub why: String,
}
