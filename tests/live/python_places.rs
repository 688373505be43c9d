//! Python where a tool may not look for it: the lines of a program have exactly the survivors that
//! it counts, wherever its interpreter's files are, and whoever started it.

use std::{fs, path::Path, process::Command};

use memtrace_tests::{
    attach::Attach,
    programs,
    python_homes::{Copied, container, embedder, virtual_environment},
    python_target::PythonTarget,
    python_truth::{KnownLine, group_place},
    pythons::{Origin, Python, pythons},
    report::Report,
    truth::assert_complete,
};
use tempfile::TempDir;

/// Asserts that all lines of `known_lines` are in the report to the byte, with their whole stacks,
/// and the one with the most bytes first.
fn assert_exact(truth: &[KnownLine], report: &Report) {
    assert_complete(report);
    assert_eq!(truth.len(), 8);
    for line in truth {
        line.assert_in_sites(report);
        line.assert_in_groups(report);
    }
    let most = truth.iter().max_by_key(|line| line.survivors.bytes).unwrap();
    assert_eq!(group_place(&report.groups[0]).as_ref(), Some(&most.place));
}

/// Traces a process of the target while the target allocates.
fn assert_exact_of(target: &mut PythonTarget, pid: u32, python: &Python) -> Report {
    eprintln!("{python:?}");
    let tracing = Attach::to(pid).armed();
    let truth: Vec<KnownLine> = target.ask("allocate");
    let report = tracing.interrupt().report();
    let found = report.target.python.as_ref().unwrap_or_else(|| panic!("{python:?} is not seen"));
    assert_eq!((&found.version, &found.refused), (&Some(python.version()), &None));
    assert_exact(&truth, &report);
    report
}

fn start(command: Command) -> PythonTarget {
    PythonTarget::start_with(command, "known_lines.py", &[])
}

#[test]
fn in_a_virtual_environment() {
    for (python, copied) in pythons().iter().flat_map(|it| [(it, false), (it, true)]) {
        // Its own dynamic linker finds the libraries of a Debian suite by the executable's place.
        if copied && python.origin() == Origin::Suite {
            continue;
        }
        let directory = TempDir::new().unwrap();
        let mut target = start(virtual_environment(python, directory.path(), copied));
        let pid = target.pid();
        assert_exact_of(&mut target, pid, python);
        assert!(target.quit().success(), "{python:?} was harmed");
    }
}

#[test]
fn in_a_container_that_alone_has_it() {
    let of_suites = pythons().iter().filter(|it| it.origin() == Origin::Suite && it.minor() > 9);
    let mut tried = 0;
    for python in of_suites {
        let directory = TempDir::new().unwrap();
        let program = programs::python("known_lines.py");
        let mut target = start(container(python, directory.path(), program.parent().unwrap()));
        let pid = target.child();
        let report = assert_exact_of(&mut target, pid, python);
        let path = "/opt/app/bin/python3";
        assert_eq!(report.target.python.unwrap().path, path);
        assert!(!Path::new(path).exists());
        assert!(target.quit().success(), "{python:?} was harmed");
        tried += 1;
    }
    assert!(tried > 0, "no Python of another suite is here");
}

/// As after an upgrade of the package.
fn assert_exact_without_its_files(and_then: impl Fn(&Path)) {
    for python in pythons() {
        let directory = TempDir::new().unwrap();
        let copied = Copied::of(python, directory.path());
        let mut target = start(copied.command(python));
        for file in &copied.files {
            fs::remove_file(file).unwrap();
            and_then(file);
        }
        let pid = target.pid();
        assert_exact_of(&mut target, pid, python);
        assert!(target.quit().success(), "{python:?} was harmed");
    }
}

#[test]
fn whose_files_were_deleted() {
    assert_exact_without_its_files(|_| {});
}

#[test]
fn whose_files_were_replaced_by_those_of_another_version() {
    assert_exact_without_its_files(|file| {
        let name = file.file_name().unwrap().to_str().unwrap();
        let is_other = |other: &&Python| !name.contains(&format!("3.{}", other.minor()));
        let other = pythons().iter().find(is_other).unwrap();
        fs::copy(other.path(), file).unwrap();
    });
}

#[test]
fn embedded_in_a_c_program_of_another_name() {
    let mut embedded = 0;
    for python in pythons() {
        let directory = TempDir::new().unwrap();
        let Some(command) = embedder(python, directory.path()) else { continue };
        let mut target = start(command);
        let pid = target.pid();
        assert_exact_of(&mut target, pid, python);
        assert!(target.quit().success(), "{python:?} was harmed");
        embedded += 1;
    }
    assert!(embedded > 0, "no Python here has a library to link");
}

#[test]
fn in_a_worker_that_was_forked() {
    for python in pythons() {
        let mut target = PythonTarget::start(python, "workers.py", &[]);
        let pid = target.child();
        assert_exact_of(&mut target, pid, python);
        assert!(target.quit().success(), "{python:?} was harmed");
    }
}

/// A Python of one version executes one of another while it is traced.
#[test]
fn that_another_python_was_executed_for() {
    let next = pythons().iter().cycle().skip(1);
    for (python, other) in pythons().iter().zip(next) {
        eprintln!("{python:?} executes {other:?}");
        let mut target = PythonTarget::start(python, "execs.py", &[]);
        let tracing = Attach::to(target.pid()).armed();
        let _: Vec<KnownLine> = target.ask("allocate");
        let (path, program) = (other.path().display(), programs::python("known_lines.py"));
        target.tell(&format!("become {path} -B -s -u {}", program.display()));
        target.wait_until_ready();
        // What is allocated before the new program was looked at has no Python frames.
        std::thread::sleep(std::time::Duration::from_secs(2));
        let truth: Vec<KnownLine> = target.ask("allocate");
        let report = tracing.interrupt().report();
        assert_eq!(report.completeness.execs, 1);
        assert_eq!(report.target.python.as_ref().unwrap().version, Some(other.version()));
        truth.iter().for_each(|line| line.assert_in_sites(&report));
        assert!(target.quit().success(), "{other:?} was harmed");
    }
}

#[test]
fn pypy_is_refused_by_name_and_the_rest_is_traced() {
    let mut command = Command::new("pypy3");
    command.args(["-B", "-s", "-u"]).env_remove("PYTHONHOME").env_remove("PYTHONPATH");
    let mut target = PythonTarget::start_with(command, "pypy.py", &[]);
    let tracing = Attach::to(target.pid()).armed();
    let allocated: u64 = target.ask("allocate");
    let report = tracing.interrupt().report();
    assert_complete(&report);
    let refused = report.target.python.as_ref().unwrap().refused.as_deref().unwrap();
    assert!(refused.contains("PyPy"), "{refused}");
    let notes = report.completeness.notes.join("\n");
    assert!(notes.contains("Python frames are missing") && notes.contains("PyPy"), "{notes}");
    let live = report.totals.survivors.bytes;
    assert!(live >= allocated && live < allocated + allocated / 10, "{live} of {allocated}");
    assert!(target.quit().success(), "PyPy was harmed");
}
