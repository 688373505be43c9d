//! `memtrace run` of a Python script: its lines are seen from the first on.

use memtrace_tests::{
    pythons::{Python, pythons, system},
    run::{Finished, Run},
    wait_until,
};
use tempfile::TempDir;

/// Blocks that each of two lines of [`SCRIPT`] allocates, of 100,000 bytes.
const SCRIPT: &str = "import sys
kept = []
def early(count):
    for _ in range(count):
        kept.append(bytearray(100_000))
early(50)
def later(count):
    kept.extend(bytearray(100_000) for _ in range(count))
later(20)
print('ready', flush=True)
sys.stdin.readline()
";

fn script() -> (TempDir, String) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("script.py");
    std::fs::write(&path, SCRIPT).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

fn finish(run: Run) -> Finished {
    // What it does is named while it is there.
    let mut running = run.options(&["-d", "10s"]).start();
    assert!(running.output.find("ready").is_some());
    wait_until("the report is written", || running.has_report());
    running.tell("go");
    running.wait()
}

fn assert_all_lines(finished: &Finished) {
    let report = finished.report();
    for (function, count) in [("early", 50), ("later", 20)] {
        let sites = report
            .sites
            .iter()
            .filter(|site| site.stack.frames.iter().any(|frame| frame.function == function));
        let bytes: u64 = sites.map(|site| site.stats.allocated.bytes).sum();
        let large = bytes / 100_000;
        assert_eq!(large, count, "{function}: {:?}", report.completeness.notes);
    }
}

/// One of each kind: the system's, and two others.
fn some() -> Vec<&'static Python> {
    let others = [11, 13].into_iter().filter_map(|minor| {
        pythons().iter().find(|python| python.minor() == minor && python.is_shared())
    });
    let all: Vec<_> = std::iter::once(system()).chain(others).collect();
    assert!(all.len() >= 3, "Python 3.11 and 3.13 with a libpython are needed");
    all
}

#[test]
fn every_line_of_a_script_is_seen() {
    for python in some() {
        let (_directory, script) = script();
        let finished = finish(Run::of(python.path(), &["-u", &script]));
        assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
        assert_all_lines(&finished);
    }
}

#[test]
fn so_is_that_of_a_python_that_env_executes() {
    let (_directory, script) = script();
    let finished = finish(Run::of("env", &[system().path().to_str().unwrap(), "-u", &script]));
    assert_all_lines(&finished);
}
