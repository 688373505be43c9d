//! Holding signals back for a while.

use std::{io, mem::MaybeUninit, os::unix::process::CommandExt as _, process::Command};

use nix::sys::signal::SigSet;

/// While it exists, signals wait: for the thread that made it, and for threads that this one
/// starts.
///
/// The kernel's verifier gives up with `EAGAIN` when a signal arrives, which looks like a refused
/// program, or, to a test for a feature, like a missing one.
pub struct HeldSignals {
    before: libc::sigset_t,
}

impl HeldSignals {
    /// Holds back all that can be (not SIGKILL and SIGSTOP).
    pub fn hold() -> Self {
        let mut all = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: the sets are written to before they are read; with SIG_BLOCK and valid sets
        // pthread_sigmask cannot fail.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr());
            Self { before: before.assume_init() }
        }
    }
}

impl Drop for HeldSignals {
    fn drop(&mut self) {
        // SAFETY: the set was filled in by pthread_sigmask.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut());
        }
    }
}

/// Lets a command begin with all signals let through, whatever memtrace itself holds back.
pub fn hold_nothing_back(command: &mut Command) {
    let release = || SigSet::empty().thread_set_mask().map_err(io::Error::from);
    // SAFETY: between fork and exec only a system call is made.
    unsafe { command.pre_exec(release) };
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    static SEEN: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn see(_: libc::c_int) {
        SEEN.fetch_add(1, Ordering::SeqCst);
    }

    #[test]
    fn a_signal_waits_until_it_is_let_through() {
        // SAFETY: the handler only touches an atomic; `raise` sends to this thread.
        unsafe { libc::signal(libc::SIGUSR1, see as *const () as libc::sighandler_t) };
        let held = HeldSignals::hold();
        // SAFETY: as above.
        unsafe { libc::raise(libc::SIGUSR1) };
        assert_eq!(SEEN.load(Ordering::SeqCst), 0);
        drop(held);
        assert_eq!(SEEN.load(Ordering::SeqCst), 1);
    }
}
