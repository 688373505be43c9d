//! A hundred thousand distinct stacks.

use std::{fs, time::Duration};

use memtrace_tests::browser::Browser;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use super::{assert_calm, empty, scenario, show, text, write};

const STACKS: u64 = 100_000;

/// As docs/html.md promises.
const LARGEST_BYTES: u64 = 10_000_000;

/// To write it; without optimization it takes about three times as long.
const LONGEST_WRITE: Duration = Duration::from_secs(if cfg!(debug_assertions) { 15 } else { 5 });

/// To open it, in processor time of the page's thread: other work of the machine does not count.
const SLOWEST_S: f64 = 2.0;

#[test]
fn a_hundred_thousand_stacks_fit_and_open_at_once() {
    let report = scenario::many_stacks(STACKS);
    assert_eq!(report.sites.len() as u64, STACKS);
    let start = own_time();
    let file = write(&report, "many-stacks.html");
    let written = own_time() - start;
    let mut browser = empty();
    browser.call("Performance.enable", json!({ "timeDomain": "threadTicks" }));
    show(&mut browser, &file);
    let size = fs::metadata(&file).unwrap().len();
    let opened = thread_time(&mut browser);
    let wall = browser.text("document.documentElement.dataset.ready");
    browser.eval("document.querySelector('#flame-invert').click()");
    let inverted = thread_time(&mut browser) - opened;
    println!(
        "{size} bytes written in {written:?} of CPU; opened in {opened} s of CPU, {wall} ms; "
    );
    println!("inverted in {inverted} s of CPU");
    assert!(size < LARGEST_BYTES, "{size}");
    assert!(written < LONGEST_WRITE, "{written:?}");
    assert!(opened < SLOWEST_S && inverted < SLOWEST_S, "{opened} s, {inverted} s");
    browser.eval("document.querySelector('#flame-box').focus()");
    browser.key("ArrowDown");
    browser.key("ArrowDown");
    assert!(text(&mut browser, "#flame-detail").starts_with("malloc"));
    assert_calm(browser);
}

/// What this thread has had of a CPU.
fn own_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

/// Seconds of CPU that the page's thread has had.
fn thread_time(browser: &mut Browser) -> f64 {
    let metrics = browser.call("Performance.getMetrics", json!({}))["metrics"].clone();
    let metrics = metrics.as_array().unwrap();
    let time = metrics.iter().find(|metric| metric["name"] == "ThreadTime").unwrap();
    time["value"].as_f64().unwrap()
}
