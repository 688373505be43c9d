//! Kernels on which probes are known to hurt the target or the machine.

use thiserror::Error;

use super::{
    kernel::{KernelVersion, patch_level},
    procfs::{ProcFs, Process, SeccompMode},
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
    /// cfa7f3d2c526 (6.12) made the kernel's own walk of user stacks look at the instruction of a
    /// uprobe, which can be gone by then; b583ef82b671 (6.13, 6.12.19) mended it.
    #[error(
        "process {profiler} uses perf events (a profiler?), and on Linux {release} the kernel can \
         panic when it takes the stack of a process that has probes (fixed in 6.12.19 and 6.13 by \
         commit b583ef82b671): not attached\n  end the profiler first, or if your distribution has \
         backported the fix, pass --ignore-hazards"
    )]
    ProfilerPanicsTheKernel {
        /// Who profiles.
        profiler: u32,
        /// The running kernel.
        release: String,
    },
}

/// Whether a profiler that takes user stacks beside probes can make this kernel panic: 6.12 up to
/// .18, and the stable 6.6 that took over the fault, up to .80.
pub fn panics_with_profilers(release: &str) -> bool {
    let Ok(version) = KernelVersion::parse(release) else { return false };
    let affected_below = match (version.major, version.minor) {
        (6, 12) => 19,
        (6, 6) => 81,
        _ => return false,
    };
    patch_level(release).is_some_and(|level| level < affected_below)
}

/// Refuses what is known to hurt.
pub fn preflight(proc: &ProcFs, process: &Process, version: KernelVersion) -> Result<(), Hazard> {
    let affected = (KernelVersion::new(6, 11)..KernelVersion::new(6, 14)).contains(&version);
    if process.seccomp == SeccompMode::Filter && affected {
        return Err(Hazard::SeccompKillsReturnProbes { pid: process.pid, version });
    }
    let release = proc.host().kernel;
    if panics_with_profilers(&release)
        && let Some(profiler) = proc.user_of_perf_events()
    {
        return Err(Hazard::ProfilerPanicsTheKernel { profiler, release });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use super::*;

    /// A machine with such a kernel, on which process 77 profiles.
    fn machine(release: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("sys/kernel/osrelease", release);
        write("66/fd/3", "a file");
        write("77/fd/5", "a file");
        symlink("anon_inode:[perf_event]", root.path().join("77/fd/6")).unwrap();
        root
    }

    fn looked_at(root: &Path, seccomp: SeccompMode) -> Result<(), Hazard> {
        let proc = ProcFs::new(root);
        let version = proc.kernel_version().unwrap();
        preflight(&proc, &Process { pid: 42, seccomp, ..Process::default() }, version)
    }

    #[test]
    fn return_probes_kill_behind_a_seccomp_filter_from_6_11_to_6_13() {
        for (release, is_refused) in
            [("6.10.1", false), ("6.11.0", true), ("6.13.9", true), ("6.14.0", false)]
        {
            let root = machine(release);
            let filtered = looked_at(root.path(), SeccompMode::Filter);
            assert_eq!(filtered.is_err(), is_refused, "{release}");
            assert!(looked_at(root.path(), SeccompMode::Off).is_ok(), "{release}");
        }
    }

    #[test]
    fn a_profiler_beside_probes_is_refused_where_the_kernel_can_panic() {
        for release in ["6.12.0", "6.12.18-amd64", "6.6.80"] {
            let refused = looked_at(machine(release).path(), SeccompMode::Off).unwrap_err();
            let sentence = refused.to_string();
            assert!(sentence.contains("process 77") && sentence.contains(release), "{sentence}");
        }
        for release in ["6.12.19", "6.6.81", "6.12", "6.1.90", "6.18.3"] {
            assert_eq!(looked_at(machine(release).path(), SeccompMode::Off), Ok(()), "{release}");
        }
    }
}
