use std::{
    fs,
    time::{Duration, Instant},
};

use nix::sys::signal::SigSet;

use super::*;

fn launch(words: &[&str]) -> Launch {
    Launch {
        program: words[0].into(),
        arguments: words[1..].iter().map(Into::into).collect(),
        user: None,
        held_back: SigSet::empty(),
    }
}

fn started(words: &[&str]) -> Held {
    start(&ProcFs::new("/proc"), &launch(words)).unwrap()
}

fn has_libc(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().contains("libc.so.6")
}

#[test]
fn a_held_command_has_its_libraries_and_has_done_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("mark");
    let mut held = started(&["touch", mark.to_str().unwrap()]);
    assert!(has_libc(held.pid()));
    std::thread::sleep(Duration::from_millis(50));
    assert!(!mark.exists());
    held.release().unwrap();
    assert!(held.wait().unwrap().success());
    assert!(mark.exists());
}

#[test]
fn a_command_that_is_never_let_go_has_never_run() {
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("mark");
    let held = started(&["touch", mark.to_str().unwrap()]);
    let pid = held.pid();
    drop(held);
    assert!(!mark.exists() && !fs::exists(format!("/proc/{pid}")).unwrap());
}

#[test]
fn from_call_to_call_it_comes_to_its_end_and_what_it_executes_is_held_too() {
    let proc = ProcFs::new("/proc");
    let mut held = started(&["env", "sh", "-c", "exit 5"]);
    let (mut programs, begun) = (0, Instant::now());
    loop {
        held.go_on().unwrap();
        match held.progress(&proc).unwrap() {
            Progress::Free => break,
            Progress::Executed => {
                programs += 1;
                assert!(has_libc(held.pid()));
            }
            Progress::Runs | Progress::Executes | Progress::Waits => {}
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not end");
    }
    assert_eq!(programs, 1);
    assert_eq!(held.wait().unwrap().code(), Some(5));
}

#[test]
fn one_that_runs_can_be_let_go_at_any_time() {
    let mut held = started(&["sh", "-c", "while [ ! -e /proc/self/nothing ]; do :; done"]);
    held.go_on().unwrap();
    held.release().unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", held.pid())).unwrap();
    assert!(status.contains("TracerPid:\t0\n"), "{status}");
    let pid = nix::unistd::Pid::from_raw(held.pid() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert!(!held.wait().unwrap().success());
}

#[test]
fn what_cannot_be_executed_is_told_from_what_is_not_there() {
    let error = |words: &[&str]| start(&ProcFs::new("/proc"), &launch(words)).err().unwrap();
    assert!(matches!(error(&["no-such-command-here"]), LaunchError::NotFound { .. }));
    assert!(matches!(error(&["/etc/passwd"]), LaunchError::NotExecutable { .. }));
}
