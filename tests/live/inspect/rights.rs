//! Who may look at what: without the right, a sentence and exit status 2.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Output},
    thread,
    time::Duration,
};

use memtrace_tests::{
    binary::memtrace,
    target::{Background, Target},
};

use super::{
    NOBODY, assert_refused, bytes, document, inspect_idle, resident_by_pages, wait_until_idle,
};

/// Another user without rights.
const OTHER: u32 = 65533;

/// Runs memtrace as a user, with a copy of it that anybody can get at.
fn inspect_as(user: u32, directory: &Path, pid: u32) -> Output {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    let copy = directory.join("memtrace");
    fs::copy(memtrace(), &copy).unwrap();
    let mut command = Command::new(copy);
    command.args(["inspect", "--json", "-p", &pid.to_string()]);
    command.uid(user).gid(user);
    loop {
        match command.output() {
            // Another test's fork has the copy open for writing until it execs.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                thread::sleep(Duration::from_millis(10));
            }
            output => return output.unwrap(),
        }
    }
}

/// Debian's Python, which every user may execute.
fn program_of(user: u32, program: &str) -> Background {
    let program = format!("{program}\nimport time; print('here', flush=True); time.sleep(1000)");
    let mut command = Command::new("/usr/bin/python3");
    let process = Background::start(command.args(["-c", &program]).uid(user).gid(user), "here");
    wait_until_idle(process.pid());
    process
}

#[test]
fn a_process_of_root_is_not_shown_to_nobody() {
    let directory = tempfile::TempDir::new().unwrap();
    let target = Target::start("memory_kinds", &[]);
    let before = resident_by_pages(target.pid());
    assert_refused(&inspect_as(NOBODY, directory.path(), target.pid()), &["sudo"]);
    assert_eq!(resident_by_pages(target.pid()), before);
}

#[test]
fn a_process_of_another_user_is_not_shown() {
    let directory = tempfile::TempDir::new().unwrap();
    let target = program_of(NOBODY, "");
    let pid = target.pid().to_string();
    let output = inspect_as(OTHER, directory.path(), target.pid());
    assert_refused(&output, &[&pid, "sudo", "CAP_SYS_PTRACE"]);
}

#[test]
fn a_process_of_nobody_is_shown_to_nobody() {
    let directory = tempfile::TempDir::new().unwrap();
    let target = program_of(NOBODY, "");
    let before = resident_by_pages(target.pid());
    let output = inspect_as(NOBODY, directory.path(), target.pid());
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    if scope.is_ok_and(|scope| scope.trim() != "0") {
        return assert_refused(&output, &["ptrace_scope"]);
    }
    let look = document(&output);
    assert_eq!(look["rss"]["rss_bytes"], before);
    assert!(bytes(&look, "pymalloc_in_use") > 0, "{look:#}");
}

/// As a server does that has dropped its rights, or an agent that holds keys.
#[test]
fn a_process_that_forbids_it_is_shown_to_root_only() {
    const PR_SET_DUMPABLE: u32 = 4;
    let directory = tempfile::TempDir::new().unwrap();
    let forbid = format!("import ctypes; ctypes.CDLL(None).prctl({PR_SET_DUMPABLE}, 0, 0, 0, 0)");
    let target = program_of(NOBODY, &forbid);
    assert_refused(&inspect_as(NOBODY, directory.path(), target.pid()), &["sudo"]);
    inspect_idle(target.pid());
}

/// As in a container that was not given the capability: root only by name.
#[test]
fn root_without_capabilities_is_told_which_one_is_missing() {
    let target = program_of(NOBODY, "");
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-all", "--inh-caps", "-all"]).arg(memtrace());
    let output = command.args(["inspect", "-p", &target.pid().to_string()]).output().unwrap();
    assert_refused(&output, &["CAP_SYS_PTRACE"]);
}
