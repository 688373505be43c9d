//! Python, beside the tools that others trust: py-spy for stacks, memray for bytes.

use std::process::Command;

use memtrace_tests::{
    attach::Attach,
    programs,
    python_target::PythonTarget,
    python_truth::{Place, group_place, python_stack},
    pythons::{pythons, system},
    report::Amount,
};
use serde::{Deserialize, de::DeserializeOwned};

/// A thread, as `py-spy dump --json` has it.
#[derive(Deserialize)]
struct SpiedThread {
    frames: Vec<SpiedFrame>,
}

#[derive(Deserialize)]
struct SpiedFrame {
    name: String,
    filename: String,
    line: u32,
}

impl From<SpiedFrame> for Place {
    fn from(frame: SpiedFrame) -> Self {
        Self { function: frame.name, file: frame.filename, line: frame.line }
    }
}

/// What a command that succeeds prints.
fn json<T: DeserializeOwned>(command: &mut Command) -> T {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn py_spy(pid: u32) -> Vec<Place> {
    let mut command = Command::new(system().package("py-spy").join("bin/py-spy"));
    let threads: [SpiedThread; 1] =
        json(command.args(["dump", "--json", "--pid", &pid.to_string()]));
    let [thread] = threads;
    thread.frames.into_iter().map(Place::from).collect()
}

#[test]
fn a_stack_is_the_one_that_py_spy_sees_where_the_process_stands() {
    for python in pythons() {
        let mut target = PythonTarget::start(python, "halting.py", &[]);
        let tracing = Attach::to(target.pid()).armed();
        let itself: Vec<Place> = target.ask("halt");
        let spied = py_spy(target.pid());
        let report = tracing.interrupt().report();
        // The process has gone one call further since it allocated.
        assert_eq!(spied[0].function, "wait_there");
        assert_eq!(spied[1..], itself);
        let mut sites = report.sites.iter().filter(|site| python_stack(&site.stack) == spied[1..]);
        let block = Amount { bytes: 77_001, count: 1 };
        let stacks = || report.sites.iter().map(|site| &site.stack).collect::<Vec<_>>();
        assert!(sites.any(|site| site.stats.live == block), "{python:?}: {:#?}", stacks());
    }
}

/// A line, as `memray_lines.py` prints it. memray has bare names of functions.
#[derive(Deserialize)]
struct MemrayLine {
    function: String,
    file: String,
    line: u32,
    survivors: Amount,
}

fn memray() -> Vec<MemrayLine> {
    let directory = tempfile::tempdir().unwrap();
    let record = directory.path().join("record");
    let python = || system().command_with_package("memray");
    let mut run = python();
    run.args(["-m", "memray", "run", "--quiet", "--output"]).arg(&record);
    let output = run.arg(programs::python("known_lines.py")).arg("--once").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    json(python().arg(programs::python("memray_lines.py")).arg(record))
}

#[test]
fn lines_have_the_bytes_that_memray_counts() {
    let mut target = PythonTarget::start(system(), "known_lines.py", &[]);
    let tracing = Attach::to(target.pid()).armed();
    target.ask::<serde_json::Value>("allocate");
    let report = tracing.interrupt().report();
    // Below are what memray itself and the answer allocate.
    let lines = memray().into_iter().filter(|line| line.survivors.bytes >= 50_000);
    let lines: Vec<_> = lines.collect();
    assert_eq!(lines.len(), 8);
    for (rank, line) in lines.iter().enumerate() {
        let group = &report.groups[rank];
        let place = group_place(group).unwrap();
        assert_eq!((&place.file, place.line), (&line.file, line.line), "rank {rank}");
        assert!(place.function.ends_with(&line.function), "{place:?}, {}", line.function);
        let share = group.survivors.bytes as f64 / line.survivors.bytes as f64;
        assert!((0.99..=1.01).contains(&share), "{place:?}: {share}");
    }
}
