//! Whom to watch.

use std::num::NonZeroU32;

use crate::sys::{cgroup::Group, procfs::ProcFs};

/// See the module.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A process.
    Process(NonZeroU32),
    /// Every process of this name (the kernel's, of at most 15 bytes), also those that come.
    Command(String),
    /// A control group as a whole, also when it comes again.
    Group(Group),
}

/// Processes of a name, but not memtrace's own.
pub(super) fn named(proc: &ProcFs, command: &str) -> Vec<u32> {
    // The kernel cuts names: so is what is looked for.
    let cut: String = command.chars().take(15).collect();
    let own = std::process::id();
    let is_named = |pid: &u32| *pid != own && proc.command(*pid).is_some_and(|it| it == cut);
    proc.pids().into_iter().filter(is_named).collect()
}
