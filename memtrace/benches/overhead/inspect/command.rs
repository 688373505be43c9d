//! `memtrace inspect`, and what it took.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::{
    Setup,
    finished::{Finished, run},
};

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
    let mut command = command(setup, pid);
    let finished = run(command.stdin(Stdio::null()).stdout(output.reopen()?))?;
    let Finished { wall_ns: whole_ns, peak_bytes, .. } = finished;
    let inspection: Value = serde_json::from_slice(&fs::read(output.path())?)?;
    let duration_ns = inspection.pointer("/duration_ns").and_then(Value::as_f64);
    let duration_ns = duration_ns.context("no duration in the inspection")?;
    Ok(Look { duration_ns, whole_ns, peak_bytes })
}
