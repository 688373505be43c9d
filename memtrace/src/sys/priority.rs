//! How willingly a thread leaves the CPUs to others.

use std::io;

use rustix::process::{Pid, setpriority_process};

/// Whoever else wants to run goes first (setpriority(2)).
const CALM: i32 = 5;
/// As a thread is at first.
const USUAL: i32 = 0;

/// The calling thread leaves the CPUs to others from here on. Its id, for [`hurry`].
///
/// # Errors
/// The kernel's.
pub fn calm_down() -> io::Result<u32> {
    // A priority is a thread's on Linux, whatever the call is named.
    setpriority_process(None, CALM)?;
    Ok(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned())
}

/// A thread takes its turn again.
///
/// # Errors
/// The kernel's: without `CAP_SYS_NICE`, a limit (`RLIMIT_NICE`) forbids it.
pub fn hurry(thread: u32) -> io::Result<()> {
    let thread = Pid::from_raw(thread.cast_signed()).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(setpriority_process(Some(thread), USUAL)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nice(thread: u32) -> i32 {
        let thread = Pid::from_raw(thread.cast_signed());
        rustix::process::getpriority_process(thread).unwrap()
    }

    #[test]
    fn a_thread_calms_down_alone_and_can_be_hurried() {
        let own_id = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        let before = nice(own_id);
        let (own, told) = std::thread::spawn(|| {
            let thread = calm_down().unwrap();
            let calm = nice(thread);
            // Only root may.
            let hurried = hurry(thread).map(|()| nice(thread)).unwrap_or(USUAL);
            (calm, hurried)
        })
        .join()
        .unwrap();
        assert_eq!((own, told), (CALM, USUAL));
        assert_eq!(nice(own_id), before);
    }
}
