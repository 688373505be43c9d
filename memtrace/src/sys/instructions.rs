//! How many instructions a process has executed in user mode, counted by the CPU: a measure of what it got
//! done that no probe changes, because what the kernel does for a probe is not in it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read as _},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use aya_obj::generated::{
    PERF_FLAG_FD_CLOEXEC, perf_event_attr, perf_hw_id::PERF_COUNT_HW_INSTRUCTIONS,
    perf_type_id::PERF_TYPE_HARDWARE,
};
use rustix::process::{Resource, getrlimit};

use super::preflight::panics_with_profilers;

/// The counters of more threads are not opened: to look at each, 50 times a second, takes memtrace about a
/// percent of a CPU for each hundred.
const MOST_THREADS: usize = 128;
/// A counter that had to share the CPU's with others, and ran for less of the time, is not believed.
const LEAST_RUNNING: f64 = 0.98;
/// `PERF_FORMAT_TOTAL_TIME_ENABLED` and `PERF_FORMAT_TOTAL_TIME_RUNNING` (include/uapi/linux/perf_event.h):
/// what is read is the count and these two.
const WITH_TIMES: u64 = 1 << 0 | 1 << 1;

/// The counters of a process's threads, also of those that they start, and of no child.
#[derive(Debug)]
pub struct Instructions {
    counters: Vec<File>,
}

impl Instructions {
    /// Counts from now on.
    ///
    /// # Errors
    /// When the CPU has no such counter (many virtual machines), the kernel refuses it, or it takes too
    /// many descriptors.
    pub fn of(pid: u32) -> io::Result<Self> {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        // These counters take no stacks, but another memtrace cannot tell them from a profiler's.
        if panics_with_profilers(&release) {
            return Err(io::Error::other("another memtrace would take it for a profiler"));
        }
        let (mut counters, mut seen) = (Vec::new(), BTreeSet::new());
        loop {
            let threads = threads(pid)?;
            let new: Vec<u32> = threads.into_iter().filter(|tid| seen.insert(*tid)).collect();
            if new.is_empty() {
                return Ok(Self { counters });
            }
            if seen.len() > MOST_THREADS {
                return Err(io::Error::other(format!("more than {MOST_THREADS} threads")));
            }
            // A thread that was started meanwhile by one that is counted already is counted twice: better
            // than not at all, and in what is watched as in all.
            for tid in new {
                match open(tid) {
                    Ok(counter) => counters.push(counter),
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Whether they can be counted here at all: tried on memtrace's own thread.
    pub fn are_countable() -> bool {
        open(0).is_ok_and(|counter| {
            let counters = Self { counters: vec![counter] };
            counters.count().is_some_and(|count| count > 0)
        })
    }

    /// How many there were; `None` where that is not known, because others use the CPU's counters.
    pub fn count(&self) -> Option<u64> {
        let mut sums = [0; 3];
        for counter in &self.counters {
            let values = values(counter).ok()?;
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        let [count, enabled_ns, running_ns] = sums;
        (running_ns as f64 >= enabled_ns as f64 * LEAST_RUNNING).then_some(count)
    }
}

fn threads(pid: u32) -> io::Result<Vec<u32>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
    Ok(tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect())
}

fn values(mut counter: &File) -> io::Result<[u64; 3]> {
    let mut bytes = [0; 24];
    counter.read_exact(&mut bytes)?;
    let (words, _) = bytes.as_chunks();
    Ok([0, 1, 2].map(|at| u64::from_ne_bytes(words[at])))
}

/// Counts for a thread, and for those that it will start; 0 is the caller.
fn open(tid: u32) -> io::Result<File> {
    // SAFETY: it consists of integers and unions of them, for which zero is a value and means "not used".
    let mut attributes: perf_event_attr = unsafe { std::mem::zeroed() };
    attributes.type_ = PERF_TYPE_HARDWARE as u32;
    attributes.size = size_of::<perf_event_attr>() as u32;
    attributes.config = PERF_COUNT_HW_INSTRUCTIONS as u64;
    attributes.read_format = WITH_TIMES;
    attributes.set_exclude_kernel(1);
    attributes.set_exclude_hv(1);
    attributes.set_inherit(1);
    attributes.set_inherit_thread(1);
    let any = -1;
    // SAFETY: the attributes are valid for the call, and say how large they are.
    let result = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            tid as libc::pid_t,
            any,
            any,
            libc::c_ulong::from(PERF_FLAG_FD_CLOEXEC),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    let descriptor = unsafe { OwnedFd::from_raw_fd(result as i32) };
    // Others are needed for other things. The kernel hands out the smallest number that is free.
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 2;
    match descriptor.as_raw_fd() as u64 <= most {
        true => Ok(descriptor.into()),
        false => Err(io::Error::from_raw_os_error(libc::EMFILE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(rounds: u64) {
        (0..rounds).for_each(|round| {
            std::hint::black_box(round);
        });
    }

    fn of_itself() -> Option<Instructions> {
        // Not on machines that have no counter.
        Instructions::are_countable().then(|| Instructions::of(std::process::id()).unwrap())
    }

    #[test]
    fn threads_that_are_there_and_that_come_are_counted() {
        let Some(instructions) = of_itself() else { return };
        let before = instructions.count().unwrap();
        work(1_000_000);
        let own = instructions.count().unwrap() - before;
        assert!(own > 1_000_000, "{own}");
        let thread = std::thread::spawn(|| work(5_000_000));
        thread.join().unwrap();
        let with_thread = instructions.count().unwrap() - before;
        assert!(with_thread > own + 5_000_000, "{own} {with_thread}");
    }

    #[test]
    fn what_cannot_be_counted_is_an_error() {
        assert!(Instructions::of(0x0fff_ffff).is_err());
    }
}
