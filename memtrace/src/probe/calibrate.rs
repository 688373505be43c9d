//! What a hit costs on this machine, measured on two functions of memtrace's own: never on the
//! target.

use std::{
    fs::File,
    io,
    num::NonZeroU32,
    os::fd::AsFd as _,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver},
    },
    time::Instant,
};

use super::multi::{LoadedProgram, MultiLink, Site};
use crate::{model::cost::ProbeCosts, sys::procfs::ProcFs};

/// Calls of one measurement. The fewer, the likelier one of them is not interrupted.
const CALLS: u32 = 64;
/// Calls of one that may be single-stepped, which can take 16 us each in a virtual machine.
const STEPPED_CALLS: u32 = 16;
/// Measurements; the shortest counts.
const ROUNDS: u32 = 12;

/// What is asked for.
const BLOCK_BYTES: usize = 64;

/// One calibration at a time: all use the same functions.
static ONLY_ONE: Mutex<()> = Mutex::new(());

/// A function to measure with. Their first instructions are of the kinds that allocators begin with.
type Function = extern "C" fn(usize);

/// Begins with a `push`, which the kernel emulates since Linux 4.16.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
extern "C" fn emulated(_size: usize) {
    core::arch::naked_asm!("push rbp", "pop rbp", "ret")
}

/// Begins with a `test`, which it single-steps.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
extern "C" fn stepped(_size: usize) {
    core::arch::naked_asm!("test rdi, rdi", "ret")
}

/// Begins with a conditional branch, which the kernel simulates.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
extern "C" fn emulated(_size: usize) {
    core::arch::naked_asm!("cbz x0, 1f", "1: ret")
}

/// Begins with a move, which it single-steps.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
extern "C" fn stepped(_size: usize) {
    core::arch::naked_asm!("mov x1, x0", "ret")
}

/// Programs of the loaded object. They can be sent to another thread, because arming waits for grace
/// periods of the kernel.
pub struct Calibrator {
    entry: LoadedProgram,
    cookie: u64,
    at_return: LoadedProgram,
}

impl Calibrator {
    /// With a program for entries, and its cookie, and one for returns that does nothing.
    pub fn new(entry: LoadedProgram, cookie: u64, at_return: LoadedProgram) -> Self {
        Self { entry, cookie, at_return }
    }

    /// Measures on a thread of its own: some milliseconds of CPU, and as many of waiting. What is
    /// received is an error when memtrace's own executable cannot be probed.
    pub fn start(self) -> Receiver<io::Result<ProbeCosts>> {
        let (sender, receiver) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let _one = ONLY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
            let (costs, links) = self
                .measure()
                .map_or_else(|error| (Err(error), None), |(costs, links)| (Ok(costs), Some(links)));
            // Nobody may be left to tell.
            let _ = sender.send(costs);
            // That waits for a grace period of the kernel, for which nobody else needs to wait.
            drop(links);
        });
        receiver
    }

    fn measure(&self) -> io::Result<(ProbeCosts, [MultiLink; 2])> {
        let emulated_site = own_site(emulated, self.cookie)?;
        let stepped_site = own_site(stepped, self.cookie)?;
        let bare_ns = shortest_ns(emulated, CALLS);
        let entries = link(&self.entry, &[emulated_site, stepped_site], false)?;
        let emulated_ns = (shortest_ns(emulated, CALLS) - bare_ns).max(1.0);
        let stepped_ns = (shortest_ns(stepped, STEPPED_CALLS) - bare_ns).max(emulated_ns);
        let returns = link(&self.at_return, &[emulated_site], true)?;
        let both_ns = shortest_ns(emulated, CALLS) - bare_ns;
        let return_ns = (both_ns - emulated_ns).max(1.0);
        let costs = ProbeCosts { emulated_ns, stepped_ns, return_ns, measured: true };
        Ok((costs, [entries, returns]))
    }
}

fn link(program: &LoadedProgram, sites: &[Site], at_return: bool) -> io::Result<MultiLink> {
    let executable = File::open("/proc/self/exe")?;
    let own_pid = NonZeroU32::new(std::process::id()).unwrap_or(NonZeroU32::MIN);
    program.link(executable.as_fd(), sites, own_pid, at_return)
}

/// Where a function of this program is in its file.
fn own_site(function: Function, cookie: u64) -> io::Result<Site> {
    let address = function as *const () as u64;
    let maps = ProcFs::new("/proc").maps(std::process::id()).map_err(io::Error::other)?;
    let mapping = maps.iter().find(|mapping| mapping.contains(address));
    let mapping = mapping.ok_or_else(|| io::Error::other("its own code is not mapped"))?;
    Ok(Site { offset: mapping.offset_of(address), cookie })
}

/// Nanoseconds of a call.
fn shortest_ns(function: Function, calls: u32) -> f64 {
    let round = || {
        let start = Instant::now();
        (0..calls).for_each(|_| std::hint::black_box(function)(BLOCK_BYTES));
        start.elapsed().as_nanos() as f64 / f64::from(calls)
    };
    (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_to_measure_with_are_in_the_executable_and_take_next_to_no_time() {
        let sites = [emulated as Function, stepped].map(|it| own_site(it, 0).unwrap().offset);
        assert_ne!(sites[0], sites[1]);
        assert!(shortest_ns(emulated, CALLS) < 1000.0);
    }
}
