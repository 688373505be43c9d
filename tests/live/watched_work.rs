//! What was allocated while nobody looked: programs that the default mode watches in short bursts count what
//! they allocate, and the report's interval must contain it.

use std::{
    fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command, thread, time::Duration,
};

use memtrace::sys::instructions::Instructions;
use memtrace_tests::{attach::Attach, binary, programs, running::Running, target::Target};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

/// Some dozens of bursts.
const WINDOW: Duration = Duration::from_secs(12);
/// How near an estimate is to the truth where all bursts are alike: what is left are the microseconds at the
/// ends of a burst, and what the program does between its answers and the ends of the window.
const NEAR: std::ops::Range<f64> = 0.9..1.1;

/// What a program says it has done so far: `hot` in rounds, others in bytes.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Done {
    rounds: u64,
    leaked: u64,
    allocated_bytes: u64,
}

impl Done {
    /// As `hot.c` has it.
    fn bytes(self) -> u64 {
        self.rounds * 64 + self.leaked * 500 + self.allocated_bytes
    }
}

fn done(target: &mut Target) -> u64 {
    target.go();
    serde_json::from_str::<Done>(&target.line()).unwrap().bytes()
}

/// What was told of a window.
#[derive(Debug)]
struct Told {
    /// What is said to have been allocated, over what was.
    ratio: f64,
    /// What was allocated from the first answer in the window to the last.
    truth: u64,
    /// The 95 % interval.
    bytes: [u64; 2],
    /// How the watched part of the work was told.
    covered: Value,
}

impl Told {
    fn assert_true(&self, work_by: &str) {
        let ends = self.bytes.map(|end| end as f64 / self.truth as f64);
        println!("{:.3} in {ends:.3?}", self.ratio);
        assert!(ends[0] <= 1.0 && ends[1] >= 1.0, "{self:#?}");
        assert_eq!(self.covered["work_by"], work_by, "{self:#?}");
    }
}

/// Traces a program in bursts.
fn told(attach: Attach, target: &mut Target) -> Told {
    // `hot` has said something without being asked.
    done(target);
    let tracing = attach.args(&["--max-overhead", "10%"]).armed();
    let before = done(target);
    thread::sleep(WINDOW);
    let after = done(target);
    target.signal(Signal::STOP);
    let finished = tracing.interrupt();
    target.signal(Signal::CONT);
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    let cost = &report["cost"];
    let changes = cost["changes"].as_array().and_then(|changes| changes.last());
    let setting = changes.map_or(&cost["setting"], |last| &last["to"]).as_str().unwrap_or_default();
    assert!(setting.ends_with("in short bursts"), "not what is to be tested: {cost:#}");
    let allocated = &report["totals"]["heap"]["allocated"];
    let number = |value: &Value| value.as_u64().unwrap();
    let end = |field: &str| number(&allocated["estimate"][field]);
    Told {
        ratio: number(&allocated["bytes"]) as f64 / (after - before) as f64,
        truth: after - before,
        bytes: [end("low_bytes"), end("high_bytes")],
        covered: report["sampling"]["coverage"][0].clone(),
    }
}

fn start([program, arguments @ ..]: [&str; 3]) -> Target {
    Target::start(program, &arguments)
}

fn on_first_cpu(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program).args(arguments);
    command
}

/// Beside two that want all of its CPU.
fn start_crowded([program, arguments @ ..]: [&str; 3]) -> (Target, [Running; 2]) {
    let target = Target::start_command(&mut on_first_cpu(&programs::path(program), &arguments));
    let busy = ["-c", "while :; do :; done"];
    (target, [(); 2].map(|()| Running::start(&mut on_first_cpu(Path::new("sh"), &busy))))
}

/// Not in most virtual machines.
fn cpu_counts_instructions() -> bool {
    let counts = Instructions::are_countable();
    if !counts {
        println!("NOT HERE: the CPU does not count instructions");
    }
    counts
}

/// A memtrace that finds no counters in the CPU.
fn attach_uncounted(target: &Target, directory: &TempDir) -> Attach {
    let launcher = directory.path().join("memtrace");
    let (uncounted, memtrace) = (programs::path("uncounted"), binary::memtrace());
    let script = format!("#!/bin/sh\nexec {} {} \"$@\"\n", uncounted.display(), memtrace.display());
    fs::write(&launcher, script).unwrap();
    fs::set_permissions(&launcher, fs::Permissions::from_mode(0o755)).unwrap();
    Attach::to(target.pid()).by(&launcher)
}

const PAIRS: [&str; 3] = ["hot", "1", "0"];
/// Awake for some 40 of each 4000 microseconds, in which it does nothing else.
const SLEEPER: [&str; 3] = ["hot", "1", "2000"];

/// In a burst it is a hundred times as slow, so that CPU time hardly tells what it gets done in one.
#[test]
fn what_pairs_of_malloc_and_free_obtain_is_told_by_instructions() {
    if !cpu_counts_instructions() {
        return;
    }
    let mut target = start(PAIRS);
    let told = told(Attach::to(target.pid()), &mut target);
    told.assert_true("instructions");
    assert!(NEAR.contains(&told.ratio), "{told:#?}");
    assert!(target.quit().success());
}

#[test]
fn the_same_of_a_program_that_has_a_third_of_its_cpu() {
    if !cpu_counts_instructions() {
        return;
    }
    let (mut target, _others) = start_crowded(PAIRS);
    let told = told(Attach::to(target.pid()), &mut target);
    told.assert_true("instructions");
    assert!(NEAR.contains(&told.ratio), "{told:#?}");
    assert!(target.quit().success());
}

#[test]
fn the_same_of_a_program_that_sleeps_most_of_the_time() {
    if !cpu_counts_instructions() {
        return;
    }
    let mut target = start(SLEEPER);
    let told = told(Attach::to(target.pid()), &mut target);
    told.assert_true("instructions");
    assert!(NEAR.contains(&told.ratio), "{told:#?}");
    assert!(target.quit().success());
}

/// Which bursts fall into which phase is chance.
#[test]
fn two_phases_are_within_an_interval_that_knows_how_bursts_differ() {
    if !cpu_counts_instructions() {
        return;
    }
    let mut target = start(["phases", "64", "640"]);
    let told = told(Attach::to(target.pid()), &mut target);
    told.assert_true("instructions");
    assert!(target.quit().success());
}

#[test]
fn without_counters_the_interval_is_wider_and_holds_all_the_same() {
    for program in [PAIRS, SLEEPER] {
        assert_holds_uncounted(start(program));
    }
    let (target, _others) = start_crowded(PAIRS);
    assert_holds_uncounted(target);
}

fn assert_holds_uncounted(mut target: Target) {
    let directory = TempDir::new().unwrap();
    let told = told(attach_uncounted(&target, &directory), &mut target);
    told.assert_true("cpu_time");
    assert!(target.quit().success());
}
