//! Leaks in programs that are so busy that the default mode looks at them in short bursts only: what is
//! kept must not be hidden behind what only seemed to stay.

use std::{thread, time::Duration};

use memtrace_tests::{
    attach::Attach, python_target::PythonTarget, pythons::system, report::SiteReport,
};
use serde::Deserialize;

/// As long as an engineer would wait.
const WINDOW: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize)]
struct Answer {
    kept: u64,
}

fn leads_through(site: &SiteReport, function: &str) -> bool {
    site.stack.frames.iter().any(|frame| frame.function == function)
}

/// The first site of a window in the default mode leads through this function.
fn assert_first(service: &str, function: &str) {
    let mut target = PythonTarget::start(system(), "busy_leaks.py", &[]);
    target.tell(&format!("{service} {}", (WINDOW + Duration::from_secs(5)).as_secs()));
    let tracing = Attach::to(target.pid()).args(&["--max-overhead", "10%"]).armed();
    thread::sleep(WINDOW);
    let report = tracing.interrupt().report();
    let cost = report.cost.expect("what it cost is reported");
    let setting = cost.setting.clone().unwrap_or_default();
    assert!(setting.ends_with("in short bursts"), "not what is to be tested: {cost:?}");
    let answer: Answer = target.answer();
    assert!(answer.kept > 0, "the program has kept nothing");
    let seen: Vec<_> = report.sites.iter().take(3).map(|site| (&site.stack, &site.stats)).collect();
    assert!(leads_through(&report.sites[0], function), "{answer:?} {cost:?} {seen:#?}");
}

#[test]
fn a_version_that_is_kept_is_told_from_models_that_are_replaced_by_the_same_lines() {
    assert_first("models", "keep_version");
}

#[test]
fn a_buffer_that_is_kept_is_told_from_buffers_that_are_passed_on() {
    assert_first("pusher", "keep_for_replay");
}
