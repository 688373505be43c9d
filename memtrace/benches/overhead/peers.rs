//! Another tool on the same target, where it is installed: bcc's memleak, which keeps its books
//! in the kernel and shows the top stacks now and then.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};

use crate::{
    Setup,
    machine::Cpus,
    results::{Results, Unit},
    target::{Target, Work},
};

/// The name that Debian gives it.
const MEMLEAK: &str = "memleak-bpfcc";

const GROUP: &str = "Cost of a malloc and its free under other tools";
const WORK: Work = Work { size_bytes: 256, depth: 0 };

/// Measures, and adds the rows.
pub fn measure(setup: &Setup, cpus: Cpus, results: &mut Results) -> Result<()> {
    if which(MEMLEAK).is_none() {
        results.skip(format!("bcc's memleak: there is no {MEMLEAK} (Debian: bpfcc-tools)"));
        return Ok(());
    }
    let mut target = Target::pairs(&setup.pairs(), cpus)?;
    let tool = match Tool::start(target.pid()) {
        Ok(tool) => tool,
        // It compiles itself for the running kernel, and often cannot.
        Err(error) => {
            results.skip(format!("bcc's memleak: {error:#}"));
            return Ok(());
        }
    };
    let (rounds, pairs) = if setup.quick { (5, 5_000) } else { (21, 10_000) };
    target.time(pairs, WORK)?;
    let samples: Vec<f64> = (0..rounds)
        .map(|_| target.time(pairs, WORK).map(|timing| timing.pair_ns()))
        .collect::<Result<_>>()?;
    drop(tool);
    results.add(GROUP, "bcc's memleak, 256 bytes", Unit::Ns, &samples, None);
    Ok(())
}

/// A running memleak; ended on drop.
struct Tool(Child);

impl Tool {
    /// Starts it and waits for its first report, by which time its probes are armed.
    fn start(pid: u32) -> Result<Self> {
        let process = Command::new(MEMLEAK)
            .args(["-p", &pid.to_string(), "1"])
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut tool = Self(process);
        let mut output = BufReader::new(tool.0.stdout.take().context("stdout is a pipe")?);
        let mut line = String::new();
        while output.read_line(&mut line)? > 0 {
            if line.contains("Top ") {
                // Its reports must go somewhere for as long as it runs.
                std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
                return Ok(tool);
            }
            line.clear();
        }
        anyhow::bail!("it ended before it traced")
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first file of a name in PATH.
pub fn which(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}
