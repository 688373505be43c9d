//! However a trace ends, its result is complete.

use std::time::Duration;

use memtrace_tests::{
    attach::{Attach, Finished, Tracing},
    target::Target,
};
use rustix::process::Signal;

/// Traces a whole run of a target and ends the trace somehow: the result is all there.
fn assert_complete_result(
    reason: &str,
    options: &[&str],
    end: impl Fn(Tracing, &mut Target) -> Finished,
) {
    let mut target = Target::start("ground_truth", &["heap", "4"]);
    let tracing = Attach::to(target.pid()).args(options).armed();
    let truth = target.run();
    let finished = end(tracing, &mut target);
    let report = finished.report();
    assert_eq!(report.window.ended_by, reason);
    truth.assert_same_heap(&report);
    let svg = finished.svg.expect("the flamegraph is written");
    assert!(svg.contains("site_malloc_kept"), "{svg}");
    assert!(report.files.iter().any(|file| file.ends_with(".svg")), "{:?}", report.files);
}

#[test]
fn the_duration_ends_a_trace() {
    assert_complete_result("duration", &["-d", "4s"], |tracing, _| {
        let finished = tracing.wait();
        let seconds = Duration::from_nanos(finished.report().window.duration_ns).as_secs_f64();
        assert!((4.0..5.0).contains(&seconds), "{seconds}");
        finished
    });
}

#[test]
fn ctrl_c_ends_a_trace() {
    assert_complete_result("interrupted", &[], |tracing, _| tracing.interrupt());
}

#[test]
fn sigterm_ends_a_trace() {
    assert_complete_result("terminated", &[], |tracing, _| {
        tracing.signal(Signal::TERM);
        tracing.wait()
    });
}

#[test]
fn the_end_of_the_terminal_ends_a_trace() {
    assert_complete_result("terminated", &[], |tracing, _| {
        tracing.signal(Signal::HUP);
        tracing.wait()
    });
}

#[test]
fn the_end_of_the_target_ends_a_trace() {
    assert_complete_result("target_exited", &["-d", "1h"], |tracing, target| {
        assert!(target.quit().success());
        tracing.wait()
    });
}

#[test]
fn a_target_that_is_killed_ends_a_trace() {
    assert_complete_result("target_exited", &[], |tracing, target| {
        target.signal(Signal::KILL);
        target.wait();
        tracing.wait()
    });
}

#[test]
fn an_impatient_second_ctrl_c_does_no_harm() {
    assert_complete_result("interrupted", &[], |tracing, _| {
        tracing.signal(Signal::INT);
        tracing.signal(Signal::INT);
        tracing.wait()
    });
}

#[test]
fn ctrl_c_while_it_starts_gives_a_result_or_130() {
    for delay_ms in (0..300).step_by(30) {
        let mut target = Target::start("ground_truth", &["heap", "1"]);
        let tracing = Attach::to(target.pid()).start();
        std::thread::sleep(Duration::from_millis(delay_ms));
        tracing.signal(Signal::INT);
        let finished = tracing.wait();
        match finished.status.code() {
            Some(0) => assert_eq!(finished.report().window.ended_by, "interrupted"),
            Some(130) => assert_eq!(finished.stdout, ""),
            // Before its first instruction has installed a handler.
            None => assert_eq!(finished.stdout, ""),
            other => panic!("after {delay_ms} ms: {other:?}\n{}", finished.stderr),
        }
        target.run();
        assert!(target.quit().success(), "after {delay_ms} ms");
    }
}
