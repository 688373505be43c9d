//! Tools that a program is started under, and memray, which moves in once.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use super::{
    Peers,
    subject::Subject,
    tool::{Tool, jemalloc},
    workload::Workload,
};
use crate::process::{Process, which};

/// How long memray may take to move in.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program under a tool; ended on drop, before what reads the tool's records.
pub struct Wrapped {
    pub subject: Box<dyn Subject>,
    /// Takes heaptrack's records.
    _reader: Option<Process>,
    _scratch: TempDir,
}

impl Wrapped {
    /// Starts a workload under a tool.
    pub fn start(peers: &Peers<'_>, tool: Tool, workload: Workload) -> Result<Self> {
        let scratch = TempDir::new()?;
        let mut command = workload.command(peers.setup, false)?;
        let mut reader = None;
        match tool {
            Tool::Heaptrack => reader = Some(heaptrack(&mut command, scratch.path())?),
            Tool::Jemalloc => profile(&mut command)?,
            Tool::MemrayRun => command = under_memray(&command, &records(&scratch)),
            _ => {}
        }
        let mut subject = peers.start(workload, &mut command)?;
        if tool == Tool::MemrayAttach {
            move_in(peers, subject.as_mut(), &records(&scratch))?;
        }
        Ok(Self { subject, _reader: reader, _scratch: scratch })
    }
}

fn records(scratch: &TempDir) -> PathBuf {
    scratch.path().join("memray.bin")
}

/// What the script `heaptrack` does, which would start the program without its stdin.
fn heaptrack(command: &mut Command, scratch: &Path) -> Result<Process> {
    let home = which("heaptrack").context("there is no heaptrack")?;
    let home = home.parent().and_then(Path::parent).context("heaptrack lies at the root")?;
    let home = home.join("lib/heaptrack");
    let pipe = scratch.join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status()?;
    ensure!(made.success(), "mkfifo failed");
    let mut reader = Command::new("sh");
    reader.args(["-c", "exec \"$1\" < \"$2\" | gzip -c > \"$3\"", "sh"]);
    reader.arg(home.join("libexec/heaptrack_interpret")).arg(&pipe).arg(scratch.join("records.gz"));
    command.env("LD_PRELOAD", home.join("libheaptrack_preload.so"));
    command.env("DUMP_HEAPTRACK_OUTPUT", &pipe);
    Process::start(reader.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
}

/// A sample in 512 KiB, as is jemalloc's default and memtrace's here.
fn profile(command: &mut Command) -> Result<()> {
    command.env("LD_PRELOAD", jemalloc().context("there is no jemalloc")?);
    command.env("MALLOC_CONF", "prof:true,prof_active:true,lg_prof_sample:19");
    Ok(())
}

/// `python SCRIPT ...` becomes `python -m memray run ... SCRIPT ...`.
fn under_memray(command: &Command, records: &Path) -> Command {
    let mut run = Command::new(command.get_program());
    run.args(["-m", "memray", "run", "--quiet", "--native", "--force", "--output"]);
    run.arg(records).args(command.get_args());
    let set = |(name, value): (_, Option<_>)| Some((OsString::from(name), OsString::from(value?)));
    run.envs(command.get_envs().filter_map(set));
    run
}

/// It waits for the program to allocate.
fn move_in(peers: &Peers<'_>, subject: &mut dyn Subject, records: &Path) -> Result<()> {
    let python = peers.setup.services_python.as_deref().context("no Python for services")?;
    let mut attach = Command::new(python);
    attach.args(["-m", "memray", "attach", "--native", "--method", "lldb", "--output"]);
    attach.arg(records).arg(subject.pid().to_string());
    let mut attach = Process::start(attach.stdin(Stdio::null()).stdout(Stdio::null()))?;
    let begun = Instant::now();
    while attach.is_alive() {
        ensure!(begun.elapsed() < PATIENCE, "it did not attach within {} s", PATIENCE.as_secs());
        subject.work(Duration::from_millis(100))?;
    }
    if !attach.wait(PATIENCE)?.success() {
        bail!("it did not attach");
    }
    ensure!(records.metadata().is_ok_and(|file| file.len() > 0), "it has recorded nothing");
    Ok(())
}
