//! The memtrace binary at work.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::{maps::loaded_maps, programs::loaded_programs};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;

/// A `memtrace attach` whose probes are armed; killed on drop.
pub struct Tracer {
    process: Child,
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

/// How often a BPF program ran, and how long in all.
#[derive(Clone, Copy, Debug)]
pub struct RunTime {
    pub runs: u64,
    pub ns: u64,
}

/// A process that was just started is given this long to have an allocator.
const PATIENCE: Duration = Duration::from_secs(5);

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

    /// Attaches and waits until all probes are armed.
    pub fn attach(memtrace: &Path, pid: u32, arguments: &[&str]) -> Result<Self> {
        let directory = TempDir::new()?;
        let begun = Instant::now();
        let mut process = Command::new(memtrace)
            .args(["attach", "--json", "-p", &pid.to_string(), "-o"])
            .arg(directory.path().join("out"))
            .args(arguments)
            .stdin(Stdio::null())
            // Not a pipe: nobody would read it while memtrace traces.
            .stdout(fs::File::create(directory.path().join("report.json"))?)
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", memtrace.display()))?;
        let stderr = BufReader::new(process.stderr.take().context("stderr is a pipe")?);
        let armed_after = Duration::ZERO;
        let mut tracer = Self { process, stderr, armed_after, directory };
        tracer.wait_until_armed()?;
        tracer.armed_after = begun.elapsed();
        Ok(tracer)
    }

    fn wait_until_armed(&mut self) -> Result<()> {
        let mut said = String::new();
        while self.stderr.read_line(&mut said)? > 0 {
            if said.contains("probes armed") {
                return Ok(());
            }
        }
        anyhow::bail!("memtrace ended before it traced:\n{said}")
    }

    /// What its BPF maps take in the kernel, by the kernel's own account of each.
    pub fn map_bytes(&self) -> Result<u64> {
        Ok(self.maps()?.values().sum())
    }

    /// The same by the map's name.
    pub fn maps_by_name(&self) -> Result<BTreeMap<String, u64>> {
        let mine = self.maps()?;
        let mut by_name = BTreeMap::new();
        for map in loaded_maps().filter_map(Result::ok) {
            if let (Some(bytes), Some(name)) = (mine.get(&u64::from(map.id())), map.name_as_str()) {
                by_name.insert(name.to_owned(), *bytes);
            }
        }
        Ok(by_name)
    }

    /// How long one of its BPF programs ran, while the kernel measured that.
    pub fn run_time(&self, program: &str) -> Result<RunTime> {
        let mine = self.by_id("prog_id:", "prog_id:")?;
        loaded_programs()
            .filter_map(Result::ok)
            .find(|info| {
                info.name_as_str() == Some(program) && mine.contains_key(&u64::from(info.id()))
            })
            .map(|info| RunTime { runs: info.run_count(), ns: info.run_time().as_nanos() as u64 })
            .with_context(|| format!("memtrace has no BPF program {program}"))
    }

    /// Bytes by map id.
    fn maps(&self) -> Result<BTreeMap<u64, u64>> {
        self.by_id("map_id:", "memlock:")
    }

    /// Of all its descriptors that have both fields.
    fn by_id(&self, id: &str, value: &str) -> Result<BTreeMap<u64, u64>> {
        let directory = format!("/proc/{}/fdinfo", self.process.id());
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(directory)? {
            let info = fs::read_to_string(entry?.path())?;
            let field = |name: &str| {
                let line = info.lines().find_map(|line| line.strip_prefix(name))?;
                line.trim().parse::<u64>().ok()
            };
            if let (Some(id), Some(value)) = (field(id), field(value)) {
                found.insert(id, value);
            }
        }
        Ok(found)
    }

    /// Ends it as Ctrl-C does, and reads its report.
    pub fn finish(mut self) -> Result<Report> {
        let pid = Pid::from_raw(self.process.id() as i32).context("no pid")?;
        kill_process(pid, Signal::INT)?;
        let mut said = String::new();
        self.stderr.read_to_string(&mut said)?;
        let status = self.process.wait()?;
        ensure!(status.success(), "memtrace failed ({status}):\n{said}");
        let report = fs::read_to_string(self.directory.path().join("report.json"))?;
        serde_json::from_str(&report).context("memtrace's report has another shape")
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

    /// Losses of any kind, by name.
    pub fn losses(&self) -> String {
        let losses = &self.completeness.losses;
        losses.iter().map(|of| format!("{} {}", of.count, of.name)).collect::<Vec<_>>().join(", ")
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
