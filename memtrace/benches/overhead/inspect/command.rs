//! `memtrace inspect`, and what it took.

use std::{
    fs, io,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::Setup;

/// A look.
pub struct Look {
    /// As memtrace tells it.
    pub duration_ns: f64,
    /// Of the whole process.
    pub whole_ns: f64,
    /// Its peak RSS, by the kernel.
    pub peak_bytes: f64,
}

/// The command for a process.
pub fn command(setup: &Setup, pid: u32) -> Command {
    let mut command = Command::new(&setup.memtrace);
    command.args(["inspect", "--json", "-p", &pid.to_string()]);
    command
}

/// Looks at a process once.
pub fn look(setup: &Setup, pid: u32) -> Result<Look> {
    let output = NamedTempFile::new()?;
    let begun = Instant::now();
    let child = command(setup, pid)
        .stdin(Stdio::null())
        .stdout(output.reopen()?)
        .spawn()
        .with_context(|| format!("cannot start {}", setup.memtrace.display()))?;
    let peak_bytes = end_of(child.id())?;
    let whole_ns = begun.elapsed().as_nanos() as f64;
    let inspection: Value = serde_json::from_slice(&fs::read(output.path())?)?;
    let duration_ns = inspection.pointer("/duration_ns").and_then(Value::as_f64);
    let duration_ns = duration_ns.context("no duration in the inspection")?;
    Ok(Look { duration_ns, whole_ns, peak_bytes })
}

/// Waits for a child to end well; its own peak RSS, which the kernel tells of one child only here.
fn end_of(pid: u32) -> Result<f64> {
    let (mut status, pid) = (0, libc::pid_t::try_from(pid)?);
    // SAFETY: all zeros are a valid `rusage`, and the call fills in what it is given.
    let (ended, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid, &raw mut status, 0, &raw mut usage), usage)
    };
    ensure!(ended == pid, "cannot wait for memtrace: {}", io::Error::last_os_error());
    ensure!(status == 0, "memtrace inspect failed (wait status {status})");
    Ok(usage.ru_maxrss as f64 * 1024.0)
}
