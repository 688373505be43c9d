//! A process by descriptor: unlike a pid, it cannot come to mean another process.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

/// A handle on a process; readable once the process has ended.
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens a process (thread group).
    ///
    /// # Errors
    /// `ESRCH` when there is none, `EINVAL` for a thread that is not a group's leader.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::from(rustix::io::Errno::SRCH))?;
        Ok(Self(pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Whether the process has ended (it may still be a zombie).
    pub fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut fds, Some(&now)), Ok(ready) if ready > 0)
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_ends_when_it_is_killed_and_waited_for() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let handle = PidFd::open(child.id()).unwrap();
        assert!(!handle.has_ended());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(handle.has_ended());
    }

    #[test]
    fn a_pid_that_nobody_has_cannot_be_opened() {
        assert!(PidFd::open(0x7fff_ffff).is_err());
    }
}
