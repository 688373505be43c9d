//! However `memtrace run` ends, its command ends by itself: its signals and its status are its own.

use std::{fs, path::Path, thread, time::Duration};

use memtrace_tests::{run::Run, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Says which signals it gets, and ends by the last.
const TELLS: &str = "for s in HUP INT QUIT USR1 USR2 WINCH; do trap \"echo $s\" $s; done
    trap 'echo TERM; exit 9' TERM
    echo ready; while :; do sleep 0.05; done";

#[test]
fn signals_for_memtrace_reach_the_command() {
    let mut running = Run::of("bash", &["-c", TELLS]).start();
    assert_eq!(running.output.next_line().as_deref(), Some("ready"));
    let signals = [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
        (Signal::WINCH, "WINCH"),
        (Signal::TERM, "TERM"),
    ];
    for (signal, name) in signals {
        running.signal(signal);
        assert_eq!(running.output.next_line().as_deref(), Some(name));
    }
    let finished = running.wait();
    assert_eq!(finished.status.code(), Some(9), "{}", finished.stderr);
    assert_eq!(finished.report().window.ended_by, "target_exited");
}

#[test]
fn the_status_is_that_of_the_command() {
    for (script, code) in
        [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137), ("kill -SEGV $$", 139)]
    {
        let finished = Run::of("sh", &["-c", script]).wait();
        assert_eq!(finished.status.code(), Some(code), "{script}\n{}", finished.stderr);
        assert!(finished.json.is_some(), "{script}");
    }
}

#[test]
fn the_end_of_the_trace_is_not_the_commands() {
    let script = "echo ready; read line; echo $line; exit 4";
    let mut running = Run::of("bash", &["-c", script]).options(&["-d", "1s"]).start();
    assert_eq!(running.output.next_line().as_deref(), Some("ready"));
    thread::sleep(Duration::from_secs(3));
    running.tell("later");
    let finished = running.wait();
    assert_eq!(finished.status.code(), Some(4), "{}", finished.stderr);
    assert_eq!(finished.stdout.lines().last(), Some("later"));
    assert_eq!(finished.report().window.ended_by, "duration");
}

#[test]
fn signals_that_were_ignored_or_held_back_stay_so() {
    let status = Run::of("grep", &["-E", "^Sig(Blk|Ign)", "/proc/self/status"])
        .under(&["sh", "-c", "trap '' HUP USR1; exec \"$@\"", "sh"])
        .wait();
    let mut sets = status.stdout.lines().map(|line| {
        let digits = line.split_whitespace().last().unwrap();
        u64::from_str_radix(digits, 16).unwrap()
    });
    // A bit a signal, from 1 on.
    let hang_up_and_user_1 = 1 << (Signal::HUP.as_raw() - 1) | 1 << (Signal::USR1.as_raw() - 1);
    let others = 1 << (Signal::INT.as_raw() - 1) | 1 << (Signal::TERM.as_raw() - 1);
    assert_eq!(sets.next(), Some(0), "{}", status.stdout);
    let ignored = sets.next().unwrap();
    assert_eq!(ignored & (hang_up_and_user_1 | others), hang_up_and_user_1, "{}", status.stdout);
}

/// Whether a process is there and is no zombie.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.trim_start().starts_with(['Z', 'X']) && !rest.is_empty())
}

/// memtrace is killed so long after its start; the command, if it was started, comes to its own end.
fn assert_survives(delay: Duration, directory: &Path) -> bool {
    let mark = directory.join(format!("{}", delay.as_micros()));
    let script =
        format!("while ((SECONDS < 2)); do x=$(printf x); done; echo $$ > {}", mark.display());
    let running = Run::of("bash", &["-c", &script]).start();
    thread::sleep(delay);
    let children = format!("/proc/{0}/task/{0}/children", running.pid());
    let children = fs::read_to_string(children).unwrap_or_default();
    running.signal(Signal::KILL);
    let child = children.split_whitespace().next().and_then(|pid| pid.parse::<u32>().ok());
    // One that waits for its start is not started any more.
    let Some(child) = child else { return false };
    let held_by = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
    assert!(!held_by.contains("(tracing stop)") || is_alive(child));
    wait_until("the command has come to its end", || !is_alive(child));
    mark.exists()
}

#[test]
fn the_command_survives_memtrace_being_killed_at_any_moment() {
    let directory = TempDir::new().unwrap();
    let mut finished = 0;
    for step in 0..30 {
        finished += u32::from(assert_survives(Duration::from_millis(step * 100), directory.path()));
    }
    assert!(finished >= 10, "only {finished} commands came to their end");
}

#[test]
fn a_held_command_goes_on_when_memtrace_is_killed() {
    let directory = TempDir::new().unwrap();
    let mark = directory.path().join("mark");
    let running = Run::of("touch", &[mark.to_str().unwrap()]).start();
    let children = format!("/proc/{0}/task/{0}/children", running.pid());
    let mut child = None;
    wait_until("the command is held in its linker", || {
        let pids = fs::read_to_string(&children).unwrap_or_default();
        child = pids.split_whitespace().next().and_then(|pid| pid.parse().ok());
        let name = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let maps = |pid: i32| fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        child.is_some_and(|pid| name(pid) == "touch\n" && maps(pid).contains("libc"))
    });
    assert!(!mark.exists(), "it has run already");
    running.signal(Signal::KILL);
    wait_until("the command has done its work", || mark.exists());
    let pid = Pid::from_raw(child.unwrap()).unwrap();
    wait_until("nothing is left of it", || {
        kill_process(pid, Signal::CONT).is_err() || !is_alive(pid.as_raw_nonzero().get() as u32)
    });
}
