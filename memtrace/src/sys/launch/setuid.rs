//! Programs that are to have the rights of who owns their file.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use crate::sys::{facilities::Facilities, procfs::ProcFs};

/// Warns where a program that has just been executed would have its owner's rights if memtrace did not hold
/// it: the kernel gives none to what is held by somebody without `CAP_SYS_PTRACE`.
pub(super) fn warn_of_lost_rights(proc: &ProcFs, pid: u32) {
    let (Ok(file), Ok(process)) = (fs::metadata(proc.executable_of(pid)), proc.process(pid)) else {
        return;
    };
    let is_setuid = file.mode() & libc::S_ISUID != 0;
    if !is_setuid || file.uid() == process.user {
        return;
    }
    let facilities = Facilities::read(Path::new("/"));
    if facilities.lacking(true).any(|right| right.name == "CAP_SYS_PTRACE") {
        log::warn!(
            "{} is setuid, but does not get the rights of user {}: the kernel gives none to a program \
             that is held by memtrace without CAP_SYS_PTRACE",
            process.command,
            file.uid()
        );
    }
}
