//! Who runs where, and on what.

use anyhow::{Context as _, Result};
use rustix::{
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// The CPUs of a run: the target has the last one for itself, the tracer and the benchmark share
/// the others. With one CPU, all share it.
#[derive(Clone, Copy)]
pub struct Cpus {
    all: CpuSet,
    target: CpuSet,
    own: CpuSet,
}

impl Cpus {
    /// Moves this process, and thereby the tracers it will start, off the target's CPU.
    pub fn share_out() -> Result<Self> {
        let all = sched_getaffinity(None)?;
        let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| all.is_set(*cpu)).context("no CPU")?;
        let mut target = CpuSet::new();
        target.set(last);
        let mut own = all;
        if all.count() > 1 {
            own.unset(last);
            sched_setaffinity(None, &own)?;
        }
        Ok(Self { all, target, own })
    }

    /// Starts something on the target's CPU, or on all of them, with all the threads that it will
    /// have.
    pub fn start<T>(self, on_all: bool, start: impl FnOnce() -> Result<T>) -> Result<T> {
        sched_setaffinity(None, if on_all { &self.all } else { &self.target })?;
        let started = start();
        sched_setaffinity(None, &self.own)?;
        started
    }

    /// Gives a process, whose threads have not been started yet, the target's CPU.
    pub fn pin_target(self, pid: u32) -> Result<()> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no pid")?;
        sched_setaffinity(Some(pid), &self.target).context("cannot pin the target")
    }

    /// The machine, in a line.
    pub fn describe(self) -> Result<String> {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
        let field = |name| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
            line.split_once(": ").map(|(_, value)| value.trim().to_owned())
        };
        let model = field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        let guest = if cpuinfo.contains(" hypervisor") { ", virtual machine" } else { "" };
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        Ok(format!("{model}, {} CPUs{guest}, Linux {}", self.all.count(), release.trim()))
    }
}
