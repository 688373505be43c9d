//! CPython's own allocator, call by call (`--pymalloc`), against a program that knows its sizes.

use memtrace_tests::{
    attach::{Attach, Finished},
    python_target::PythonTarget,
    python_truth::{Place, python_stack},
    pythons::{Python, pythons, system},
    report::{Amount, Report, Stats},
    truth::assert_complete,
};
use serde::Deserialize;

/// What a line of `known_objects.py` allocated.
#[derive(Debug, Deserialize)]
struct Line {
    name: String,
    #[serde(flatten)]
    place: Place,
    allocated: Amount,
    live: Amount,
}

impl Line {
    /// All sites whose innermost Python frame is this line. (tracemalloc calls malloc for itself,
    /// in lines that free.)
    fn seen(&self, report: &Report) -> Stats {
        let mut sum = Stats::default();
        let by_python = calls(report, "PyObject_Malloc") > 0;
        for site in &report.sites {
            let is_python = site.function.starts_with("Py");
            if is_python == by_python && python_stack(&site.stack).first() == Some(&self.place) {
                sum.allocated += site.stats.allocated;
                sum.freed += site.stats.freed;
                sum.live += site.stats.live;
            }
        }
        sum
    }

    fn assert_in(&self, report: &Report, of: &str) {
        let seen = self.seen(report);
        assert_eq!(seen.allocated, self.allocated, "{} on {of}", self.name);
        assert_eq!(seen.live, self.live, "{} on {of}", self.name);
        let freed = (seen.freed.count + self.live.count, seen.freed.bytes + self.live.bytes);
        assert_eq!(freed, (self.allocated.count, self.allocated.bytes), "{} on {of}", self.name);
    }
}

fn start(python: &Python, environment: &[(&str, &str)]) -> PythonTarget {
    let mut command = python.command();
    command.envs(environment.iter().copied());
    PythonTarget::start_with(command, "known_objects.py", &[])
}

/// Traces `known_objects.py`; asserts that each of its lines is in the report to the byte.
fn assert_exact(python: &Python, environment: &[(&str, &str)]) -> Report {
    let mut target = start(python, environment);
    let tracing = Attach::to(target.pid()).args(&["--pymalloc"]).armed();
    let truth: Vec<Line> = target.ask("run");
    let report = tracing.interrupt().report();
    assert!(target.quit().success(), "{python:?} was harmed");
    assert_complete(&report);
    assert_eq!(truth.len(), 8);
    truth.iter().for_each(|line| line.assert_in(&report, &format!("{python:?} {environment:?}")));
    report
}

fn calls(report: &Report, function: &str) -> u64 {
    report.functions.iter().find(|it| it.function == function).map_or(0, |it| it.calls)
}

fn refused(python: &Python) -> Option<Finished> {
    let target = start(python, &[]);
    let finished = Attach::to(target.pid()).args(&["--pymalloc", "-d", "100ms"]).run();
    (finished.status.code() != Some(0)).then_some(finished)
}

#[test]
fn small_objects_are_seen_to_the_byte_or_the_python_is_refused_with_a_remedy() {
    for python in pythons() {
        if let Some(finished) = refused(python) {
            eprintln!("{python:?}: {}", finished.stderr);
            finished.assert_refused(&["copies of its allocator", "PYTHONMALLOC=malloc"]);
            assert!(!python.is_shared(), "{python:?} is not optimised across functions");
            continue;
        }
        let report = assert_exact(python, &[]);
        assert!(calls(&report, "PyObject_Calloc") > 0, "{:?}", report.functions);
        // Large objects are of malloc, and are one block all the same.
        assert_eq!(calls(&report, "calloc") + calls(&report, "free"), 0, "{:?}", report.functions);
    }
}

#[test]
fn the_remedy_shows_the_same_on_every_python() {
    for python in pythons() {
        let report = assert_exact(python, &[("PYTHONMALLOC", "malloc")]);
        assert_eq!(calls(&report, "PyObject_Malloc"), 0);
        let notes = report.completeness.notes.join("\n");
        assert!(notes.contains("--pymalloc changes nothing"), "{notes}");
    }
}

#[test]
fn hooks_in_the_tables_are_followed_on_every_python() {
    for python in pythons() {
        for hook in [("PYTHONMALLOC", "debug"), ("PYTHONTRACEMALLOC", "1")] {
            let report = assert_exact(python, &[hook]);
            assert!(calls(&report, "PyObject_Calloc") > 0, "{:?}", report.functions);
        }
    }
}

#[test]
fn a_process_without_python_is_refused() {
    let target = memtrace_tests::target::Target::start("ground_truth", &["heap", "1"]);
    let finished = Attach::to(target.pid()).args(&["--pymalloc"]).run();
    finished.assert_refused(&["has mapped no CPython"]);
}

#[test]
fn without_the_option_small_objects_are_not_traced() {
    let mut target = start(system(), &[]);
    let tracing = Attach::to(target.pid()).armed();
    let _: Vec<Line> = target.ask("run");
    let report = tracing.interrupt().report();
    assert!(report.functions.iter().all(|it| !it.function.starts_with("Py")));
}
