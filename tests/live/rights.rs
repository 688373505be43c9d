//! With how few rights memtrace works, and what it says of those that are missing.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use memtrace_tests::{attach::Attach, binary::memtrace, programs, target::Target};
use serde_json::Value;
use tempfile::TempDir;

use crate::inspect::containers::Container;

const NOBODY: u32 = 65534;

/// As docs/containers.md and the files of deploy/ give them.
const ENOUGH: [&str; 4] = ["bpf", "perfmon", "sys_ptrace", "dac_read_search"];

/// A directory that all may look into, with a memtrace that is root by name and has only `rights`.
fn memtrace_with(rights: &[&str]) -> (TempDir, PathBuf) {
    let bounding: String = rights.iter().map(|right| format!(",+{right}")).collect();
    script(&format!(
        "exec setpriv --bounding-set -all{bounding} --inh-caps -all '{}' \"$@\"",
        memtrace().display()
    ))
}

fn script(text: &str) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = directory.path().join("memtrace");
    fs::write(&path, format!("#!/bin/sh\nset -e\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    (directory, path)
}

/// A program of somebody else's, from a place that they may look into.
fn target_of_nobody(directory: &Path) -> Target {
    let program = directory.join("ground_truth");
    fs::copy(programs::path("ground_truth"), &program).unwrap();
    Target::start_command(Command::new(program).args(["heap", "4"]).uid(NOBODY).gid(NOBODY))
}

#[test]
fn four_capabilities_are_enough_for_everything() {
    let (directory, memtrace) = memtrace_with(&ENOUGH);
    let mut target = target_of_nobody(directory.path());
    let tracing = Attach::to(target.pid()).by(&memtrace).armed();
    let truth = target.run();
    let report = tracing.interrupt().report();
    truth.assert_same_heap(&report);
    let pid = target.pid().to_string();
    for command in ["inspect", "doctor"] {
        let output = Command::new(&memtrace).args([command, "-p", &pid]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{command}: {stderr}");
    }
    assert!(target.quit().success());
}

#[test]
fn growth_is_followed_with_the_same_four() {
    let (directory, memtrace) = memtrace_with(&ENOUGH);
    let mut target = target_of_nobody(directory.path());
    let tracing = Attach::to(target.pid()).by(&memtrace).args(&["--growth"]).armed();
    target.run();
    let finished = tracing.interrupt();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
}

/// What each is needed for is said when it is not there.
#[test]
fn each_of_the_four_is_needed() {
    for missing in ENOUGH {
        let rights: Vec<_> = ENOUGH.into_iter().filter(|it| *it != missing).collect();
        let (directory, memtrace) = memtrace_with(&rights);
        let target = target_of_nobody(directory.path());
        let finished = Attach::to(target.pid()).by(&memtrace).run();
        assert_eq!(finished.status.code(), Some(2), "without {missing}: {}", finished.stderr);
        let name = format!("CAP_{}", missing.to_uppercase());
        assert!(finished.stderr.contains(&name), "no {name} in: {}", finished.stderr);
        assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    }
}

/// To look at the own user's processes takes less.
#[test]
fn a_process_of_the_same_user_is_traced_without_the_right_to_read_others_files() {
    let (_directory, memtrace) = memtrace_with(&["bpf", "perfmon", "sys_ptrace"]);
    let mut target = Target::start("ground_truth", &["heap", "4"]);
    let tracing = Attach::to(target.pid()).by(&memtrace).armed();
    let truth = target.run();
    truth.assert_same_heap(&tracing.interrupt().report());
}

/// The libraries of a program and its loader, by their absolute paths.
fn libraries(program: &Path) -> Vec<String> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

/// The programs, loaders and libraries that are in the image.
fn image() -> Vec<PathBuf> {
    let mut files = vec![memtrace(), PathBuf::from("/usr/bin/setpriv")];
    for program in files.clone() {
        files.extend(libraries(&program).iter().map(PathBuf::from));
    }
    files.sort();
    files.dedup();
    files
}

/// memtrace in a root directory of its own with nothing but itself, `/proc` and `/sys`, and the four
/// rights: as in a container with the host's process namespace.
fn memtrace_in_a_container() -> (TempDir, PathBuf) {
    let bounding: String = ENOUGH.iter().map(|right| format!(",+{right}")).collect();
    let copies: Vec<_> = image().iter().map(|file| format!("'{}'", file.display())).collect();
    let (copies, temporary) = (copies.join(" "), std::env::temp_dir());
    let inner = format!(
        "mount -t tmpfs tmpfs \"$ROOT\"
         for file in {copies}; do
             mkdir -p \"$ROOT$(dirname \"$file\")\"; cp -L \"$file\" \"$ROOT$file\"
         done
         for file_system in proc sys; do
             mkdir \"$ROOT/$file_system\"; mount --rbind \"/$file_system\" \"$ROOT/$file_system\"
         done
         mkdir -p \"$ROOT{temporary}\"; mount --bind '{temporary}' \"$ROOT{temporary}\"
         exec chroot \"$ROOT\" /usr/bin/setpriv --bounding-set -all{bounding} --inh-caps -all \
             '{memtrace}' \"$@\"",
        temporary = temporary.display(),
        memtrace = memtrace().display(),
    );
    let (directory, path) = script(&format!(
        "ROOT=$(dirname \"$0\")/root; export ROOT; mkdir -p \"$ROOT\"\n\
         exec unshare --mount --propagation private /bin/sh -c '{}' sh \"$@\"",
        inner.replace('\'', "'\\''")
    ));
    (directory, path)
}

#[test]
fn from_inside_a_container_a_process_of_another_container_is_traced() {
    let (_container, memtrace) = memtrace_in_a_container();
    // In a user, process and mount namespace of its own, of another user.
    let mut other = Container::start_with("ground_truth", &[], &["heap", "4"]);
    let tracing = Attach::to(other.pid).by(&memtrace).armed();
    let truth = other.target.run();
    let finished = tracing.interrupt();
    truth.assert_same_heap(&finished.report());
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    // Its files are seen through its own root, by the names that it has for them.
    assert_eq!(report["target"]["executable"], "/program");
    let stacks = report["sites"].to_string();
    assert!(stacks.contains("/program"), "{stacks}");
    let pid = other.pid.to_string();
    let output = Command::new(&memtrace).args(["inspect", "--json", "-p", &pid]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let look: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(look["refusals"].as_array().unwrap().len(), 0, "{look:#}");
    assert!(other.target.quit().success());
}

/// The program in a chroot, which does not see its files where other processes see them.
fn in_a_chroot(directory: &TempDir) -> Target {
    let program = programs::path("ground_truth").canonicalize().unwrap();
    let mut command = Command::new(programs::path("jail"));
    command.arg(directory.path()).arg(&program).args(libraries(&program));
    Target::start_command(command.arg("--").arg(&program).args(["heap", "4"]))
}

#[test]
fn files_that_no_path_leads_to_take_one_right_more() {
    let root = TempDir::new().unwrap();
    let mut target = in_a_chroot(&root);
    let (_four, memtrace) = memtrace_with(&ENOUGH);
    let refused = Attach::to(target.pid()).by(&memtrace).run();
    refused.assert_refused(&["CAP_CHECKPOINT_RESTORE"]);
    let (_five, memtrace) = memtrace_with(&[&ENOUGH[..], &["checkpoint_restore"]].concat());
    let tracing = Attach::to(target.pid()).by(&memtrace).armed();
    let truth = target.run();
    truth.assert_same_heap(&tracing.interrupt().report());
}
