//! The least that must work on every kernel: load, attach, exact counts, detach.

use memtrace_tests::{
    attach::Attach,
    bpf::{has_private_stack, is_loaded, program, programs_of},
    code::Prologues,
    target::Target,
    truth::{MAPPING_FUNCTIONS, assert_complete},
    wait_until,
};

use crate::trace;

#[test]
fn smoke_heap_counts_are_exact() {
    let (truth, report) = trace("ground_truth", &["heap", "1"], &[]);
    truth.assert_same_heap(&report);
    truth.assert_same_peaks(&report);
}

#[test]
fn smoke_heap_counts_are_exact_over_threads() {
    let (truth, report) = trace("ground_truth", &["heap", "4"], &[]);
    truth.assert_same_heap(&report);
}

#[test]
fn smoke_mapping_counts_are_exact() {
    let (truth, report) = trace("ground_truth", &["mappings", "1"], &[]);
    assert_complete(&report);
    truth.assert_same_sites(&report);
    truth.assert_same_mapping_total(&report);
    truth.assert_same_calls(&report, &MAPPING_FUNCTIONS);
}

#[test]
fn smoke_probes_by_perf_events_count_the_same() {
    let (truth, report) = trace("ground_truth", &["heap", "4"], &["--perf-event-links"]);
    truth.assert_same_heap(&report);
}

#[test]
fn smoke_nothing_is_left_behind() {
    let mut target = Target::start("ground_truth", &["heap", "1"]);
    let before = Prologues::of(&target);
    let tracing = Attach::to(target.pid()).armed();
    assert_ne!(Prologues::of(&target), before, "the probes must be seen here");
    let programs = programs_of(tracing.pid());
    assert!(!programs.is_empty());
    target.run();
    tracing.interrupt().report();
    wait_until("all BPF programs are unloaded", || !programs.iter().any(|id| is_loaded(*id)));
    wait_until("the allocator's code is as before", || Prologues::of(&target) == before);
    assert!(target.quit().success());
}

/// Kernels since 6.13 give some programs a per-CPU stack, on the assumption that programs of their
/// type are never preempted, which uprobe programs are: two of them would share it.
#[test]
fn smoke_no_program_has_a_private_stack() {
    let target = Target::start("ground_truth", &["heap", "1"]);
    let tracing = Attach::to(target.pid()).armed();
    let programs: Vec<_> = programs_of(tracing.pid()).into_iter().map(program).collect();
    assert!(programs.iter().any(|it| it.name == "enter"), "{programs:?}");
    for program in programs {
        assert!(!program.machine_code.is_empty(), "{} was not compiled", program.name);
        let private = cfg!(target_arch = "x86_64") && has_private_stack(&program.machine_code);
        assert!(!private, "{} has a private stack", program.name);
    }
}
