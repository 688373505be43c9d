//! Targets that end before, while and just after memtrace attaches.

use std::time::Duration;

use memtrace_tests::{
    attach::{Attach, Finished},
    target::Target,
};
use rustix::process::Signal;

/// A result, or a refusal that says that the process is gone; nothing else.
fn assert_clean_outcome(finished: &Finished, when: &str) {
    match finished.status.code() {
        Some(0) => assert_eq!(finished.report().window.ended_by, "target_exited", "{when}"),
        _ => finished.assert_refused(&["process"]),
    }
}

#[test]
fn a_target_that_ends_while_memtrace_attaches_gives_a_result_or_a_sentence() {
    for delay_ms in (0..400).step_by(20) {
        let mut target = Target::start("ground_truth", &["heap", "1"]);
        let tracing = Attach::to(target.pid()).start();
        std::thread::sleep(Duration::from_millis(delay_ms));
        target.signal(Signal::KILL);
        // A zombie for a while, as under a parent that is slow to wait.
        std::thread::sleep(Duration::from_millis(delay_ms % 3 * 10));
        target.wait();
        assert_clean_outcome(&tracing.wait(), &format!("killed after {delay_ms} ms"));
    }
}

#[test]
fn a_target_that_ends_just_after_the_attach_gives_a_complete_result() {
    for lifetime_ms in ["0", "3", "20"] {
        let mut target = Target::start("exit_soon", &[lifetime_ms]);
        let tracing = Attach::to(target.pid()).args(&["-d", "1h"]).armed();
        target.go();
        assert!(target.wait().success());
        let report = tracing.wait().report();
        assert_eq!(report.window.ended_by, "target_exited");
        let site = report.sites_of("site_exit_soon").next().expect("its allocations were seen");
        assert!(site.stats.allocated.count >= 1);
        memtrace_tests::truth::assert_complete(&report);
    }
}

#[test]
fn a_target_that_ended_but_was_not_waited_for_is_refused() {
    let target = Target::start("ground_truth", &["heap", "1"]);
    target.signal(Signal::KILL);
    memtrace_tests::wait_until("it is a zombie", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", target.pid())).unwrap();
        status.contains("State:\tZ")
    });
    Attach::to(target.pid()).run().assert_refused(&[&target.pid().to_string(), "ended"]);
}

#[test]
fn a_target_that_is_gone_is_refused() {
    let mut target = Target::start("ground_truth", &["heap", "1"]);
    assert!(target.quit().success());
    Attach::to(target.pid()).run().assert_refused(&["no process", &target.pid().to_string()]);
}
