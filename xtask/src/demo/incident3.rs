//! Incident 3: a Polars job heads for the limit of its control group, and nobody is there. `memtrace
//! watch` fires by itself; what counts is whether the capture is written before the kernel kills.

use std::{
    fs,
    io::{BufRead as _, BufReader, Lines},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{banner, group::Group};
use crate::shell::{output, root, say, succeeds, work_dir};

/// The job.
const SOURCE: &str = "tests/programs/python/polars_job.py";
/// How fast it grows. The job of the incident took 63 GB in three hours, 6 MiB a second.
const MIB_PER_SECOND: &str = "8";
/// The limit; it stands for all of the host's memory.
const LIMIT_BYTES: u64 = 512 << 20;

/// What came of a run.
struct Run {
    /// The capture was written while the job was alive.
    in_time: bool,
    /// From the firing to the written capture.
    seconds: f64,
    /// From the firing until the job was traced.
    armed_seconds: f64,
    /// What was left at the firing.
    seconds_left: f64,
    names_rust: bool,
    names_python: bool,
}

impl Run {
    fn has_succeeded(&self) -> bool {
        self.in_time && self.names_rust && self.names_python
    }
}

/// Runs it so often, with this memtrace. One that comes to nothing counts as failed, and the others are run.
pub fn run(memtrace: &Path, runs: u32) -> Result<()> {
    let python = python()?;
    let mut done = Vec::new();
    for number in 1..=runs {
        banner(&format!("incident 3, run {number} of {runs}"));
        match one(memtrace, &python) {
            Ok(run) => {
                tell(&run);
                done.push(run);
            }
            Err(error) => say(format_args!("FAILED: {error:#}")),
        }
    }
    sum_up(&done, runs)
}

fn tell(run: &Run) {
    say(format_args!(
        "{} the kill: armed {:.2} s and written {:.1} s after the firing, when {:.1} s were left; names \
         Rust: {}, Python: {}",
        if run.in_time { "written before" } else { "LATE: not written before" },
        run.armed_seconds,
        run.seconds,
        run.seconds_left,
        run.names_rust,
        run.names_python,
    ));
}

fn sum_up(done: &[Run], runs: u32) -> Result<()> {
    let count = |is: fn(&Run) -> bool| done.iter().filter(|run| is(run)).count();
    banner("incident 3");
    say(format_args!(
        "{} of {runs} captures were written before the kill: the kernel had counted none in the job's control \
         group when memtrace said that it was written",
        count(|it| it.in_time)
    ));
    say(format_args!(
        "{} of {runs} name Polars' Rust frames (polars_...) on a stack that grew",
        count(|it| it.names_rust)
    ));
    say(format_args!(
        "{} of {runs} name lines of polars_job.py on a stack that grew",
        count(|it| it.names_python)
    ));
    say(format_args!(
        "armed after {}; written after {}",
        range(done.iter().map(|it| it.armed_seconds)),
        range(done.iter().map(|it| it.seconds))
    ));
    let succeeded = count(Run::has_succeeded);
    say(format_args!("{succeeded} of {runs} SUCCEEDED in all three"));
    ensure!(succeeded == runs as usize, "{} of {runs} runs failed", runs as usize - succeeded);
    Ok(())
}

fn range(seconds: impl Iterator<Item = f64> + Clone) -> String {
    let (least, most) =
        (seconds.clone().fold(f64::INFINITY, f64::min), seconds.fold(0.0, f64::max));
    format!("{least:.2} to {most:.2} s")
}

/// A Python that has Polars, from PyPI.
fn python() -> Result<PathBuf> {
    let environment = work_dir("bench").join("venv-polars");
    let python = environment.join("bin/python3");
    if !succeeds(Command::new(&python).args(["-c", "import polars"])) {
        say(format_args!("installing polars into {}", environment.display()));
        output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
        output(Command::new(&python).args(["-m", "pip", "install", "--quiet", "polars"]))?;
    }
    Ok(python)
}

fn one(memtrace: &Path, python: &Path) -> Result<Run> {
    let group = Group::with_limit("memtrace-incident-3", LIMIT_BYTES)?;
    let directory = work_dir("demo").join("incident-3");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory)?;
    let mut watch = Watch::start(memtrace, &group, &directory)?;
    watch.event("watching")?;
    let job = root().join(SOURCE);
    let mut job =
        group.command(python).arg(job).arg(MIB_PER_SECOND).stdout(Stdio::null()).spawn()?;
    let outcome = watch.outcome(memtrace, &group);
    // It may have been killed already.
    let _ = job.kill();
    job.wait()?;
    outcome
}

