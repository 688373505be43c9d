//! Programs that run to their end, and what they took by the kernel's account.

use std::{io, process::Command, time::Instant};

use anyhow::{Context as _, Result, ensure};

use crate::process::{Watchdog, die_with_parent};

/// Longer than any of them takes.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(300);

/// What a run took.
#[derive(Clone, Copy)]
pub struct Finished {
    /// From its start to its end.
    pub wall_ns: f64,
    /// CPU time, the kernel's for it included.
    pub cpu_ns: f64,
    /// The most RSS that it had.
    pub peak_bytes: f64,
}

/// Runs a program. An error unless it exits with 0.
pub fn run(command: &mut Command) -> Result<Finished> {
    die_with_parent(command);
    let begun = Instant::now();
    let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let watchdog = Watchdog::over(child.id(), PATIENCE);
    let usage = end_of(child.id()).with_context(|| format!("{command:?}"))?;
    let wall_ns = begun.elapsed().as_nanos() as f64;
    drop(watchdog);
    let cpu_ns = nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime);
    Ok(Finished { wall_ns, cpu_ns, peak_bytes: usage.ru_maxrss as f64 * 1024.0 })
}

fn nanoseconds(time: libc::timeval) -> f64 {
    time.tv_sec as f64 * 1e9 + time.tv_usec as f64 * 1e3
}

/// Waits for a child to end well; what it took, which the kernel tells of one child only here.
fn end_of(pid: u32) -> Result<libc::rusage> {
    let (mut status, pid) = (0, libc::pid_t::try_from(pid)?);
    // SAFETY: all zeros are a valid `rusage`, and the call fills in what it is given.
    let (ended, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid, &raw mut status, 0, &raw mut usage), usage)
    };
    ensure!(ended == pid, "cannot wait for it: {}", io::Error::last_os_error());
    ensure!(status == 0, "it failed (wait status {status})");
    Ok(usage)
}
