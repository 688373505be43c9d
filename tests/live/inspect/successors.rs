//! What comes after the process that is looked at: another program in it, another process with its
//! id. Nothing of it is ever shown as the first one's.

use std::{
    fs,
    io::Read as _,
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, ExitStatus, Stdio},
};

use memtrace_tests::{
    binary::memtrace, lines::Lines, running::Running, target::Target, wait_until,
};
use rustix::process::Signal;
use serde_json::Value;

/// `memtrace inspect --every`, and what it says.
struct Series {
    process: Running,
    output: Lines,
}

impl Series {
    /// Starts it, and waits for the first look.
    fn start(pid: u32) -> (Self, Value) {
        let mut command = Command::new(memtrace());
        command.args(["inspect", "--json", "--every", "10ms", "-p", &pid.to_string()]);
        let mut process = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let mut output = Lines::of(process.child().stdout.take().unwrap());
        let first = serde_json::from_str(&output.next_line().unwrap()).unwrap();
        (Self { process, output }, first)
    }

    /// Waits for the end: all further looks, what it said, and how it ended.
    fn end(mut self) -> (Vec<Value>, String, ExitStatus) {
        let mut looks = Vec::new();
        while let Some(line) = self.output.next_line() {
            looks.push(serde_json::from_str(&line).unwrap());
        }
        let status = self.process.wait();
        let mut said = String::new();
        let child: &mut Child = self.process.child();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (looks, said, status)
    }
}

/// All looks are at the program of the first, and the series says why it ended.
fn assert_ended(series: Series, first: &Value, why: &str) {
    let (looks, said, status) = series.end();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains(why), "{why} is not in {said}");
    for look in looks {
        assert_eq!(look["target"], first["target"]);
        assert_eq!(look["refusals"], first["refusals"]);
        assert_eq!(look["glibc"], first["glibc"], "{look:#}");
    }
}

#[test]
fn a_process_that_ends_between_two_looks_ends_the_series() {
    let mut target = Target::start("two_libcs", &[]);
    let (series, first) = Series::start(target.pid());
    target.signal(Signal::KILL);
    assert_eq!(target.wait().signal(), Some(9));
    assert_ended(series, &first, "has ended");
}

#[test]
fn a_process_that_becomes_another_program_ends_the_series() {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "echo 'ready {\"malloc\": 0, \"free\": 0, \"realloc\": 0}'; read line; exec sleep 1000",
    ]);
    let mut target = Target::start_command(&mut command);
    let (series, first) = Series::start(target.pid());
    target.go();
    assert_ended(series, &first, "another program");
    assert!(target.is_running());
}

/// Its name, its file and the time of its start stay the same.
#[test]
fn a_process_that_starts_its_own_program_anew_ends_the_series() {
    let mut target = Target::start("execer", &[]);
    target.run();
    let (series, first) = Series::start(target.pid());
    target.run();
    assert_ended(series, &first, "another program");
    assert!(target.is_running());
}

/// Starts a process with a given id: the next one that the kernel hands out.
fn start_with_pid(pid: u32) -> Option<Running> {
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
    let process = Running::start(Command::new("sleep").arg("1000"));
    (process.pid() == pid).then_some(process)
}

#[test]
fn a_pid_that_comes_to_mean_another_process_ends_the_series() {
    let mut target = Target::start("two_libcs", &[]);
    let pid = target.pid();
    let (series, first) = Series::start(pid);
    series.process.signal(Signal::STOP);
    target.signal(Signal::KILL);
    target.wait();
    let mut successor = None;
    // Other processes start meanwhile.
    wait_until("another process has the pid", || {
        successor = start_with_pid(pid);
        successor.is_some()
    });
    series.process.signal(Signal::CONT);
    assert_ended(series, &first, "has ended");
    assert!(successor.unwrap().is_running());
}
