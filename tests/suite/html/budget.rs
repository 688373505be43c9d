//! A hundred thousand distinct stacks.

use std::{fs, time::Instant};

use super::{opened, scenario, write};

const STACKS: u64 = 100_000;

#[test]
fn a_hundred_thousand_stacks_fit_and_open_at_once() {
    let report = scenario::many_stacks(STACKS);
    assert_eq!(report.sites.len() as u64, STACKS);
    let start = Instant::now();
    let file = write(&report, "many-stacks.html");
    let written = start.elapsed();
    let size = fs::metadata(&file).unwrap().len();
    let mut browser = opened(&file);
    let ready = browser.eval("Number(document.documentElement.dataset.ready)").as_f64().unwrap();
    println!("{size} bytes, written in {written:?}, ready in {ready} ms");
    assert_eq!(browser.complaints(), [""; 0]);
    assert!(size < 10_000_000, "{size}");
}
