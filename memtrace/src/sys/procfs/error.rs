//! Why a process cannot be looked at, each with what to do.

use std::io;

use rustix::io::Errno;
use thiserror::Error;

/// Why a process cannot be looked at.
#[derive(Debug, Error)]
pub enum ProcError {
    /// The pid is not in use.
    #[error(
        "there is no process {pid}; look the pid up again (`pgrep -a NAME`), in this pid namespace"
    )]
    NoSuchProcess {
        /// As given.
        pid: u32,
    },
    /// The caller may not look.
    #[error(
        "process {pid} may not be looked at ({file}: permission denied); run as root (sudo), and in \
         a container with CAP_SYS_PTRACE, and CAP_DAC_READ_SEARCH for processes of other users"
    )]
    PermissionDenied {
        /// As given.
        pid: u32,
        /// File in its directory.
        file: &'static str,
    },
    /// It was there a moment ago.
    #[error("process {pid} ended in the meantime; start again with a process that lives longer")]
    Ended {
        /// As given.
        pid: u32,
    },
    /// It has ended, only its parent does not know yet.
    #[error("process {pid} has ended and waits for its parent (a zombie); it has no memory left")]
    Zombie {
        /// As given.
        pid: u32,
    },
    /// It has no user memory.
    #[error("{pid} is a kernel thread; it has no allocator that could be traced")]
    KernelThread {
        /// As given.
        pid: u32,
    },
    /// The number names a thread.
    #[error("{pid} is a thread of process {process}; give the process: -p {process}")]
    Thread {
        /// As given.
        pid: u32,
        /// Its process.
        process: u32,
    },
    /// The kernel's text is not as documented.
    #[error(
        "/proc/{pid}/{file} is not in the expected form, near {content:?}; please report this with \
         the output of `uname -a`"
    )]
    Malformed {
        /// As given.
        pid: u32,
        /// File in its directory.
        file: &'static str,
        /// What could not be read.
        content: String,
    },
    /// The mapped file itself cannot be reached.
    #[error(
        "the file that is mapped as {path} cannot be opened ({source}); run as root in the initial \
         user namespace"
    )]
    NotMappedFile {
        /// Path in the target's mount namespace.
        path: String,
        /// What the last attempt said.
        source: io::Error,
    },
    /// Anything else.
    #[error("/proc/{pid}/{file} cannot be read: {source}; check that /proc is mounted")]
    Read {
        /// As given.
        pid: u32,
        /// File in its directory.
        file: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ProcError {
    /// Names an I/O error on a file of a process; `directory_exists` is asked afterwards.
    pub(super) fn from_io(
        pid: u32,
        file: &'static str,
        source: io::Error,
        directory_exists: bool,
    ) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound if !directory_exists => Self::NoSuchProcess { pid },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { pid, file },
            // ESRCH: the directory was open when the process was reaped.
            _ if Errno::from_io_error(&source) == Some(Errno::SRCH) => Self::Ended { pid },
            _ => Self::Read { pid, file, source },
        }
    }
}
