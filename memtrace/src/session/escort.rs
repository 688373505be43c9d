//! The first moments of a command: it goes on from system call to system call, and memtrace looks at
//! it between, until there is nothing more that must be seen at once.
//!
//! A program that the command executes is held where it has its libraries, and probes on those that
//! are new are armed before it allocates anything. A Python is understood as soon as it runs its
//! first code, in its own library, so that every line of a script is told.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use crate::sys::{
    launch::{Held, Progress},
    procfs::ProcFs,
};

/// A program that executes another one (`env`, a wrapper, what a version manager puts in place of
/// Python) mostly does so soon.
const FOR_EXEC: Duration = Duration::from_millis(150);
/// Python is ready within some hundredths of a second where nobody slows it down.
const FOR_PYTHON: Duration = Duration::from_secs(3);
/// Between looks at a command that makes no system calls.
const PAUSE: Duration = Duration::from_micros(100);
/// It is looked at so often before that: most calls come at once.
const GLANCES: u32 = 50;

/// What sees what the command has done.
pub(super) trait Escorted {
    /// Books what has come.
    fn see(&mut self);
    /// There is a Python that is not understood yet.
    fn expects_python(&self) -> bool;
}

/// Goes with it as far as it must, and lets it go.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn escort(command: &mut Held, trace: &mut impl Escorted) -> io::Result<()> {
    let proc = ProcFs::new("/proc");
    let mut begun = Instant::now();
    while begun.elapsed() < longest(trace) {
        command.go_on()?;
        match await_stop(command, &proc)? {
            Progress::Free => return Ok(()),
            // What it executes is to be looked at when its libraries are there.
            Progress::Executes => continue,
            Progress::Executed => begun = Instant::now(),
            Progress::Runs | Progress::Waits => {}
        }
        trace.see();
    }
    command.release()
}

fn longest(trace: &impl Escorted) -> Duration {
    if trace.expects_python() { FOR_PYTHON } else { FOR_EXEC }
}

fn await_stop(command: &mut Held, proc: &ProcFs) -> io::Result<Progress> {
    for _ in 0..GLANCES {
        match command.progress(proc)? {
            Progress::Runs | Progress::Executes => thread::yield_now(),
            other => return Ok(other),
        }
    }
    thread::sleep(PAUSE);
    command.progress(proc)
}
