//! Python: whose line of source it was, for each CPython here. The truth is what the interpreter
//! itself says of its stack in the very line that allocates.

use memtrace_tests::{
    attach::Attach,
    python_target::PythonTarget,
    python_truth::{KnownLine, group_place, python_stack},
    pythons::{Python, pythons, system},
    report::{Language, Report, SiteReport},
    truth::assert_complete,
};

/// Traces one command of a program.
fn trace(
    python: &Python,
    program: &str,
    command: &str,
    options: &[&str],
) -> (Vec<KnownLine>, Report) {
    let mut target = PythonTarget::start(python, program, &[]);
    let tracing = Attach::to(target.pid()).args(options).armed();
    let truth = target.ask(command);
    let report = tracing.interrupt().report();
    assert!(target.quit().success(), "{program} was harmed on {python:?}");
    assert_complete(&report);
    (truth, report)
}

/// Asserts that each stack and its survivors are in the report, on each Python.
fn assert_known_stacks(program: &str, lines: usize) {
    for python in pythons() {
        eprintln!("{program} on {python:?}");
        let (truth, report) = trace(python, program, "run", &[]);
        assert_eq!(truth.len(), lines);
        truth.iter().for_each(|line| line.assert_in_sites(&report));
    }
}

fn natives(site: &SiteReport) -> usize {
    site.stack.frames.iter().filter(|frame| frame.language == Language::Native).count()
}

/// Python frames are in its place.
fn assert_no_interpreter_loop(python: &Python, site: &SiteReport) {
    let names = site.stack.frames.iter().map(|frame| &frame.function);
    let loops = names.filter(|name| name.starts_with("_PyEval_EvalFrameDefault")).count();
    assert_eq!(loops, 0, "{python:?}: {:#?}", site.stack);
}

#[test]
fn every_python_is_recognized_with_its_version() {
    for python in pythons() {
        let mut target = PythonTarget::start(python, "known_lines.py", &[]);
        let report = Attach::to(target.pid()).args(&["-d", "100ms"]).run().report();
        let found = report.target.python.unwrap_or_else(|| panic!("{python:?} is not seen"));
        assert_eq!(found.refused, None, "{python:?}");
        assert_eq!(found.version, Some(python.version()), "{python:?}");
        assert!(target.quit().success());
    }
}

#[test]
fn lines_have_exactly_the_survivors_that_the_program_counts() {
    for python in pythons() {
        eprintln!("{python:?}");
        let (truth, report) = trace(python, "known_lines.py", "allocate", &[]);
        assert_eq!(truth.len(), 8);
        for line in &truth {
            line.assert_in_sites(&report);
            line.assert_in_groups(&report);
        }
        let most = truth.iter().max_by_key(|line| line.survivors.bytes).unwrap();
        assert_eq!(group_place(&report.groups[0]).as_ref(), Some(&most.place));
    }
}

#[test]
fn coroutines_and_generators_have_the_stack_of_who_awaits_them() {
    assert_known_stacks("coroutines.py", 6);
}

#[test]
fn python_that_c_calls_has_the_stack_of_who_called_c() {
    assert_known_stacks("callbacks.py", 9);
}

/// A process that uses numpy allocates weights by numpy's own allocator functions; another by
/// those of Python.
fn assert_the_leak_is_found(python: &Python, mut target: PythonTarget, with_numpy: bool) {
    let tracing = Attach::to(target.pid()).armed();
    let truth: KnownLine = target.ask("deploy 5 0.2");
    let report = tracing.interrupt().report();
    assert!(target.quit().success());
    assert_complete(&report);
    assert_eq!(truth.survivors.count, 5);
    assert_eq!(group_place(&report.groups[0]).as_ref(), Some(&truth.place), "{python:?}");
    if !with_numpy {
        truth.assert_in_groups(&report);
        return truth.assert_in_sites(&report);
    }
    // numpy's own frames are inside of the line that calls it, and its shapes are on the heap, too.
    let group = report.groups[0].survivors;
    let share = group.bytes as f64 / truth.survivors.bytes as f64;
    assert!((1.0..1.001).contains(&share) && group.count >= 5, "{group:?} of {truth:?}");
    let weights = report.sites.iter().max_by_key(|site| site.survivors.bytes).unwrap();
    assert_eq!(weights.stats.live, truth.survivors);
    assert!(python_stack(&weights.stack).ends_with(&truth.stack), "{:#?}", weights.stack);
    let caller = &weights.stack.frames[0];
    assert!(caller.module.contains("multiarray"), "numpy allocates: {caller:?}");
}

