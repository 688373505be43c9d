//! A command that was started.

use std::{
    io,
    marker::PhantomData,
    process::{Child, ExitStatus},
};

use nix::{
    sys::{
        ptrace,
        signal::{Signal, kill},
    },
    unistd::Pid,
};

use super::{
    LaunchError,
    loaded::run_until_loaded,
    stop::{Gone, Stop, go_on, next_stop, stop_by_now},
};
use crate::sys::procfs::ProcFs;

/// A command that waits until it is let go. If it never is, it is killed, and has run nothing of its
/// own.
#[derive(Debug)]
pub struct Held {
    child: Child,
    state: State,
    /// It is on its way into another program.
    executes: bool,
    /// ptrace answers to the thread that holds the process only.
    _thread: PhantomData<*const ()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has not been let go on yet.
    Waits,
    /// It is at a stop.
    Stopped(Stop),
    /// Up to the next one.
    Runs,
    /// It is held no more.
    Free,
}

/// How far a command has got that goes on step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is on its way.
    Runs,
    /// The same, into another program, which may or may not be there yet.
    Executes,
    /// It waits at a system call.
    Waits,
    /// It has executed another program, and waits where that has its libraries.
    Executed,
    /// It is held no more.
    Free,
}

impl Held {
    pub(super) fn new(child: Child) -> Self {
        Self { child, state: State::Waits, executes: false, _thread: PhantomData }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it go on to its next system call.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn go_on(&mut self) -> io::Result<()> {
        let stop = match self.state {
            State::Waits => Stop::SystemCall,
            State::Stopped(stop) => stop,
            State::Runs | State::Free => return Ok(()),
        };
        self.state = State::Runs;
        let gone_on = go_on(self.target(), stop, true);
        self.unless_gone(gone_on)
    }

    /// Where it is by now.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn progress(&mut self, proc: &ProcFs) -> io::Result<Progress> {
        if self.state == State::Free {
            return Ok(Progress::Free);
        }
        match stop_by_now(self.target()) {
            Ok(None) if self.executes => return Ok(Progress::Executes),
            Ok(None) => return Ok(Progress::Runs),
            Ok(Some(stop)) => self.state = State::Stopped(stop),
            Err(gone) => self.unless_gone(Err(gone))?,
        }
        match self.state {
            State::Stopped(Stop::Exec) => self.load(proc),
            State::Free => Ok(Progress::Free),
            State::Stopped(Stop::SystemCall) => {
                self.executes = is_exec(self.target());
                Ok(Progress::Waits)
            }
            _ => Ok(Progress::Waits),
        }
    }

    fn load(&mut self, proc: &ProcFs) -> io::Result<Progress> {
        self.executes = false;
        match run_until_loaded(proc, self.pid()) {
            Ok(()) => self.state = State::Stopped(Stop::SystemCall),
            Err(LaunchError::Ended(_)) => self.state = State::Free,
            Err(error) => return Err(io::Error::other(error)),
        }
        Ok(if self.state == State::Free { Progress::Free } else { Progress::Executed })
    }

    /// Lets it go; from here on it is a child like any other.
    ///
    /// # Errors
    /// When the kernel refuses. That it has ended is none.
    pub fn release(&mut self) -> io::Result<()> {
        let stopped = self.stop();
        self.unless_gone(stopped)?;
        let signal = match self.state {
            State::Free => return Ok(()),
            State::Stopped(Stop::Passing(signal)) => signal,
            _ => None,
        };
        self.state = State::Free;
        let detached = ptrace::detach(self.target(), signal).map_err(Gone::from);
        self.unless_gone(detached)
    }

    /// It must be at a stop to be let go.
    fn stop(&mut self) -> Result<(), Gone> {
        if self.state == State::Runs {
            ptrace::interrupt(self.target())?;
            self.state = State::Stopped(next_stop(self.target())?);
        }
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Those of `waitpid`.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.state = State::Free;
        self.child.wait()
    }

    fn unless_gone(&mut self, outcome: Result<(), Gone>) -> io::Result<()> {
        match outcome {
            Ok(()) => Ok(()),
            Err(Gone::Ended) => {
                self.state = State::Free;
                Ok(())
            }
            Err(Gone::Refused(error)) => Err(error),
        }
    }

    fn target(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }
}

/// Whether it is at the entry of `execve`.
fn is_exec(target: Pid) -> bool {
    let Ok(call) = ptrace::syscall_info(target) else { return false };
    if call.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return false;
    }
    // SAFETY: at an entry, this is the member of the union that the kernel has filled in.
    let number = unsafe { call.u.entry.nr };
    [libc::SYS_execve, libc::SYS_execveat].contains(&(number as i64))
}

impl Drop for Held {
    fn drop(&mut self) {
        match self.state {
            State::Free => {}
            State::Waits => {
                let _ = kill(self.target(), Signal::SIGKILL);
                let _ = self.child.wait();
            }
            // It runs: it is not memtrace's to end it.
            State::Stopped(_) | State::Runs => drop(self.release()),
        }
    }
}
