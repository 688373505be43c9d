//! What `cargo xtask setup` brought for the other tests: they cover "each Python" and "each glibc",
//! which means nothing where there is only one.

use std::{fs, path::Path, process::Command};

use memtrace_tests::{
    glibcs::{compile, glibcs},
    pythons::{Origin, pythons, system},
    target::Target,
};

#[test]
fn every_python_runs_with_the_library_of_its_own_version() {
    for python in pythons() {
        let script = "import ssl, sqlite3, zlib, ctypes, asyncio, sys, os; \
                      print('%d.%d.%d' % sys.version_info[:3], os.path.realpath('/proc/self/exe'))";
        let output = python.command().args(["-c", script]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let expected = format!("{} {}\n", python.version(), python.path().display());
        assert_eq!(said, expected, "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn pythons_of_other_suites_use_their_own_glibc() {
    let foreign: Vec<_> = pythons().iter().filter(|it| it.origin() == Origin::Suite).collect();
    assert!(foreign.len() >= 2, "{foreign:?}");
    for python in foreign {
        let script = "print(open('/proc/self/maps').read())";
        let output = python.command().args(["-c", script]).output().unwrap();
        let maps = String::from_utf8(output.stdout).unwrap();
        let root = python.path().ancestors().nth(3).unwrap();
        let libc = maps.lines().find(|line| line.contains("libc.so.6") || line.contains("libc-2."));
        let libc = libc.and_then(|line| line.split_whitespace().last()).unwrap();
        assert!(Path::new(libc).starts_with(root), "{libc} is not of {}", root.display());
    }
}

#[test]
fn the_systems_python_has_numpy() {
    assert!(system().has_numpy());
    for python in pythons().iter().filter(|python| python.has_numpy()) {
        let mut command = python.command_with_numpy();
        let output = command.args(["-c", "import numpy; print(numpy.ones(3).sum())"]).output();
        let output = output.unwrap();
        assert_eq!(output.stdout, b"3.0\n", "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn c_programs_run_on_glibcs_other_than_the_systems() {
    let system = Command::new("getconf").arg("GNU_LIBC_VERSION").output().unwrap();
    let system = String::from_utf8(system.stdout).unwrap();
    let glibcs = glibcs();
    assert!(glibcs.iter().any(|it| format!("glibc {}\n", it.version) != system), "{glibcs:?}");
    for glibc in glibcs {
        let directory = tempfile::tempdir().unwrap();
        let program = compile(&glibc, "ground_truth", directory.path());
        let mut target = Target::start_command(Command::new(program).args(["heap", "1"]));
        let maps = fs::read_to_string(format!("/proc/{}/maps", target.pid())).unwrap();
        let root = glibc.root.to_str().unwrap();
        let objects = maps.lines().filter(|line| line.contains("/libc"));
        assert!(objects.clone().count() > 0, "{maps}");
        assert!(objects.clone().all(|line| line.contains(root)), "{maps}");
        target.run();
    }
}
