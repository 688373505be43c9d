//! What a hit costs on this machine, measured on two functions of memtrace's own: never on the
//! target.

use std::{
    fs::File,
    io,
    num::NonZeroU32,
    os::fd::AsFd as _,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, TryRecvError},
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

    /// Measures on a thread of its own: some milliseconds of CPU, and as many of waiting.
    pub fn start(self) -> Calibration {
        let (sender, receiver) = mpsc::sync_channel(1);
        let permit = Permit::default();
        let calibration = Calibration { receiver, permit: permit.clone() };
        std::thread::spawn(move || {
            let _one = ONLY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
            let (costs, links) = self
                .measure(&permit)
                .map_or_else(|error| (Err(error), None), |(costs, links)| (Ok(costs), Some(links)));
            // Nobody may be left to tell.
            let _ = sender.send(costs);
            // That waits for a grace period of the kernel, for which nobody else needs to wait.
            drop(links);
        });
        calibration
    }

    fn measure(&self, permit: &Permit) -> io::Result<(ProbeCosts, [MultiLink; 2])> {
        let emulated_site = own_site(emulated, self.cookie)?;
        let stepped_site = own_site(stepped, self.cookie)?;
        let bare_ns = permit.shortest_ns(emulated, CALLS)?;
        let entries = link(&self.entry, &[emulated_site, stepped_site], false)?;
        let emulated_ns = (permit.shortest_ns(emulated, CALLS)? - bare_ns).max(1.0);
        let stepped_ns = (permit.shortest_ns(stepped, STEPPED_CALLS)? - bare_ns).max(emulated_ns);
        let returns = link(&self.at_return, &[emulated_site], true)?;
        let both_ns = permit.shortest_ns(emulated, CALLS)? - bare_ns;
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

/// A measurement that goes on until it is dropped.
pub struct Calibration {
    receiver: Receiver<io::Result<ProbeCosts>>,
    permit: Permit,
}

impl Calibration {
    /// What hits cost, once; `None` as long as it goes on. An error when memtrace's own executable
    /// cannot be probed.
    pub fn look(&self) -> Option<io::Result<ProbeCosts>> {
        match self.receiver.try_recv() {
            Ok(measured) => Some(measured),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(io::Error::other("it was ended"))),
        }
    }
}

impl Drop for Calibration {
    /// From here on, no call is made that a program of the trace would look at.
    fn drop(&mut self) {
        self.permit.withdraw();
    }
}

/// Whether calls may be made.
#[derive(Clone, Default)]
struct Permit {
    is_withdrawn: Arc<Mutex<bool>>,
}

impl Permit {
    /// Waits for a round that goes on.
    fn withdraw(&self) {
        *self.is_withdrawn.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Nanoseconds of a call.
    fn shortest_ns(&self, function: Function, calls: u32) -> io::Result<f64> {
        let rounds = (0..ROUNDS).map(|_| self.round_ns(function, calls));
        rounds.reduce(|shortest, round| Ok(shortest?.min(round?))).unwrap_or(Ok(0.0))
    }

    fn round_ns(&self, function: Function, calls: u32) -> io::Result<f64> {
        let is_withdrawn = self.is_withdrawn.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_withdrawn {
            return Err(io::Error::other("it took too long"));
        }
        let start = Instant::now();
        (0..calls).for_each(|_| std::hint::black_box(function)(BLOCK_BYTES));
        Ok(start.elapsed().as_nanos() as f64 / f64::from(calls))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_to_measure_with_are_in_the_executable_and_take_next_to_no_time() {
        let sites = [emulated as Function, stepped].map(|it| own_site(it, 0).unwrap().offset);
        assert_ne!(sites[0], sites[1]);
        let permit = Permit::default();
        assert!(permit.shortest_ns(emulated, CALLS).unwrap() < 1000.0);
        permit.withdraw();
        assert!(permit.shortest_ns(emulated, CALLS).is_err(), "no call is made any more");
    }
}
