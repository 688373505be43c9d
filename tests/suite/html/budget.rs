//! A hundred thousand distinct stacks.

use std::{fs, time::Instant};

use super::{artifacts, assert_calm, opened, scenario, text};

const STACKS: u64 = 100_000;

/// Issue's bound for the file.
const LARGEST_BYTES: u64 = 10_000_000;

/// What it takes on an idle machine is in docs/html.md; this bound is for one with other work.
const SLOWEST_MS: f64 = 15_000.0;

#[test]
fn a_hundred_thousand_stacks_fit_and_open_at_once() {
    let report = scenario::many_stacks(STACKS);
    assert_eq!(report.sites.len() as u64, STACKS);
    let start = Instant::now();
    let mut browser = opened(&report, "many-stacks.html");
    let opened_after = start.elapsed();
    let size = fs::metadata(artifacts().join("many-stacks.html")).unwrap().len();
    let ready = browser.eval("Number(document.documentElement.dataset.ready)").as_f64().unwrap();
    println!("{size} bytes; ready {ready} ms after navigation, {opened_after:?} with the writing");
    assert!(size < LARGEST_BYTES, "{size}");
    assert!(ready < SLOWEST_MS, "{ready} ms");
    let zoomed = "(() => { const start = performance.now(); \
                  document.querySelector('#flame-invert').click(); \
                  document.querySelector('#flame-box').focus(); \
                  return performance.now() - start; })()";
    let inverted = browser.eval(zoomed).as_f64().unwrap();
    println!("inverted in {inverted} ms");
    browser.key("ArrowDown");
    browser.key("ArrowDown");
    assert!(text(&mut browser, "#flame-detail").starts_with("malloc"));
    assert!(inverted < SLOWEST_MS, "{inverted} ms");
    assert_calm(browser);
}
