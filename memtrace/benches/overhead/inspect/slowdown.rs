//! What a busy target notices of being looked at.

use std::{
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context as _, Result};

use super::command::{command, look};
use crate::{
    Setup,
    machine::Cpus,
    results::{Results, Unit},
    target::{Target, Timing, Work},
};

const GROUP: &str = "A busy target with a heap of 1 GB that memtrace inspects";

/// What the heap consists of.
const BLOCKS: u64 = 1_000_000;
const BLOCK_BYTES: u64 = 1000;

/// What the target does.
struct Business {
    name: &'static str,
    size_bytes: u64,
    /// About a second's work.
    pairs: u64,
}

const BUSINESS: [Business; 2] = [
    Business { name: "pairs of 256 bytes", size_bytes: 256, pairs: 60_000_000 },
    // mmap and munmap need the lock that a look at the page tables takes.
    Business { name: "pairs that are mapped one by one", size_bytes: 1 << 20, pairs: 300_000 },
];

/// How it is looked at.
#[derive(Clone, Copy)]
enum Looking {
    NotAtAll,
    /// `--every 1s`, which keeps within 1 % of a CPU.
    Series,
    /// One look after the other.
    WithoutPause,
}

impl Looking {
    const ALL: [(Self, &str); 3] = [
        (Self::NotAtAll, "alone"),
        (Self::Series, "inspect --every 1s"),
        (Self::WithoutPause, "one look after the other"),
    ];

    /// Does something meanwhile.
    fn during<T>(self, setup: &Setup, pid: u32, work: impl FnOnce() -> Result<T>) -> Result<T> {
        match self {
            Self::NotAtAll => work(),
            Self::Series => {
                let _series = Series::start(setup, pid)?;
                work()
            }
            Self::WithoutPause => without_pause(setup, pid, work),
        }
    }
}

fn without_pause<T>(setup: &Setup, pid: u32, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let looks = scope.spawn(|| -> Result<()> {
            while !is_over.load(Ordering::Relaxed) {
                look(setup, pid)?;
            }
            Ok(())
        });
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        looks.join().ok().context("a look panicked")??;
        done
    })
}

/// A running series; killed on drop.
struct Series(Child);

impl Series {
    fn start(setup: &Setup, pid: u32) -> Result<Self> {
        let mut command = command(setup, pid);
        let command = command.args(["--quiet", "--every", "1s"]).stdout(Stdio::null());
        Ok(Self(command.spawn().context("cannot start memtrace")?))
    }
}

impl Drop for Series {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures, and adds the rows.
pub fn measure(setup: &Setup, cpus: Cpus, results: &mut Results) -> Result<()> {
    let (rounds, seconds) = if setup.quick { (3, 1) } else { (9, 3) };
    for business in &BUSINESS {
        let mut target = target(setup, cpus)?;
        let mut rates: [Vec<f64>; 3] = Default::default();
        for _ in 0..rounds {
            for ((looking, _), rates) in Looking::ALL.iter().zip(&mut rates) {
                let pid = target.pid();
                let work = Work { size_bytes: business.size_bytes, depth: 0 };
                let work = || target.time(business.pairs * seconds, work);
                let timing: Timing = looking.during(setup, pid, work)?;
                rates.push(timing.rate());
            }
        }
        add(business, &rates, results);
    }
    Ok(())
}

/// Rates, and what is left of them within each round.
fn add(business: &Business, rates: &[Vec<f64>; 3], results: &mut Results) {
    let name = business.name;
    for ((_, how), rates) in Looking::ALL.iter().zip(rates) {
        results.add(GROUP, format!("{name}: {how}"), Unit::PerSecond, rates, None);
    }
    for ((_, how), of) in Looking::ALL.iter().zip(rates).skip(1) {
        let slower: Vec<f64> = rates[0].iter().zip(of).map(|(alone, with)| alone / with).collect();
        let name = format!("{name}: alone over {how}");
        results.add(GROUP, name, Unit::Ratio, &slower, None);
    }
}

/// On the target's CPU, with its heap filled; a block of 1 MiB stays one that is mapped by itself.
fn target(setup: &Setup, cpus: Cpus) -> Result<Target> {
    let mut command = Command::new(setup.pairs());
    let mut target = Target::start(command.env("MALLOC_MMAP_THRESHOLD_", "131072"))?;
    cpus.pin_target(target.pid())?;
    target.hold(BLOCKS, BLOCK_BYTES)?;
    Ok(target)
}
