//! With no loss, what memtrace says is equal to what the target did: per site and per function.

use std::process::Command;

use memtrace_tests::{
    attach::Attach,
    programs,
    target::{Background, Target},
    truth::{HEAP_FUNCTIONS, MAPPING_FUNCTIONS, assert_complete},
};

use crate::trace;

#[test]
fn mappings_are_exact_over_threads() {
    let (truth, report) = trace("ground_truth", &["mappings", "4"], &[]);
    assert_complete(&report);
    truth.assert_same_sites(&report);
    truth.assert_same_mapping_total(&report);
    truth.assert_same_calls(&report, &MAPPING_FUNCTIONS);
    truth.assert_same_unmatched(&report);
}

#[test]
fn peaks_of_mappings_are_exact() {
    let (truth, report) = trace("ground_truth", &["mappings", "1"], &[]);
    truth.assert_same_peaks(&report);
}

#[test]
fn the_program_break_is_exact_up_and_down() {
    let (truth, report) = trace("ground_truth", &["break", "1"], &[]);
    assert_complete(&report);
    truth.assert_same_sites(&report);
    truth.assert_same_mapping_total(&report);
    truth.assert_same_calls(&report, &["brk", "sbrk"]);
    truth.assert_same_peaks(&report);
}

#[test]
fn frees_of_memory_from_before_the_attach_are_counted_and_belong_to_no_site() {
    for threads in ["1", "4"] {
        let (truth, report) = trace("ground_truth", &["before", threads], &[]);
        assert!(truth.unmatched_frees > 0 && truth.unmatched_unmapped_bytes > 0);
        assert_complete(&report);
        truth.assert_same_sites(&report);
        truth.assert_same_calls(&report, &HEAP_FUNCTIONS);
        truth.assert_same_unmatched(&report);
    }
}

#[test]
fn a_static_executable_is_traced_like_a_dynamic_one() {
    let (truth, report) = trace("ground_truth_static", &["heap", "4"], &[]);
    truth.assert_same_heap(&report);
    let (truth, report) = trace("ground_truth_static", &["mappings", "1"], &[]);
    truth.assert_same_sites(&report);
    truth.assert_same_calls(&report, &MAPPING_FUNCTIONS);
}

#[test]
fn what_the_allocator_maps_for_itself_is_told_apart() {
    let (truth, report) = trace("ground_truth", &["heap", "1"], &[]);
    truth.assert_same_heap(&report);
    // The 300001 bytes that stay, rounded up; the 5 MB and the big realloc come and go.
    let own = report.totals.allocator_mappings;
    assert!(own.live.bytes >= 300_001, "{own:?}");
    assert!(own.allocated.bytes >= 300_001 + 5_000_000 + 4_000_000, "{own:?}");
    assert_eq!(report.totals.mappings.allocated.count, 0, "{:?}", report.totals);
}

#[test]
fn many_short_threads_are_followed() {
    let (truth, report) = trace("threads_exit", &["320"], &[]);
    assert_complete(&report);
    truth.assert_same_sites(&report);
}

/// No call is in flight that tells whose mapping it is, but it is as much the allocator's.
#[test]
fn an_arena_that_a_free_begins_is_the_allocators_and_no_mapping_of_the_program() {
    let (truth, report) = trace("free_first", &["3"], &[]);
    truth.assert_same_sites(&report);
    let heap_bytes = 64 << 20;
    let own = report.totals.allocator_mappings.live.bytes;
    assert!(own >= heap_bytes, "{own} of an arena's {heap_bytes}");
    let mapped = report.totals.mappings.live.bytes;
    assert!(mapped < heap_bytes, "the program mapped {mapped}, stacks of threads");
}

#[test]
fn two_at_once_see_the_same() {
    let mut target = Target::start("ground_truth", &["heap", "4"]);
    let first = Attach::to(target.pid()).armed();
    let second = Attach::to(target.pid()).armed();
    let truth = target.run();
    truth.assert_same_heap(&second.interrupt().report());
    truth.assert_same_heap(&first.interrupt().report());
}

#[test]
fn a_second_trace_starts_from_nothing() {
    let mut command = Command::new(programs::path("leaker"));
    let mut target = Background::start(&mut command, "leaks");
    let first = Attach::to(target.pid()).args(&["-d", "1s"]).run().report();
    let second = Attach::to(target.pid()).args(&["-d", "1s"]).run().report();
    for report in [&first, &second] {
        let leaked = report.sites_of("leak_session").next().expect("the leak is seen");
        assert!(leaked.stats.live.count < 500, "{leaked:?}");
        assert_eq!(leaked.stats.live, leaked.stats.allocated);
    }
    assert!(target.is_running());
}

#[test]
fn without_stacks_the_totals_are_the_same() {
    let (truth, report) = trace("ground_truth", &["heap", "4"], &["--no-stacks"]);
    assert_complete(&report);
    truth.assert_same_heap_total(&report);
    truth.assert_same_calls(&report, &HEAP_FUNCTIONS);
    assert!(report.sites.iter().all(|site| site.stack.frames.is_empty()), "{:?}", report.sites);
}
