//! Kernels on which return probes are known to hurt the target.

use thiserror::Error;

use super::{
    kernel::KernelVersion,
    procfs::{Process, SeccompMode},
};

/// A combination that must not be traced.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Hazard {
    /// Since 6.11 a return probe ends in a system call, which a seccomp filter kills until
    /// cf6cb56ef244 (6.14) taught seccomp to let it pass.
    #[error(
        "process {pid} runs under a seccomp filter (as in most containers), and on Linux \
         {version} a return probe would get it killed (fixed in 6.14 by commit cf6cb56ef244): \
         not attached\n  if your distribution has backported the fix, pass \
         --ignore-hazards"
    )]
    SeccompKillsReturnProbes {
        /// As given.
        pid: u32,
        /// The running kernel.
        version: KernelVersion,
    },
}

/// Refuses what is known to hurt.
pub fn preflight(process: &Process, version: KernelVersion) -> Result<(), Hazard> {
    let affected = (KernelVersion::new(6, 11)..KernelVersion::new(6, 14)).contains(&version);
    if process.seccomp == SeccompMode::Filter && affected {
        return Err(Hazard::SeccompKillsReturnProbes { pid: process.pid, version });
    }
    Ok(())
}
