//! Signals for memtrace that are meant for the command that it started.
//!
//! The command is in memtrace's process group, so that the terminal's signals (Ctrl-C, Ctrl-\, its
//! size) reach it by themselves; what others send to memtrace alone is handed on. Where the command
//! stops (Ctrl-Z), memtrace stops, too, for the shell to see.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    thread,
};

use nix::sys::{
    signal::{SigSet, SigmaskHow, Signal},
    signalfd::{SfdFlags, SignalFd, siginfo},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal},
};

/// What is handed on.
const HANDED_ON: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// Takes signals off memtrace. From its beginning on they wait, and are handed on when there is
/// somebody to take them.
pub struct Relay {
    signals: SignalFd,
    before: SigSet,
}

impl Relay {
    /// To be called before there are other threads.
    ///
    /// # Errors
    /// Those of `signalfd`.
    pub fn begin() -> io::Result<Self> {
        let mut all: SigSet = HANDED_ON.into_iter().collect();
        all.add(Signal::SIGCHLD);
        // It goes on all the same; that it did is to be known.
        all.add(Signal::SIGCONT);
        let before = all.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let signals = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { signals, before })
    }

    /// What was held back before: what the command is to begin with.
    pub fn held_back(&self) -> SigSet {
        self.before
    }

    /// Hands on to a child, what waits and what comes, until memtrace ends.
    ///
    /// # Errors
    /// When there is no handle on it or no thread to be had.
    pub fn hand_on_to(self, child: u32) -> io::Result<()> {
        let pid = i32::try_from(child).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        let work = move || {
            while let Ok(signals) = self.next() {
                let goes_on = signals.iter().any(|it| is(it, Signal::SIGCONT));
                signals.iter().for_each(|signal| take(signal, child, &handle, goes_on));
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(work).map(drop)
    }

    /// Waits for one, and takes all that are there by then.
    fn next(&self) -> io::Result<Vec<siginfo>> {
        let mut signals: Vec<siginfo> = self.signals.read_signal()?.into_iter().collect();
        while is_readable(&self.signals)? {
            signals.extend(self.signals.read_signal()?);
        }
        Ok(signals)
    }
}

fn is_readable(signals: &SignalFd) -> io::Result<bool> {
    let mut wanted = [PollFd::new(signals, PollFlags::IN)];
    Ok(poll(&mut wanted, Some(&Timespec::default()))? > 0)
}

fn is(signal: &siginfo, kind: Signal) -> bool {
    signal.ssi_signo == kind as u32
}

/// Where it `goes_on`, a stop that is told of is over: Ctrl-Z has stopped memtrace as well, which reads
/// of its command's stop only when a shell has waked both.
fn take(signal: &siginfo, child: u32, handle: &OwnedFd, goes_on: bool) {
    if is(signal, Signal::SIGCHLD) {
        if signal.ssi_pid == child && is_stop(signal) && !goes_on && is_in_foreground() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), Signal::SIGSTOP);
        }
    } else if HANDED_ON.iter().any(|it| is(signal, *it))
        && !is_of_terminal(signal)
        && let Some(signal) = rustix::process::Signal::from_named_raw(signal.ssi_signo as i32)
    {
        // It may have ended.
        let _ = pidfd_send_signal(handle, signal);
    }
}

/// The kernel's own went to the whole process group.
fn is_of_terminal(signal: &siginfo) -> bool {
    signal.ssi_code == libc::SI_KERNEL
}

/// Whether it tells of a stop by job control, which ptrace's own stops are not. Nobody asks for the
/// status here: as long as the command is held, that is for whoever holds it.
fn is_stop(signal: &siginfo) -> bool {
    let stops = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    signal.ssi_code == libc::CLD_STOPPED && stops.contains(&signal.ssi_status)
}

/// Whether a shell waits for the terminal; without one, nobody would wake memtrace.
fn is_in_foreground() -> bool {
    let Ok(terminal) = File::open("/dev/tty") else { return false };
    let group = rustix::termios::tcgetpgrp(terminal.as_fd());
    group.is_ok_and(|group| group == rustix::process::getpgrp())
}
