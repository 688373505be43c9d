//! Why a command was not started.

use std::{io, process::ExitStatus};

use thiserror::Error;

/// See the module.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// There is no such file.
    #[error("{program}: not found: {source}")]
    NotFound {
        /// As given.
        program: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// It is there, and no program that may be executed.
    #[error("{program} cannot be executed: {source}")]
    NotExecutable {
        /// As given.
        program: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// There is no process for it.
    #[error("cannot start {program}: {source}")]
    Start {
        /// As given.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It cannot be held at its start.
    #[error(
        "the command cannot be held before its first allocation: {0}; it was not started (is \
         ptrace forbidden here, by kernel.yama.ptrace_scope or a seccomp filter? start the command \
         without memtrace, and attach)"
    )]
    Hold(#[source] io::Error),
    /// It ended before it ran any code of its own, as where a library is missing.
    #[error("the command ended before it ran any code of its own: {0}")]
    Ended(ExitStatus),
    /// It cannot be waited for.
    #[error("the command cannot be waited for: {0}")]
    Wait(#[from] io::Error),
}

impl LaunchError {
    /// What `execve` said.
    pub(super) fn of_exec(program: String, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { program, source },
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidFilename => Self::NotExecutable { program, source },
            _ if source.raw_os_error() == Some(libc::ENOEXEC) => {
                Self::NotExecutable { program, source }
            }
            _ => Self::Start { program, source },
        }
    }
}
