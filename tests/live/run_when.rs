//! `memtrace run --when`: a command that is traced only when a condition is met.

use std::fs;

use memtrace_tests::{
    programs,
    run::{Ran, Run},
    wait_until,
    watch::{report, top_function},
};
use rustix::process::Signal;
use tempfile::TempDir;

/// It grows by 20 MB a second, until it is ended.
fn growing(condition: &str, hook: &str) -> Ran {
    let options = ["--when", condition, "-d", "500ms", "--cool-down", "10m", "--exec", hook];
    Run::of(programs::path("grower"), &["20000000"]).options(&options).start()
}

#[test]
fn a_condition_has_its_capture_and_the_command_goes_on_and_gets_its_signals() {
    let directory = TempDir::new().unwrap();
    let mask = directory.path().join("mask");
    let hook = format!("grep SigBlk /proc/self/status > {}", mask.display());
    for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let ran = growing("rss>30MiB", &hook);
        let has_mask = || fs::read_to_string(&mask).is_ok_and(|it| it.ends_with('\n'));
        wait_until("the hook was run", has_mask);
        let held_back = fs::read_to_string(&mask).unwrap();
        assert_eq!(held_back, "SigBlk:\t0000000000000000\n", "it gets no signals");
        fs::remove_file(&mask).unwrap();
        let capture = report(&ran.captures()[0]);
        assert_eq!(top_function(&capture), "keep_forever");
        assert_eq!(capture["incident"]["fired"]["condition"], "rss>30MiB");
        assert_eq!(capture["window"]["ended_by"], "duration", "the command went on");
        ran.signal(signal);
        let finished = ran.wait();
        assert_eq!(finished.status.code(), Some(status), "{}", finished.stderr);
    }
}

#[test]
fn without_a_firing_there_is_no_capture_and_the_status_and_the_output_are_the_commands() {
    let mut ran = Run::of("sh", &["-c", "read word; echo $word; exit 7"])
        .options(&["--when", "rss>1TiB"])
        .start();
    ran.tell("said");
    assert_eq!(ran.output.next_line().as_deref(), Some("said"));
    assert!(ran.captures().is_empty());
    let finished = ran.wait();
    assert_eq!(finished.status.code(), Some(7), "{}", finished.stderr);
}

#[test]
fn what_cannot_be_watched_is_not_started() {
    let finished = Run::of("echo", &["started"]).options(&["--when", "rss>x"]).wait();
    finished.assert_not_started(2, &["rss>x"]);
    let nowhere = ["--when", "rss>1GiB", "-o", "/proc/nowhere"];
    let finished = Run::of("echo", &["started"]).options(&nowhere).wait();
    finished.assert_not_started(2, &["choose another --output"]);
}