#[test]
fn the_line_that_leaks_models_is_the_first_that_is_named() {
    for python in pythons() {
        let arguments = ["--bytearrays"];
        let target = PythonTarget::start(python, "model_server.py", &arguments);
        assert_the_leak_is_found(python, target, false);
    }
}

#[test]
fn the_line_that_leaks_models_of_numpy_is_the_first_that_is_named() {
    let with_numpy: Vec<_> = pythons().iter().filter(|python| python.has_numpy()).collect();
    assert!(!with_numpy.is_empty());
    for python in with_numpy {
        let command = python.command_with_numpy();
        let target = PythonTarget::start_with(command, "model_server.py", &[]);
        assert_the_leak_is_found(python, target, true);
    }
}

#[test]
fn what_extensions_allocate_without_the_gil_has_its_thread_and_line() {
    for python in pythons() {
        let (truth, report) = trace(python, "nogil.py", "run", &[]);
        assert_eq!(truth.len(), 2);
        for line in &truth {
            let seen = line.seen(&report);
            assert!(seen.bytes >= line.survivors.bytes, "{python:?}: {seen:?} of {line:#?}");
            let library = if line.name == "zlib" { "libz" } else { "libsqlite3" };
            let of_library = line.sites(&report).flat_map(|site| &site.stack.frames);
            let of_library = of_library.filter(|frame| frame.module.contains(library)).count();
            assert!(of_library > 0, "{python:?}: no native frame of {library} below {line:?}");
        }
    }
}

#[test]
fn a_recursion_that_is_too_deep_says_that_its_root_is_missing() {
    for python in pythons() {
        let (truth, report) = trace(python, "recursion.py", "run 300", &[]);
        let [bottom] = &truth[..] else { panic!("{truth:?}") };
        bottom.assert_in_groups(&report);
        let is_bottom = |site: &&SiteReport| {
            python_stack(&site.stack).first() == Some(&bottom.place)
                && site.stats.live == bottom.survivors
        };
        let site = report.sites.iter().find(is_bottom).unwrap();
        let seen = python_stack(&site.stack);
        assert!(seen.len() >= 64 && seen.len() < bottom.stack.len(), "{} frames", seen.len());
        assert!(bottom.stack.starts_with(&seen), "{python:?}: {seen:#?}");
        let missing = site.stack.missing_root.as_deref().unwrap();
        assert!(missing.contains("truncated"), "{missing}");
        assert_no_interpreter_loop(python, site);
    }
}

#[test]
fn without_python_frames_there_are_only_native_ones() {
    let (truth, report) = trace(system(), "known_lines.py", "allocate", &["--python", "none"]);
    let languages = report.sites.iter().flat_map(|site| &site.stack.frames);
    assert_eq!(languages.filter(|frame| frame.language == Language::Python).count(), 0);
    let expected: u64 = truth.iter().map(|line| line.survivors.bytes).sum();
    assert!(report.totals.survivors.bytes >= expected, "{:?}", report.totals);
}

#[test]
fn with_only_python_frames_no_native_ones_are_beside_them() {
    let (truth, report) = trace(system(), "callbacks.py", "run", &["--python", "only"]);
    truth.iter().for_each(|line| line.assert_in_sites(&report));
    for site in report.sites.iter().filter(|site| !python_stack(&site.stack).is_empty()) {
        assert_eq!(natives(site), 0, "{:#?}", site.stack);
    }
}

#[test]
fn merged_stacks_keep_what_python_calls_and_lose_the_interpreters_loop() {
    for python in pythons() {
        let (truth, report) = trace(python, "callbacks.py", "run", &["--python", "merged"]);
        for site in truth.iter().flat_map(|line| line.sites(&report)) {
            assert_eq!(site.stack.frames[0].language, Language::Native, "malloc's own caller");
            assert_no_interpreter_loop(python, site);
        }
    }
}

#[test]
fn names_and_lines_outlive_the_process() {
    let mut target = PythonTarget::start(system(), "callbacks.py", &[]);
    let tracing = Attach::to(target.pid()).armed();
    let truth: Vec<KnownLine> = target.ask("run");
    target.quit();
    let report = tracing.wait().report();
    for line in &truth {
        assert!(line.sites(&report).count() > 0, "{line:#?}");
    }
}
