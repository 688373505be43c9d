//! What a process that goes on has taken so far, by the kernel's account.

use anyhow::{Context as _, Result};
use procfs::process::{Process, Status};

/// CPU time of all its threads, in seconds; exact to a tick (10 ms).
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = process(pid)?.stat()?;
    Ok((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

/// The most RSS that it had.
pub fn peak_bytes(pid: u32) -> Result<f64> {
    Ok(status(pid)?.vmhwm.context("the kernel tells no VmHWM")? as f64 * 1024.0)
}

/// The RSS that it has.
pub fn rss_bytes(pid: u32) -> Result<f64> {
    Ok(status(pid)?.vmrss.context("the kernel tells no VmRSS")? as f64 * 1024.0)
}

fn status(pid: u32) -> Result<Status> {
    Ok(process(pid)?.status()?)
}

fn process(pid: u32) -> Result<Process> {
    Ok(Process::new(i32::try_from(pid)?)?)
}
