//! What was allocated while nobody looked: programs that the default mode watches in short bursts count what
//! they allocate, and the report's interval must contain it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use memtrace_tests::{attach::Attach, binary, programs, running::Running, target::Target};
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
    /// What was allocated from the first answer in the window to the last in it, and to the first after it.
    truth: [u64; 2],
    /// The 95 % interval.
    bytes: [u64; 2],
    work_by: String,
    sampling: Value,
}

impl Told {
    fn assert_true(&self, work_by: &str) {
        let ([least, most], [low, high]) = (self.truth, self.bytes);
        let of = |end: u64| end as f64 / least as f64;
        println!("{:.3} in [{:.3}, {:.3}]", self.ratio, of(low), of(high));
        assert!(low <= most && least <= high, "{self:#?}");
        assert_eq!(self.work_by, work_by, "{self:#?}");
    }
}

/// Traces a program in bursts.
fn told(target: &mut Target, attach: Attach) -> Told {
    // `hot` has said something without being asked.
    done(target);
    let tracing = attach.args(&["--max-overhead", "10%"]).armed();
    let before = done(target);
    thread::sleep(WINDOW);
    let after = done(target);
    let finished = tracing.interrupt();
    let at_last = done(target);
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    let setting = report["cost"]["setting"].as_str().unwrap_or_default();
    assert!(setting.ends_with("in short bursts"), "not what is to be tested: {setting}");
    let allocated = &report["totals"]["heap"]["allocated"];
    let number = |value: &Value| value.as_u64().unwrap();
    let end = |field: &str| number(&allocated["estimate"][field]);
    let work_by = &report["sampling"]["coverage"][0]["work_by"];
    Told {
        ratio: number(&allocated["bytes"]) as f64 / (after - before) as f64,
        truth: [after - before, at_last - before],
        bytes: [end("low_bytes"), end("high_bytes")],
        work_by: work_by.as_str().unwrap_or_default().to_owned(),
        sampling: report["sampling"].clone(),
    }
}

/// On one CPU, which it may share with others.
fn on_first_cpu(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program).args(arguments);
    command
}

fn start([program, arguments @ ..]: [&str; 3]) -> Target {
    Target::start_command(&mut on_first_cpu(&programs::path(program), &arguments))
}

/// Two programs that want all of its CPU.
fn others() -> [Running; 2] {
    let busy = ["-c", "while :; do :; done"];
    [(); 2].map(|()| Running::start(&mut on_first_cpu(Path::new("sh"), &busy)))
}

fn attach_to(target: &Target) -> Attach {
    Attach::to(target.pid())
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
/// Awake for some 40 of each 1000 microseconds, in which it does nothing else.
const SLEEPER: [&str; 3] = ["hot", "1", "2000"];

/// In a burst it is a hundred times as slow, so that CPU time hardly tells what it gets done in one.
#[test]
fn what_pairs_of_malloc_and_free_obtain_is_told_by_instructions() {
    let mut target = start(PAIRS);
    let told = told(&mut target, attach_to(&target));
    told.assert_true("instructions");
    assert!(NEAR.contains(&told.ratio), "{told:#?}");
    assert!(target.quit().success());
}

#[test]
fn the_same_of_a_program_that_has_a_third_of_its_cpu() {
    let mut target = start(PAIRS);
    let _others = others();
    let told = told(&mut target, attach_to(&target));
    told.assert_true("instructions");
    assert!(NEAR.contains(&told.ratio), "{told:#?}");
    assert!(target.quit().success());
}

#[test]
fn the_same_of_a_program_that_sleeps_most_of_the_time() {
    let mut target = start(SLEEPER);
    let told = told(&mut target, attach_to(&target));
    told.assert_true("instructions");
    assert!(NEAR.contains(&told.ratio), "{told:#?}");
    assert!(target.quit().success());
}

/// Which bursts fall into which phase is chance.
#[test]
fn two_phases_are_within_an_interval_that_knows_how_bursts_differ() {
    for other in ["0", "300"] {
        let program = programs::path("phases");
        let arguments = ["64", "640", other];
        let mut target = Target::start_command(&mut on_first_cpu(&program, &arguments));
        let told = told(&mut target, attach_to(&target));
        told.assert_true("instructions");
        assert!(target.quit().success());
    }
}

#[test]
fn without_counters_the_interval_is_wider_and_holds_all_the_same() {
    let directory = TempDir::new().unwrap();
    for (program, is_crowded) in [(PAIRS, false), (PAIRS, true), (SLEEPER, false)] {
        let mut target = start(program);
        let _others = is_crowded.then(others);
        let told = told(&mut target, attach_uncounted(&target, &directory));
        told.assert_true("cpu_time");
        assert!(target.quit().success());
    }
}
