//! What cannot be traced is refused in a clear sentence, with exit status 2.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use memtrace_tests::{
    attach::Attach,
    binary::{self, memtrace},
    target::Target,
};

#[test]
fn a_pid_that_does_not_exist() {
    // Above the largest that any kernel hands out (PID_MAX_LIMIT, 2^22).
    Attach::to(4_194_305).run().assert_refused(&["no process", "4194305"]);
}

#[test]
fn a_kernel_thread() {
    let cmdline = fs::read_to_string("/proc/2/comm").unwrap();
    assert_eq!(cmdline.trim(), "kthreadd");
    Attach::to(2).run().assert_refused(&["kernel thread"]);
}

#[test]
fn memtrace_itself() {
    let directory = tempfile::TempDir::new().unwrap();
    let output = directory.path().join("out");
    let (memtrace, output) = (memtrace(), output.display());
    let script = format!("exec {} attach -p $$ --json -o {output}", memtrace.display());
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(binary::stderr(&output).contains("itself"), "{}", binary::stderr(&output));
}

#[test]
fn a_thread_that_is_not_a_process() {
    let target = Target::start("ground_truth", &["heap", "2"]);
    let tasks = fs::read_dir(format!("/proc/{}/task", target.pid())).unwrap();
    let ids = tasks.map(|task| task.unwrap().file_name().to_string_lossy().parse().unwrap());
    let thread: u32 = ids.into_iter().find(|id| *id != target.pid()).unwrap();
    let process = target.pid().to_string();
    Attach::to(thread).run().assert_refused(&["thread", &process]);
}

#[test]
fn a_process_of_root_for_nobody() {
    const NOBODY: u32 = 65534;
    let target = Target::start("ground_truth", &["heap", "1"]);
    // Where nobody can get at it, unlike at root's build directory.
    let directory = tempfile::TempDir::new().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let copy = directory.path().join("memtrace");
    fs::copy(memtrace(), &copy).unwrap();
    let output = directory.path().join("out");
    let finished = Attach::to(target.pid()).as_user(&copy, NOBODY).output(&output).run();
    finished.assert_refused(&["sudo"]);
    assert!(!directory.path().join("out.svg").exists());
}

#[test]
fn a_target_without_libc() {
    let target = Target::start("nomalloc", &[]);
    Attach::to(target.pid()).run().assert_refused(&["nomalloc", "malloc"]);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_32_bit_target() {
    let target = Target::start("thirty_two_bits", &[]);
    Attach::to(target.pid()).run().assert_refused(&["32-bit"]);
}

#[test]
fn a_refused_target_is_left_alone() {
    let mut target = Target::start("nomalloc", &[]);
    Attach::to(target.pid()).run().assert_refused(&[]);
    assert!(target.is_running());
}
