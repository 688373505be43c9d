//! Clocks.

use std::{fs, io, os::unix::fs::MetadataExt as _};

use rustix::time::{ClockId, clock_gettime};

/// CPU time of this thread so far, in nanoseconds.
pub fn own_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of `bpf_ktime_get_ns`, hence of every event.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// CPU time of all threads of a process so far, those that have ended included, in nanoseconds.
///
/// # Errors
/// When there is no such process, or none that this clock may be asked of.
pub fn process_cpu_ns(pid: u32) -> io::Result<u64> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: the pointer is valid for the call.
    match unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut clock) } {
        0 => {}
        error => return Err(io::Error::from_raw_os_error(error)),
    }
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as above.
    if unsafe { libc::clock_gettime(clock, &raw mut now) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

/// How long the threads of a process were ready to run and did not so far, each for itself, in
/// nanoseconds; `None` where the kernel does not count it, or they are more than `most_threads`.
///
/// The second field of `/proc/PID/task/TID/schedstat` (Linux Documentation/scheduler/sched-stats.rst).
pub fn process_waited_ns(pid: u32, most_threads: usize) -> Option<u64> {
    let (threads, mut waited_ns) = (format!("/proc/{pid}/task"), 0);
    // Links are two and the threads (Linux fs/proc/base.c, proc_task_getattr): to list many takes long.
    if fs::metadata(&threads).ok()?.nlink() > most_threads as u64 + 2 {
        return None;
    }
    for thread in fs::read_dir(threads).ok()? {
        // One that has just ended waits no more.
        let Ok(times) = fs::read_to_string(thread.ok()?.path().join("schedstat")) else { continue };
        waited_ns += times.split_whitespace().nth(1)?.parse::<u64>().ok()?;
    }
    Some(waited_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_time_of_a_process_is_that_of_its_threads_and_grows() {
        let own = std::process::id();
        let before_ns = process_cpu_ns(own).unwrap();
        let thread = std::thread::spawn(|| while own_cpu_ns() < 5_000_000 {});
        thread.join().unwrap();
        let used_ns = process_cpu_ns(own).unwrap() - before_ns;
        assert!(used_ns >= 5_000_000, "{used_ns}");
        assert!(process_cpu_ns(0x0fff_ffff).is_err());
    }

    #[test]
    fn threads_wait_where_there_are_more_than_cpus() {
        let own = std::process::id();
        let before_ns = process_waited_ns(own, 10_000).unwrap();
        let count = 2 * std::thread::available_parallelism().unwrap().get();
        let work = || while own_cpu_ns() < 20_000_000 {};
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
            while !threads.iter().all(|thread| thread.is_finished()) {
                let waited_ns = process_waited_ns(own, 10_000).unwrap() - before_ns;
                if waited_ns > 5_000_000 {
                    return;
                }
            }
            panic!("none of {count} threads waited");
        });
        assert_eq!(process_waited_ns(own, 0), None);
        assert_eq!(process_waited_ns(0x0fff_ffff, 8), None);
    }
}
