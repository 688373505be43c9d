//! What is lost is counted exactly.

use memtrace_tests::{attach::Attach, report::Report, target::Target};

use crate::trace;

/// A churning run: how many pairs of malloc and free the target made, and the report.
fn churn(arguments: &[&str], options: &[&str]) -> (u64, Report) {
    let mut target = Target::start("churn", arguments);
    let tracing = Attach::to(target.pid()).args(options).armed();
    target.go();
    let line = target.line();
    let truth: serde_json::Value = serde_json::from_str(&line).unwrap();
    let report = tracing.interrupt().report();
    assert!(target.quit().success());
    (truth["pairs"].as_u64().unwrap(), report)
}

#[test]
fn with_a_tiny_ring_seen_and_lost_events_add_up_to_the_calls_that_were_made() {
    let (pairs, report) = churn(&["4", "3", "0"], &["--ring-size", "64KiB"]);
    assert!(report.loss("ring_full") > 0, "nothing was lost: {:?}", report.completeness);
    assert!(!report.completeness.complete);

    let malloc = report.function("malloc");
    assert_eq!((malloc.calls, malloc.void), (pairs, 0));
    let heap = report.totals.heap;
    assert_eq!(heap.allocated.count + malloc.lost, pairs, "{malloc:?} {heap:?}");

    let free = report.function("free");
    assert_eq!((free.calls, free.void), (pairs, 0));
    // A block whose free was lost is booked as freed when its address is handed out again, or when
    // the heap says so.
    let unseen = report.loss("implied_free") + report.loss("freed_unseen");
    let frees_seen = heap.freed.count - unseen;
    assert_eq!(frees_seen + report.totals.unmatched_frees + free.lost, pairs, "{free:?} {heap:?}");
    assert_eq!(heap.live.count, heap.allocated.count - heap.freed.count);
}

/// A run that frees all its blocks at once, with a ring that is too small for that.
fn burst(options: &[&str]) -> Report {
    let mut target = Target::start("memory_moves", &["burst"]);
    let options = [&["--ring-size", "64KiB"], options].concat();
    let tracing = Attach::to(target.pid()).args(&options).armed();
    target.go();
    assert_eq!(target.line(), "done");
    let report = tracing.interrupt().report();
    assert!(target.quit().success());
    report
}

#[test]
fn a_lost_free_is_no_leak_because_the_heap_knows_better() {
    let report = burst(&[]);
    let check = report.heap.as_ref().unwrap().survivor_check.unwrap();
    assert!(check.freed.count > 0, "no free was lost: {:?}", report.completeness);
    assert_eq!(report.loss("freed_unseen"), check.freed.count);
    assert_eq!((check.unknown, check.unchecked), (0, 0));
    assert_eq!(report.sites_of("burst").map(|it| it.survivors.count).sum::<u64>(), 0);
    let report = burst(&["--no-walk"]);
    assert!(report.heap.is_none() && report.rss_table.is_none());
    let fake = report.sites_of("burst").map(|it| it.survivors.count).sum::<u64>();
    assert!(fake > 0, "without a walk nobody can know");
}

#[test]
fn the_text_report_warns_of_losses() {
    let mut target = Target::start("churn", &["4", "2", "0"]);
    let tracing = Attach::to(target.pid()).args(&["--ring-size", "64KiB"]).text().armed();
    target.go();
    target.line();
    let finished = tracing.interrupt();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    assert!(finished.stdout.contains("--ring-size"), "{}", finished.stdout);
}

#[test]
fn a_steady_load_loses_nothing_with_the_defaults() {
    let (pairs, report) = churn(&["2", "3", "50000"], &[]);
    memtrace_tests::truth::assert_complete(&report);
    let heap = report.totals.heap;
    assert_eq!((heap.allocated.count, heap.freed.count, heap.live.count), (pairs, pairs, 0));
}

#[test]
fn a_full_table_of_live_blocks_is_a_loss_with_a_name() {
    let (truth, report) = trace("ground_truth", &["many", "2"], &["--max-live", "1000"]);
    let made = truth.sites[0].stats.allocated.count;
    assert_eq!(report.totals.heap.live.count, 1000);
    assert_eq!(report.loss("live_blocks_full"), made - 1000);
    assert_eq!(report.function("malloc").calls, made, "the kernel's count does not suffer");
}
