//! Python whose stacks or thread states are exchanged while it runs: greenlets, gevent, uvloop,
//! subinterpreters.

use memtrace_tests::{
    attach::Attach,
    python_target::PythonTarget,
    python_truth::{KnownLine, group_place},
    pythons::{Python, pythons, system},
    report::Report,
    truth::assert_complete,
};

/// Traces one command of a program that needs a package.
fn trace(package: &str, program: &str, command: &str) -> (Vec<KnownLine>, Report) {
    let with_package = system().command_with_package(package);
    let mut target = PythonTarget::start_with(with_package, program, &[]);
    let tracing = Attach::to(target.pid()).armed();
    let truth = target.ask(command);
    let report = tracing.interrupt().report();
    assert!(target.quit().success(), "{program} was harmed");
    assert_complete(&report);
    (truth, report)
}

fn assert_exact(truth: &[KnownLine], lines: usize, report: &Report) {
    assert_eq!(truth.len(), lines);
    for line in truth {
        line.assert_in_sites(report);
        line.assert_in_groups(report);
    }
}

#[test]
fn greenlets_have_their_own_stacks() {
    let (truth, report) = trace("gevent", "greenlets.py", "switch");
    assert_exact(&truth, 3, &report);
}

#[test]
fn handlers_of_gevent_have_their_own_stacks() {
    let (truth, report) = trace("gevent", "greenlets.py", "gevent");
    assert_exact(&truth, 2, &report);
}

#[test]
fn coroutines_on_uvloop_have_the_stack_of_who_awaits_them() {
    let (truth, report) = trace("uvloop", "uv.py", "run");
    assert_exact(&truth, 3, &report);
}

fn trace_subinterpreter(python: &Python) -> (Vec<KnownLine>, Report) {
    eprintln!("{python:?}");
    let mut target = PythonTarget::start(python, "subinterpreters.py", &[]);
    let tracing = Attach::to(target.pid()).armed();
    let truth: Vec<KnownLine> = target.ask("allocate");
    let report = tracing.interrupt().report();
    assert!(target.quit().success(), "{python:?} was harmed");
    (truth, report)
}

#[test]
fn lines_of_a_subinterpreter_are_exact_since_3_12() {
    for python in pythons().iter().filter(|python| python.minor() >= 12) {
        let (truth, report) = trace_subinterpreter(python);
        assert_exact(&truth, 8, &report);
        assert_eq!(report.completeness.notes, [] as [&str; 0]);
    }
}

/// Its memory is on the line that runs it, and no line has what is not its own.
#[test]
fn lines_of_a_subinterpreter_are_said_to_be_missing_up_to_3_11() {
    for python in pythons().iter().filter(|python| python.minor() <= 11) {
        let (truth, report) = trace_subinterpreter(python);
        let notes = report.completeness.notes.join("\n");
        assert!(notes.contains("more than one interpreter"), "{python:?}: {notes}");
        let runs_it = group_place(&report.groups[0]).unwrap();
        assert_eq!(runs_it.function, "allocate");
        assert!(runs_it.file.ends_with("/subinterpreters.py"), "{runs_it:?}");
        let bytes: u64 = truth.iter().map(|line| line.survivors.bytes).sum();
        assert!(report.groups[0].survivors.bytes >= bytes, "{:?} of {bytes}", report.groups[0]);
    }
}