/// `memtrace watch`, and what it says.
struct Watch {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(memtrace: &Path, group: &Group, directory: &Path) -> Result<Self> {
        let mut command = Command::new(memtrace);
        command.args(["watch", "--json", "--once", "--growth", "--when", "rss>50%"]);
        command.args(["--cgroup", group.name(), "-o"]).arg(directory).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start memtrace")?;
        let stdout = child.stdout.take().context("its output is a pipe")?;
        Ok(Self { child, lines: BufReader::new(stdout).lines() })
    }

    /// The next event of this name.
    fn event(&mut self, name: &str) -> Result<Value> {
        for line in &mut self.lines {
            let event: Value = serde_json::from_str(&line?)?;
            if event["event"] == name {
                return Ok(event);
            }
        }
        anyhow::bail!("memtrace ended before it said {name:?}")
    }

    fn outcome(&mut self, memtrace: &Path, group: &Group) -> Result<Run> {
        let fired = self.event("fired")?;
        let begun = Instant::now();
        let captured = self.event("captured")?;
        let (seconds, in_time) = (begun.elapsed().as_secs_f64(), group.oom_kills()? == 0);
        let files = captured["files"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let capture = files.into_iter().find(|it| it.ends_with(".memtrace"));
        let report = report(memtrace, capture.context("no capture")?)?;
        Ok(Run {
            in_time,
            seconds,
            armed_seconds: seconds_of(&report["incident"]["fired"]["armed_after_ns"]),
            seconds_left: seconds_of(&fired["fired"]["time_to_limit_ns"]),
            names_rust: has_frame(&report, |frame| text(frame, "function").contains("polars_")),
            names_python: has_frame(&report, |frame| {
                text(frame, "file").ends_with("polars_job.py")
            }),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn report(memtrace: &Path, capture: &str) -> Result<Value> {
    let json = output(Command::new(memtrace).args(["report", capture, "--format", "json"]))?;
    serde_json::from_str(&json).context("the report is no JSON")
}

/// Whether a stack that made it grow has such a frame.
fn has_frame(report: &Value, is_such: impl Fn(&Value) -> bool) -> bool {
    let sites = report["sites"].as_array().into_iter().flatten();
    let mut frames = sites.flat_map(|it| it["stack"]["frames"].as_array().into_iter().flatten());
    frames.any(is_such)
}

/// Not a number where it was not told.
fn seconds_of(ns: &Value) -> f64 {
    ns.as_f64().map_or(f64::NAN, |ns| ns / 1e9)
}

fn text<'v>(frame: &'v Value, key: &str) -> &'v str {
    frame[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_came_to_nothing_or_lacks_something_fails_all() {
        let run = |in_time, names_python| Run {
            in_time,
            seconds: 9.0,
            armed_seconds: 0.5,
            seconds_left: 20.0,
            names_rust: true,
            names_python,
        };
        assert!(sum_up(&[run(true, true), run(true, true)], 2).is_ok());
        assert!(sum_up(&[run(true, true)], 2).is_err());
        assert!(sum_up(&[run(true, true), run(false, true)], 2).is_err());
        assert!(sum_up(&[run(true, true), run(true, false)], 2).is_err());
    }

    #[test]
    fn frames_are_found_on_the_stacks_of_all_sites() {
        let report = serde_json::json!({"sites": [
            {"stack": {"frames": [{"function": "mmap"}]}},
            {"stack": {"frames": [{"function": "polars_core::x"}, {"file": "/a/polars_job.py"}]}},
        ]});
        assert!(has_frame(&report, |frame| text(frame, "function").contains("polars_")));
        assert!(has_frame(&report, |frame| text(frame, "file").ends_with("polars_job.py")));
        assert!(!has_frame(&report, |frame| text(frame, "function") == "malloc"));
    }
}
