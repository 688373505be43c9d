//! Real eBPF on real processes: needs root. Every target counts for itself what it does, and the
//! report must say the same.
//!
//! Tests whose name contains `smoke` also run on other kernels in a virtual machine, where there
//! is no compiler, no Python and hardly a file.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it fails")]

mod allocators;
mod bad_targets;
mod blame;
mod budget;
mod busy_leaks;
mod diff;
mod doctor;
mod endings;
mod exact_counts;
mod exit_races;
mod follow_forks;
mod fork_exec;
mod growth;
mod heap_walk;
mod incidents;
mod inspect;
mod jumps_and_signals;
mod kernel_side;
mod loss;
mod metrics;
mod musl_walk;
mod namespaces;
mod outputs;
mod polars;
mod pymalloc_arenas;
mod pymalloc_calls;
mod pymalloc_walk;
mod python;
mod python_peers;
mod python_pins;
mod python_places;
mod python_stacks;
mod report;
mod resident_view;
mod rights;
mod run;
mod run_endings;
mod run_python;
mod run_terminal;
mod run_when;
mod sampling;
mod sampling_changes;
mod sigkill;
mod smoke;
mod stacks;
mod verdict;
mod watch;
mod watched_work;
mod whatif;

use memtrace_tests::{attach::Attach, report::Report, target::Target, truth::Truth};

/// Traces one run of a program from its first to its last word.
fn trace(program: &str, arguments: &[&str], options: &[&str]) -> (Truth, Report) {
    let mut target = Target::start(program, arguments);
    let tracing = Attach::to(target.pid()).args(options).armed();
    let truth = target.run();
    let report = tracing.interrupt().report();
    assert!(target.quit().success(), "{program} was harmed");
    (truth, report)
}
