//! Targets whose files are not ours: another mount namespace, another root, files deleted.

use std::{fs, path::Path, process::Command};

use memtrace_tests::{attach::Attach, programs, target::Target};
use tempfile::TempDir;

/// The libraries of a program and its loader, by their absolute paths.
fn libraries(program: &Path) -> Vec<String> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

/// The program in a root directory and mount namespace of its own, which `directory` is the
/// mount point of.
fn start_in_jail(directory: &TempDir, arguments: &[&str]) -> Target {
    let program = programs::path("ground_truth").canonicalize().unwrap();
    let mut command = Command::new(programs::path("jail"));
    command.arg(directory.path()).arg(&program).args(libraries(&program));
    command.arg("--").arg(&program).args(arguments);
    Target::start_command(&mut command)
}

#[test]
fn a_target_in_another_mount_namespace_is_traced() {
    let directory = TempDir::new().unwrap();
    let mut target = start_in_jail(&directory, &["heap", "4"]);
    let tracing = Attach::to(target.pid()).armed();
    let truth = target.run();
    truth.assert_same_heap(&tracing.interrupt().report());
}

#[test]
fn a_target_whose_files_were_deleted_is_traced() {
    let directory = TempDir::new().unwrap();
    let mut target = start_in_jail(&directory, &["heap", "4"]);
    let root = Path::new("/proc").join(target.pid().to_string()).join("root");
    let program = programs::path("ground_truth").canonicalize().unwrap();
    for path in libraries(&program).iter().map(Path::new).chain([program.as_path()]) {
        fs::remove_file(root.join(path.strip_prefix("/").unwrap())).unwrap();
    }
    let tracing = Attach::to(target.pid()).armed();
    let truth = target.run();
    let report = tracing.interrupt().report();
    truth.assert_same_heap(&report);
    assert!(target.quit().success());
}

/// An upgrade of libc under a running process: the path leads to another file than the one that
/// is mapped, where probes at the same offsets would corrupt instructions.
#[test]
fn a_file_that_was_replaced_under_the_target_is_not_mistaken_for_the_mapped_one() {
    let directory = TempDir::new().unwrap();
    let mut target = start_in_jail(&directory, &["heap", "1"]);
    let root = Path::new("/proc").join(target.pid().to_string()).join("root");
    let libraries = libraries(&programs::path("ground_truth"));
    let libc = libraries.iter().find(|path| path.contains("libc.so")).unwrap();
    let libc = root.join(libc.trim_start_matches('/'));
    fs::remove_file(&libc).unwrap();
    fs::copy(programs::path("ground_truth_static"), &libc).unwrap();
    let tracing = Attach::to(target.pid()).armed();
    let truth = target.run();
    truth.assert_same_heap(&tracing.interrupt().report());
    assert!(target.quit().success());
}
