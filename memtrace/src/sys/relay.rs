//! Signals for memtrace that are meant for the command that it started.
//!
//! The command is in memtrace's process group, so that the terminal's signals (Ctrl-C, Ctrl-\, its
//! size) reach it by themselves; what others send to memtrace alone is handed on. Ctrl-Z is the
//! command's to obey: where it stops, memtrace stops after it, for the shell to see. A shell that saw
//! memtrace stop first would share the terminal with a command that still reads from it.

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
use rustix::process::{
    Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
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
        all.add(Signal::SIGTSTP);
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
            while let Ok(Some(signal)) = self.signals.read_signal() {
                take(&signal, &handle);
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(work).map(drop)
    }
}

fn is(signal: &siginfo, kind: Signal) -> bool {
    signal.ssi_signo == kind as u32
}

fn take(signal: &siginfo, command: &OwnedFd) {
    if is(signal, Signal::SIGCHLD) {
        // What it tells of may be over: of several that come at once, the first stands for all.
        if is_stopped(command) && is_in_foreground() {
            stop();
        }
    } else if is(signal, Signal::SIGTSTP) {
        // The terminal's is the command's to obey.
        if !is_of_terminal(signal) {
            stop();
        }
    } else if HANDED_ON.iter().any(|it| is(signal, *it))
        && !is_of_terminal(signal)
        && let Some(signal) = rustix::process::Signal::from_named_raw(signal.ssi_signo as i32)
    {
        // It may have ended.
        let _ = pidfd_send_signal(command, signal);
    }
}

fn stop() {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), Signal::SIGSTOP);
}

/// The kernel's own went to the whole process group.
fn is_of_terminal(signal: &siginfo) -> bool {
    signal.ssi_code == libc::SI_KERNEL
}

/// Whether it is stopped by job control, which ptrace's own stops are not. The status stays to be asked
/// for: as long as the command is held, that is for whoever holds it.
fn is_stopped(command: &OwnedFd) -> bool {
    let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let status = waitid(WaitId::PidFd(command.as_fd()), options);
    let signal = status.ok().flatten().and_then(|status| status.stopping_signal());
    let stops = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    signal.is_some_and(|signal| stops.contains(&signal))
}

/// Whether a shell waits for the terminal; without one, nobody would wake memtrace.
fn is_in_foreground() -> bool {
    let Ok(terminal) = File::open("/dev/tty") else { return false };
    let group = rustix::termios::tcgetpgrp(terminal.as_fd());
    group.is_ok_and(|group| group == rustix::process::getpgrp())
}
