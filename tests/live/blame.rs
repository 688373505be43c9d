//! Who keeps free memory from being given back, against what RSS does when they are gone.

use memtrace_tests::{
    attach::Attach,
    report::{Blame, Report},
    target::Target,
};
use serde::Deserialize;

/// The program's RSS, step by step.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Measured {
    full: u64,
    trimmed: u64,
    without_sessions: u64,
    without_entries: u64,
}

/// Traces the filling of a heap, and then measures what its blocks hold.
fn measured(shape: &str, threads: &str, options: &[&str]) -> (Report, Measured) {
    let mut target = Target::start("pins", &[shape, threads]);
    let tracing = Attach::to(target.pid()).args(options).armed();
    target.go();
    assert_eq!(target.line(), "filled");
    let report = tracing.interrupt().report();
    target.go();
    let measured = serde_json::from_str(&target.line()).unwrap();
    assert!(target.quit().success());
    (report, measured)
}

fn blame(report: &Report) -> &Blame {
    report.blame.as_ref().unwrap_or_else(|| panic!("{:?}", report.completeness))
}

/// A prediction, and what it is held against.
fn assert_near(predicted: u64, measured: u64, percent: u64) {
    let off = predicted.abs_diff(measured);
    assert!(off * 100 <= measured * percent, "predicted {predicted}, measured {measured}");
}

/// What must hold of any.
fn check(report: &Report) {
    let blame = blame(report);
    let trapped: u64 = blame.culprits.iter().map(|culprit| culprit.trapped_bytes).sum();
    assert_eq!(trapped, blame.trapped_bytes);
    let census = report.heap.as_ref().unwrap().trapped_bytes;
    assert_near(blame.trapped_bytes, census, 1);
    assert_eq!(blame.left_out_bytes, 0);
}

#[test]
fn sessions_between_buffers_are_blamed_and_rss_drops_as_predicted() {
    for (shape, least_ratio) in [("sessions", 20.0), ("queue", 3.0)] {
        let (report, measured) = measured(shape, "0", &[]);
        check(&report);
        let blame = blame(&report);
        let first = &blame.culprits[0];
        assert!(first.name.starts_with("session_new (pins.c:"), "{first:?}");
        assert_near(first.drop_bytes, measured.trimmed - measured.without_sessions, 2);
        assert!(first.pin_ratio > Some(least_ratio), "{first:?}");
        assert!(first.median_age_ns > Some(0) && first.pins > 0, "{first:?}");
        assert_near(blame.returnable_bytes, measured.full - measured.trimmed, 2);
        assert!(blame.coverage > 0.99, "{}", blame.coverage);
    }
}

#[test]
fn of_two_who_hold_the_same_pages_each_has_its_own_drop() {
    let (report, measured) = measured("mixed", "0", &[]);
    check(&report);
    let blame = blame(&report);
    let (sessions, entries) = (blame.culprit("session_new"), blame.culprit("entry_new"));
    assert_near(sessions.drop_bytes, measured.trimmed - measured.without_sessions, 2);
    // Together they hold more than each alone.
    let both = measured.trimmed - measured.without_entries;
    assert!(sessions.drop_bytes + entries.drop_bytes < both, "{blame:?}");
    assert!(sessions.exclusive_bytes < sessions.trapped_bytes, "{sessions:?}");
}

#[test]
fn in_all_arenas_of_threads() {
    let (report, measured) = measured("sessions", "4", &[]);
    check(&report);
    let blame = blame(&report);
    let sessions = blame.culprit("session_new");
    assert_near(sessions.drop_bytes, measured.trimmed - measured.without_sessions, 2);
    assert!(blame.tops.len() >= 4, "{:?}", blame.tops);
    assert!(blame.stranded.is_empty(), "{:?}", blame.stranded);
}

#[test]
fn arenas_of_threads_that_are_gone_are_named_with_who_holds_them() {
    let (report, _) = measured("gone", "4", &[]);
    check(&report);
    let stranded = &blame(&report).stranded;
    assert!(!stranded.is_empty(), "{:?}", blame(&report));
    let holders = stranded.iter().flat_map(|arena| &arena.holders);
    assert!(holders.clone().any(|it| it.name.starts_with("session_new")), "{stranded:?}");
}

#[test]
fn what_was_there_before_the_trace_is_said_to_be() {
    let (report, measured) = measured("old", "0", &[]);
    check(&report);
    let blame = blame(&report);
    assert_eq!(blame.culprits[0].kind, "before_attach", "{:?}", blame.culprits);
    assert!(blame.coverage < 0.01, "{}", blame.coverage);
    assert!(blame.culprits[0].drop_bytes >= measured.trimmed - measured.without_sessions);
}

#[test]
fn what_was_not_sampled_is_said_to_be() {
    let (report, _) = measured("sessions", "0", &["--sample-bytes", "64KiB"]);
    let blame = blame(&report);
    assert_eq!(blame.culprits[0].kind, "not_sampled", "{:?}", blame.culprits);
    assert!(blame.coverage < 0.5 && blame.coverage > 0.0, "{}", blame.coverage);
    let trapped: u64 = blame.culprits.iter().map(|culprit| culprit.trapped_bytes).sum();
    assert_eq!(trapped, blame.trapped_bytes);
}
