//! The memtrace binary at work.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{ChildStderr, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, Watchdog};

/// A `memtrace attach` whose probes are armed; killed on drop.
pub struct Tracer {
    process: Process,
    stderr: BufReader<ChildStderr>,
    /// From the start of the process to the message that all probes are armed.
    pub armed_after: Duration,
    directory: TempDir,
}

/// The parts of the JSON report (docs/report-json.md) that a benchmark looks at.
#[derive(Debug, Deserialize)]
pub struct Report {
    pub window: Window,
    pub rss: Rss,
    pub functions: Vec<Function>,
    pub sites: Vec<Site>,
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Of versions that keep to a budget.
    #[serde(default)]
    cost: Value,
    pub unwind_tables: Option<UnwindTables>,
    pub completeness: Completeness,
}

#[derive(Debug, Deserialize)]
pub struct Window {
    pub detach_ns: u64,
    pub attach_steps: Vec<AttachStep>,
}

#[derive(Debug, Deserialize)]
pub struct AttachStep {
    pub step: String,
    pub duration_ns: u64,
}

#[derive(Debug, Deserialize)]
pub struct Site {
    pub stack: Stack,
    pub allocated: Amount,
}

/// Sites that have a line in common.
#[derive(Debug, Deserialize)]
pub struct Group {
    /// An index in the sites.
    pub largest_site: Option<usize>,
}

#[derive(Debug, Deserialize)]
pub struct Stack {
    pub frames: Vec<Frame>,
    pub missing_root: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Frame {
    pub function: String,
    #[serde(default)]
    pub inlined: bool,
}

#[derive(Debug, Deserialize)]
pub struct Amount {
    pub count: u64,
}

#[derive(Debug, Default, Deserialize)]
pub struct UnwindTables {
    pub objects: u64,
    pub text_bytes: u64,
    pub rows: u64,
    pub pages: u64,
    pub rules: u64,
    pub size_bytes: u64,
    pub build_ns: u64,
}

#[derive(Debug, Deserialize)]
pub struct Rss {
    pub own_peak_bytes: u64,
}

#[derive(Debug, Deserialize)]
pub struct Function {
    pub function: String,
    pub calls: u64,
    pub lost: u64,
}

#[derive(Debug, Deserialize)]
pub struct Completeness {
    pub complete: bool,
    pub events: u64,
    pub losses: Vec<Loss>,
}

#[derive(Debug, Deserialize)]
pub struct Loss {
    pub name: String,
    pub count: u64,
}

/// What it says when it traces.
const ARMED: &str = "probes armed";

/// How long it may take to arm its probes, or to write its report: more is an error.
const PATIENCE_TO_END: Duration = Duration::from_secs(120);

/// A process that was just started is given this long to have an allocator.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether `memtrace attach` has an option.
pub fn knows(memtrace: &Path, option: &str) -> bool {
    static HELP: OnceLock<String> = OnceLock::new();
    let help = || {
        let output = Command::new(memtrace).args(["attach", "--help"]).output();
        output
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default()
    };
    // Elsewhere an option is only spoken of.
    let begins_with_it = |line: &str| {
        let rest = line.strip_prefix("      ").and_then(|line| line.strip_prefix(option));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '[']))
    };
    HELP.get_or_init(help).lines().any(begins_with_it)
}

/// The options for every event, as far as there are any: without them, there is no other mode.
pub fn exact(memtrace: &Path) -> Vec<&'static str> {
    known(memtrace, &[&["--exact"], &["--max-overhead", "none"]])
}

/// A sample in 512 KiB on average, whatever that costs.
pub fn sampled(memtrace: &Path) -> Vec<&'static str> {
    known(memtrace, &[&["--sample-bytes", "512KiB"], &["--max-overhead", "none"]])
}

