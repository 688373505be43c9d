//! A command that was started.

use std::{
    io,
    marker::PhantomData,
    process::{Child, ExitStatus},
};

use nix::{
    errno::Errno,
    sys::{
        ptrace,
        signal::{Signal, kill},
    },
    unistd::Pid,
};

/// A command that waits until it is let go. If it never is, it is killed, and has run nothing.
#[derive(Debug)]
pub struct Held {
    child: Child,
    waits: bool,
    /// ptrace answers to the thread that holds the process only.
    _thread: PhantomData<*const ()>,
}

impl Held {
    pub(super) fn new(child: Child) -> Self {
        Self { child, waits: true, _thread: PhantomData }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it go; from here on it is a child like any other.
    ///
    /// # Errors
    /// When the kernel refuses. That it was killed meanwhile is none.
    pub fn release(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.waits) {
            return Ok(());
        }
        match ptrace::detach(self.target(), None) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Those of `waitpid`.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.waits = false;
        self.child.wait()
    }

    fn target(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.waits {
            let _ = kill(self.target(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}
