//! memtrace killed at any moment leaves the target running, and no probe behind.

use std::time::Duration;

use memtrace_tests::{attach::Attach, code::Prologues, target::Target, wait_until};

/// Kills memtrace after each delay while the target keeps calling malloc and free.
fn assert_survives(options: &[&str]) {
    let mut target = Target::start("churn", &["2", "12", "100000"]);
    let before = Prologues::of(&target);
    target.go();
    for delay_ms in (0..400).step_by(20) {
        let tracing = Attach::to(target.pid()).args(options).start();
        std::thread::sleep(Duration::from_millis(delay_ms));
        tracing.kill();
        wait_until("the allocator's code is as before", || Prologues::of(&target) == before);
        assert!(target.is_running(), "killed after {delay_ms} ms");
    }
    let line = target.line();
    assert!(line.contains("pairs"), "{line}");
    assert!(target.quit().success());
}

#[test]
fn the_target_survives_memtrace_being_killed_at_any_moment() {
    assert_survives(&[]);
}

#[test]
fn the_target_survives_it_with_probes_by_perf_events_too() {
    assert_survives(&["--perf-event-links"]);
}

#[test]
fn after_a_kill_the_next_trace_is_exact() {
    let mut target = Target::start("ground_truth", &["heap", "4"]);
    Attach::to(target.pid()).armed().kill();
    let tracing = Attach::to(target.pid()).armed();
    let truth = target.run();
    truth.assert_same_heap(&tracing.interrupt().report());
}
