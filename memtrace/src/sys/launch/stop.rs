//! The stops of a process that is held by ptrace(2).

use std::io;

use nix::{
    errno::Errno,
    sys::{
        ptrace,
        signal::Signal,
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};

use super::LaunchError;

/// Where a process stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It has become another program, which has not run yet.
    Exec,
    /// At the entry of a system call, or at its end.
    SystemCall,
    /// Something that it is to get when it goes on, if anything.
    Passing(Option<Signal>),
    /// It was stopped by a signal (SIGSTOP and kin), and stays so until it gets SIGCONT.
    Group,
}

/// `PTRACE_EVENT_STOP` of <linux/ptrace.h>.
const EVENT_STOP: i32 = 128;

/// Waits for the next stop. The end of a process that has ended is left for others to ask for.
///
/// # Errors
/// [`Gone`] when it has ended.
pub(super) fn next_stop(pid: Pid) -> Result<Stop, Gone> {
    loop {
        if let Some(stop) = stop_of(pid, WaitPidFlag::empty())? {
            return Ok(stop);
        }
    }
}

/// The same, if it has come to one by now.
///
/// # Errors
/// [`Gone`] when it has ended.
pub(super) fn stop_by_now(pid: Pid) -> Result<Option<Stop>, Gone> {
    stop_of(pid, WaitPidFlag::WNOHANG)
}

fn stop_of(pid: Pid, how: WaitPidFlag) -> Result<Option<Stop>, Gone> {
    let any = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::__WALL;
    let status = restarted(|| waitid(Id::Pid(pid), any | WaitPidFlag::WNOWAIT | how))?;
    let stop = match status {
        WaitStatus::StillAlive => return Ok(None),
        WaitStatus::PtraceSyscall(_) => Stop::SystemCall,
        WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_EXEC) => Stop::Exec,
        WaitStatus::PtraceEvent(_, Signal::SIGTRAP, EVENT_STOP) => Stop::Passing(None),
        WaitStatus::PtraceEvent(_, _, EVENT_STOP) => Stop::Group,
        WaitStatus::PtraceEvent(_, signal, 0) => Stop::Passing(Some(signal)),
        WaitStatus::Stopped(_, signal) => Stop::Passing(Some(signal)),
        WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Err(Gone::Ended),
        _ => Stop::Passing(None),
    };
    let taken = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
    restarted(|| waitid(Id::Pid(pid), taken))?;
    Ok(Some(stop))
}

/// Lets it go on, up to its next system call if `calls`.
pub(super) fn go_on(pid: Pid, stop: Stop, calls: bool) -> Result<(), Gone> {
    let signal = match stop {
        Stop::Passing(signal) => signal,
        Stop::Group => return listen(pid),
        Stop::Exec | Stop::SystemCall => None,
    };
    let gone = match calls {
        true => ptrace::syscall(pid, signal),
        false => ptrace::cont(pid, signal),
    };
    gone.map_err(Gone::from)
}

/// Leaves it stopped until it gets SIGCONT.
fn listen(pid: Pid) -> Result<(), Gone> {
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: the request takes no addresses.
    let result = unsafe { libc::ptrace(libc::PTRACE_LISTEN, pid.as_raw(), nothing, nothing) };
    Errno::result(result).map(drop).map_err(Gone::from)
}

/// A process that is there no more, or cannot be asked.
#[derive(Debug)]
pub(super) enum Gone {
    /// It ended.
    Ended,
    /// The kernel refused.
    Refused(io::Error),
}

impl From<Errno> for Gone {
    fn from(errno: Errno) -> Self {
        match errno {
            // Of a stopped process: it was killed.
            Errno::ESRCH => Self::Ended,
            errno => Self::Refused(errno.into()),
        }
    }
}

impl From<Gone> for LaunchError {
    fn from(gone: Gone) -> Self {
        match gone {
            Gone::Ended => Self::Ended(Default::default()),
            Gone::Refused(error) => Self::Hold(error),
        }
    }
}

fn restarted<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}
