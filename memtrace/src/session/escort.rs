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
const FOR_EXEC: Limits =
    Limits { shortest: Duration::from_millis(150), longest: Duration::from_secs(1), stops: 300 };
/// Python runs its first code within some hundred calls; one that is not used may never do.
const FOR_PYTHON: Limits =
    Limits { shortest: Duration::ZERO, longest: Duration::from_secs(30), stops: 6000 };
/// Between looks at a command that makes no system calls.
const PAUSE: Duration = Duration::from_micros(100);
/// It is looked at so often before that: most calls come at once.
const GLANCES: u32 = 50;

/// How long a program is gone with: at least so long or for so many stops (two a call), which on a busy
/// machine take longer, and at most so long.
struct Limits {
    shortest: Duration,
    longest: Duration,
    stops: u32,
}

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
    let (mut begun, mut stops) = (Instant::now(), 0);
    while goes_on(trace, begun.elapsed(), stops) {
        command.go_on()?;
        match await_stop(command, &proc)? {
            Progress::Free => return Ok(()),
            // What it executes is to be looked at when its libraries are there.
            Progress::Executes => continue,
            Progress::Executed => (begun, stops) = (Instant::now(), 0),
            Progress::Waits => stops += 1,
            Progress::Runs => {}
        }
        trace.see();
    }
    command.release()
}

fn goes_on(trace: &impl Escorted, elapsed: Duration, stops: u32) -> bool {
    let Limits { shortest, longest, stops: most } =
        if trace.expects_python() { FOR_PYTHON } else { FOR_EXEC };
    elapsed < longest && (elapsed < shortest || stops < most)
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Program {
        expects_python: bool,
    }

    impl Escorted for Program {
        fn see(&mut self) {}

        fn expects_python(&self) -> bool {
            self.expects_python
        }
    }

    #[test]
    fn a_busy_machine_gives_a_program_more_time_and_a_resting_one_is_let_go() {
        let program = Program { expects_python: false };
        let ms = Duration::from_millis;
        assert!(goes_on(&program, ms(100), 5000), "it makes many calls");
        assert!(!goes_on(&program, ms(200), 5000));
        assert!(goes_on(&program, ms(900), 20), "it gets no CPU");
        assert!(!goes_on(&program, ms(1000), 20), "it makes no calls");
    }

    #[test]
    fn python_is_waited_for_up_to_a_number_of_calls() {
        let python = Program { expects_python: true };
        assert!(goes_on(&python, Duration::from_secs(20), 2000));
        assert!(!goes_on(&python, Duration::from_millis(10), 6000));
    }
}
