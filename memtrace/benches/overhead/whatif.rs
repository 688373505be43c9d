//! What replays say against what the same work really takes, how fast a replay is, and how fast it is
//! told who pins a heap.

mod blame;
mod pairs;
mod speed;

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use memtrace::whatif::result::WhatIf;

use crate::{Setup, machine::Cpus, process::die_with_parent, results::Results};

/// Measures, and adds the rows.
pub fn measure(setup: &Setup, cpus: Cpus, results: &mut Results) -> Result<()> {
    pairs::measure(setup, cpus, results)?;
    speed::measure(setup, cpus, results)?;
    blame::measure(setup, results)
}

/// Replays a capture, on all CPUs as the target was: allocators count them.
fn whatif(setup: &Setup, cpus: Cpus, capture: &Path, with: &str) -> Result<WhatIf> {
    let mut command = Command::new(&setup.memtrace);
    command.arg("whatif").arg(capture).args(["--with", with, "--format", "json", "--jobs", "1"]);
    die_with_parent(command.arg("--quiet").stdin(Stdio::null()).stderr(Stdio::inherit()));
    let start = || command.stdout(Stdio::piped()).spawn().context("cannot start memtrace");
    let output = cpus.start(true, start)?.wait_with_output()?;
    ensure!(output.status.success(), "memtrace whatif failed ({})", output.status);
    serde_json::from_slice(&output.stdout).context("memtrace's result has another shape")
}