fn known(memtrace: &Path, options: &[&[&'static str]]) -> Vec<&'static str> {
    let known = options.iter().filter(|option| knows(memtrace, option[0]));
    known.flat_map(|option| option.iter().copied()).collect()
}

impl Tracer {
    /// Attaches to a process that may be at its very start.
    pub fn attach_soon(memtrace: &Path, pid: u32) -> Result<Self> {
        let begun = Instant::now();
        loop {
            match Self::attach(memtrace, pid, &[]) {
                Err(_) if begun.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(20)),
                done => return done,
            }
        }
    }

    /// Attaches for every event, whatever that costs, and waits until all probes are armed.
    pub fn attach(memtrace: &Path, pid: u32, arguments: &[&str]) -> Result<Self> {
        Self::attach_as(memtrace, pid, &[&exact(memtrace), arguments].concat())
    }

    /// The same in whatever mode the arguments make.
    pub fn attach_as(memtrace: &Path, pid: u32, arguments: &[&str]) -> Result<Self> {
        let directory = TempDir::new()?;
        let begun = Instant::now();
        let mut command = Command::new(memtrace);
        command
            .args(["attach", "--json", "-p", &pid.to_string(), "-o"])
            .arg(directory.path().join("out"))
            .args(arguments)
            .stdin(Stdio::null())
            // Not a pipe: nobody would read it while memtrace traces.
            .stdout(fs::File::create(directory.path().join("report.json"))?)
            .stderr(Stdio::piped());
        let mut process = Process::start(&mut command)?;
        let stderr = BufReader::new(process.take_stderr()?);
        let armed_after = Duration::ZERO;
        let mut tracer = Self { process, stderr, armed_after, directory };
        tracer.wait_until_armed()?;
        tracer.armed_after = begun.elapsed();
        Ok(tracer)
    }

    fn wait_until_armed(&mut self) -> Result<()> {
        let _watchdog = Watchdog::over(self.pid(), PATIENCE_TO_END);
        let mut said = String::new();
        while self.stderr.read_line(&mut said)? > 0 {
            if said.contains(ARMED) {
                return Ok(());
            }
        }
        anyhow::bail!("memtrace ended before it traced:\n{said}")
    }

    /// The memtrace process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where it will have written its capture.
    fn capture(&self) -> PathBuf {
        self.directory.path().join("out.memtrace")
    }

    /// Ends it as Ctrl-C does, and reads its report.
    pub fn finish(self) -> Result<Report> {
        self.finish_with(|_| Ok(())).map(|(report, ())| report)
    }

    /// The same, with a look at its capture.
    pub fn finish_with<T>(mut self, look: impl FnOnce(&Path) -> Result<T>) -> Result<(Report, T)> {
        let _watchdog = Watchdog::over(self.pid(), PATIENCE_TO_END);
        self.process.interrupt()?;
        let mut said = String::new();
        self.stderr.read_to_string(&mut said)?;
        let status = self.process.wait(PATIENCE_TO_END)?;
        ensure!(status.success(), "memtrace failed ({status}):\n{said}");
        let report = fs::read_to_string(self.directory.path().join("report.json"))?;
        let report =
            serde_json::from_str(&report).context("memtrace's report has another shape")?;
        Ok((report, look(&self.capture())?))
    }
}

impl Report {
    /// Calls of a function that the kernel side counted.
    pub fn calls(&self, function: &str) -> u64 {
        let of = self.functions.iter().filter(|of| of.function == function);
        of.map(|of| of.calls).sum()
    }

    /// Calls whose event was lost.
    pub fn lost(&self) -> u64 {
        self.functions.iter().map(|of| of.lost).sum()
    }

    /// Hundredths of the time that all probes were armed, where they came and went.
    pub fn covered_percent(&self) -> Option<f64> {
        self.cost.get("covered")?.as_f64().map(|share| 100.0 * share)
    }

    /// Hundredths of the events that were lost.
    pub fn lost_percent(&self) -> f64 {
        let (seen, lost) = (self.completeness.events as f64, self.lost() as f64);
        if lost > 0.0 { 100.0 * lost / (seen + lost) } else { 0.0 }
    }

    /// Whether a complete stack of so many frames was seen in at least so many calls.
    pub fn has_stack_of(&self, frames: u64, calls: u64) -> bool {
        self.sites.iter().any(|site| {
            site.allocated.count >= calls
                && site.stack.missing_root.is_none()
                && site.stack.frames.iter().filter(|frame| !frame.inlined).count() as u64 == frames
        })
    }

    /// Losses of any kind, by name.
    pub fn losses(&self) -> String {
        let losses = &self.completeness.losses;
        losses.iter().map(|of| format!("{} {}", of.count, of.name)).collect::<Vec<_>>().join(", ")
    }
}
