//! Which line of Python keeps memory that is free, against what comes back when its objects go.

use memtrace_tests::{
    attach::Attach,
    binary::{run, stderr},
    python_target::PythonTarget,
    python_truth::Place,
    pythons::{Python, pythons, system},
    report::{ArenaPins, Report},
    truth::assert_complete,
};
use serde::Deserialize;
use tempfile::TempDir;

/// Where `pinned_arenas.py` allocates.
#[derive(Debug, Deserialize)]
struct Lines {
    pins: Place,
    others: Place,
}

/// What it says of letting objects go.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Dropped {
    before_bytes: u64,
    after_bytes: u64,
}

impl Dropped {
    fn bytes(self) -> u64 {
        self.before_bytes - self.after_bytes
    }
}

fn assert_about(predicted: u64, measured: u64, of: &str) {
    let error = predicted.abs_diff(measured) as f64 / measured as f64;
    assert!(error <= 0.02, "{of}: {predicted} predicted, {measured} measured ({error:.4})");
    eprintln!("{of}: {predicted} predicted, {measured} measured ({:.2} %)", error * 100.0);
}

/// What the blocks of a line keep of arenas.
fn arena_pins(report: &Report, place: &Place) -> ArenaPins {
    let pins = report.arena_pins.as_ref().expect("it is known where pools lie");
    let found = pins.places.iter().find(|it| it.line == Some(place.line));
    found.unwrap_or_else(|| panic!("{place:?} is not in {:?}", pins.places)).pins
}

fn is_refused(python: &Python) -> bool {
    let target = PythonTarget::start(python, "pinned_arenas.py", &[]);
    let finished = Attach::to(target.pid()).args(&["--pymalloc", "-d", "100ms"]).run();
    finished.status.code() != Some(0)
}

#[test]
fn arenas_that_a_line_keeps_come_back_when_its_objects_go() {
    let mut traced = 0;
    for python in pythons().iter().filter(|python| !is_refused(python)) {
        let mut target = PythonTarget::start(python, "pinned_arenas.py", &[]);
        let tracing = Attach::to(target.pid()).args(&["--pymalloc"]).armed();
        let lines: Lines = target.ask("work 100000");
        let report = tracing.interrupt().report();
        assert_complete(&report);
        let [pins, others] = [&lines.pins, &lines.others].map(|line| arena_pins(&report, line));
        let of = format!("Python {}", python.version());
        let dropped: Dropped = target.ask("drop pins");
        assert_about(pins.drop_bytes, dropped.bytes(), &of);
        // What both kept is given back with the last of them.
        let dropped: Dropped = target.ask("drop others");
        let both = report.arena_pins.as_ref().unwrap().trapped_bytes;
        assert!(dropped.bytes() >= others.drop_bytes, "{of}: {others:?} {dropped:?}");
        assert!(pins.trapped_bytes + others.trapped_bytes <= both, "{of}");
        assert!(pins.pin_ratio > 10.0 && pins.exclusive_bytes <= pins.trapped_bytes, "{pins:?}");
        traced += 1;
    }
    assert!(traced > 0, "no Python here lets its small objects be traced");
}

#[test]
fn without_a_trace_of_small_objects_their_sizes_are_told() {
    let directory = TempDir::new().unwrap();
    let prefix = directory.path().join("out");
    let mut target = PythonTarget::start(system(), "pinned_arenas.py", &[]);
    let tracing = Attach::to(target.pid()).output(&prefix).armed();
    let _: Lines = target.ask("work 100000");
    let report = tracing.interrupt().report();
    let pins = report.arena_pins.unwrap();
    assert!(!pins.is_traced && pins.places.is_empty(), "{pins:?}");
    let largest = &pins.unowned_sizes[0];
    // `bytes(200)` and its header.
    assert!((233..=240).contains(&largest.block_bytes), "{:?}", pins.unowned_sizes);
    let all = report.heap.unwrap().pymalloc[0].resident.trapped_bytes;
    assert_eq!(pins.trapped_bytes, all);
    let capture = directory.path().join("out.memtrace");
    let arguments = ["report", capture.to_str().unwrap(), "--view", "trapped", "--format"];
    let output = run(&[&arguments, &["folded"][..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let folded = String::from_utf8(output.stdout).unwrap();
    assert!(folded.contains("[Python objects that were not traced]"), "{folded}");
}
