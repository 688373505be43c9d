//! Tools that come to a running program, and go.

use std::{
    fs,
    io::{Read, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tempfile::NamedTempFile;

use super::{Peers, tool::Tool};
use crate::{
    floor::{Floor, Sites},
    process::{Process, Watchdog},
    tracer::{Report, Tracer},
};

/// How long a tool may take until it traces, or until it has gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of memleak's reports, the first of which says that its probes are armed: what it says before does
/// not.
pub const MEMLEAK_REPORTS: &str = "outstanding";

/// A tool at work; removed on drop.
pub enum Watch {
    Nothing,
    Floor(Box<Floor>),
    Memtrace(Box<Tracer>),
    /// With the script that it reads, if it does.
    Tool(Process, Option<NamedTempFile>),
}

impl Watch {
    /// Sets a tool on a process, and returns when it watches.
    pub fn begin(peers: &Peers<'_>, tool: Tool, pid: u32) -> Result<Self> {
        Ok(match tool {
            Tool::Floor => Self::Floor(Box::new(Floor::arm(pid, Sites::Chosen)?)),
            Tool::FloorFirst => Self::Floor(Box::new(Floor::arm(pid, Sites::First)?)),
            Tool::Exact | Tool::Sampled | Tool::Default | Tool::Growth => {
                Self::Memtrace(Box::new(peers.attach(tool, pid)?))
            }
            Tool::Inspect => {
                let mut command = Command::new(&peers.setup.memtrace);
                command.args(["inspect", "--every", "2s", "-p", &pid.to_string()]);
                Self::Tool(started(&mut command)?, None)
            }
            Tool::Memleak => {
                Self::Tool(started_when(&mut memleak(peers, pid)?, MEMLEAK_REPORTS)?, None)
            }
            Tool::Bpftrace => {
                let script = bpftrace_script(&peers.setup.targets.join("leak.bt"), pid)?;
                let mut command = Command::new("bpftrace");
                command.args(["-B", "line", "-p", &pid.to_string()]).arg(script.path());
                // Stacks are kept with their addresses, as memleak does; names cost nothing here.
                command
                    .env("BPFTRACE_MAP_KEYS_MAX", "1000000")
                    .env("BPFTRACE_MAX_MAP_KEYS", "1000000");
                Self::Tool(started_when(&mut command, "armed")?, Some(script))
            }
            Tool::Bare
            | Tool::Heaptrack
            | Tool::MemrayRun
            | Tool::MemrayAttach
            | Tool::Jemalloc => Self::Nothing,
        })
    }

    /// Removes it; what it says in the end, if it is memtrace.
    pub fn end(self) -> Result<Option<Report>> {
        match self {
            Self::Nothing => Ok(None),
            Self::Floor(floor) => {
                floor.detach();
                Ok(None)
            }
            Self::Memtrace(tracer) => tracer.finish().map(Some),
            Self::Tool(mut process, _script) => {
                if !process.is_alive() {
                    bail!("it ended while it watched");
                }
                process.interrupt()?;
                process.wait(PATIENCE)?;
                Ok(None)
            }
        }
    }
}

/// A report a second. `stdbuf`, as it would otherwise keep them back until a block is full.
fn memleak(peers: &Peers<'_>, pid: u32) -> Result<Command> {
    let mut command = Command::new("stdbuf");
    command.arg("-oL").arg(peers.setup.memleak.as_deref().context("there is no memleak")?);
    command.args(["-p", &pid.to_string()]);
    let allocator = allocator(pid)?;
    if allocator.to_string_lossy().contains("jemalloc") {
        command.arg("-O").arg(&allocator);
    }
    command.arg("1");
    Ok(command)
}

/// The script with the target's allocator in it.
fn bpftrace_script(template: &Path, pid: u32) -> Result<NamedTempFile> {
    let allocator = allocator(pid)?;
    let text =
        fs::read_to_string(template)?.replace("ALLOCATOR:", &format!("{}:", allocator.display()));
    let mut script = NamedTempFile::new()?;
    script.write_all(text.as_bytes())?;
    Ok(script)
}

/// The library that has the malloc which a process calls.
fn allocator(pid: u32) -> Result<PathBuf> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let file = |part: &str| {
        maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|it| it.contains(part))
    };
    let found = file("libjemalloc.so").or_else(|| file("libc.so.6"));
    found.map(PathBuf::from).context("it has no allocator of a library")
}

/// A tool that says something as soon as it traces.
fn started(command: &mut Command) -> Result<Process> {
    started_when(command, "")
}

/// A tool that says a certain thing when it traces. What it says later goes nowhere.
pub fn started_when(command: &mut Command, sign: &str) -> Result<Process> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::start(command)?;
    let watchdog = Watchdog::over(process.pid(), PATIENCE);
    let mut output = process.take_stdout()?;
    let mut errors = process.take_stderr()?;
    let complaint = thread::spawn(move || {
        let mut said = String::new();
        let _ = errors.read_to_string(&mut said);
        said
    });
    if !read_until(&mut output, sign)? {
        drop(process);
        drop(watchdog);
        let said = complaint.join().unwrap_or_default();
        bail!("it ended before it traced: {}", last_words(&said));
    }
    thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    Ok(process)
}

/// The reason is often the line before the last.
fn last_words(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match &lines[..] {
        [] => "in silence".to_owned(),
        [.., reason, last] => format!("{reason}; {last}"),
        [last] => (*last).to_owned(),
    }
}

/// Whether the sign came before the end.
fn read_until(output: &mut impl Read, sign: &str) -> Result<bool> {
    let (mut said, mut part) = (String::new(), [0; 4096]);
    loop {
        let length = output.read(&mut part)?;
        if length == 0 {
            return Ok(false);
        }
        said.push_str(&String::from_utf8_lossy(&part[..length]));
        if said.contains(sign) {
            return Ok(true);
        }
    }
}
