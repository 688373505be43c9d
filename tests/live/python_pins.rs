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

/// Every other one of those that are here: layouts of pools differ with 3.10, and little besides.
fn some_pythons() -> impl Iterator<Item = &'static Python> {
    pythons().iter().step_by(2)
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

/// `unit_bytes` are given back at once or not at all: one of them may get an object of the program's
/// end meanwhile.
fn assert_about(predicted: u64, measured: u64, unit_bytes: u64, of: &str) {
    let error = predicted.abs_diff(measured) as f64 / measured as f64;
    let is_about = error <= 0.02 || predicted.abs_diff(measured) <= unit_bytes;
    assert!(is_about, "{of}: {predicted} predicted, {measured} measured ({error:.4})");
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
    for python in some_pythons().filter(|python| !is_refused(python)) {
        let mut target = PythonTarget::start(python, "pinned_arenas.py", &[]);
        let tracing = Attach::to(target.pid()).args(&["--pymalloc"]).armed();
        let lines: Lines = target.ask("work 100000");
        let report = tracing.interrupt().report();
        assert_complete(&report);
        let [pins, others] = [&lines.pins, &lines.others].map(|line| arena_pins(&report, line));
        let of = format!("Python {}", python.version());
        let dropped: Dropped = target.ask("drop pins");
        assert_about(pins.drop_bytes, dropped.bytes(), 1 << 20, &of);
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

/// Where `pinned_buffers.py` allocates.
#[derive(Debug, Deserialize)]
struct Buffers {
    buffers: Place,
    pins: Place,
}

/// What RSS would drop by, in glibc's heap.
fn heap_drop(report: &Report, place: &Place) -> u64 {
    let blame = report.blame.as_ref().expect("the heap was walked");
    let line = format!(":{})", place.line);
    let found = blame.culprits.iter().find(|it| it.name.ends_with(&line));
    found.unwrap_or_else(|| panic!("{place:?} is not in {:?}", blame.culprits)).drop_bytes
}

#[test]
fn what_a_line_of_python_pins_in_glibcs_heap_comes_back_when_it_goes() {
    for python in some_pythons() {
        let mut target = PythonTarget::start(python, "pinned_buffers.py", &[]);
        let tracing = Attach::to(target.pid()).armed();
        let lines: Buffers = target.ask("work 16000");
        let report = tracing.interrupt().report();
        let of = format!("Python {}", python.version());
        let (pins, buffers) = (heap_drop(&report, &lines.pins), heap_drop(&report, &lines.buffers));
        assert!(pins > 20 * buffers, "{of}: {pins} and {buffers}");
        let dropped: Dropped = target.ask("drop pins");
        assert_about(pins, dropped.bytes(), 0, &of);
    }
}

#[test]
fn the_page_and_the_flamegraph_have_what_is_trapped() {
    let directory = TempDir::new().unwrap();
    let prefix = directory.path().join("out");
    let mut target = PythonTarget::start(system(), "pinned_buffers.py", &[]);
    let tracing = Attach::to(target.pid()).output(&prefix).armed();
    let lines: Buffers = target.ask("work 4000");
    let report = tracing.interrupt().report();
    let trapped: u64 = report.blame.as_ref().unwrap().trapped_bytes;
    let small = report.arena_pins.as_ref().map_or(0, |pins| pins.trapped_bytes);
    let capture = directory.path().join("out.memtrace");
    let show = |options: &[&str]| {
        let output = run(&[&["report", capture.to_str().unwrap()], options].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        output.stdout
    };
    let text = |options: &[&str]| String::from_utf8(show(options)).unwrap();
    let folded = text(&["--view", "trapped", "--format", "folded"]);
    let bytes = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
    assert_eq!(folded.lines().map(bytes).sum::<u64>(), trapped + small);
    let label = format!("work (pinned_buffers.py:{})", lines.pins.line);
    assert!(folded.lines().next().unwrap().contains(&label), "{folded}");
    let picture = text(&["--view", "trapped", "--format", "svg"]);
    assert!(picture.contains("free memory trapped:") && picture.contains(&label), "{picture}");
    let page = text(&["--format", "html", "-o", "-"]);
    assert!(page.contains(r#""pins":[{"name":"work (pinned_buffers.py:"#), "no pins on the page");
    for format in ["pprof", "otlp", "speedscope"] {
        assert!(!show(&["--view", "trapped", "--format", format, "-o", "-"]).is_empty());
    }
    let output = run(&["report", capture.to_str().unwrap(), "--view", "trapped", "--site", "work"]);
    assert!(stderr(&output).contains("all blocks together"), "{}", stderr(&output));
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
