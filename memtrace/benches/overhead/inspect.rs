//! How long a look at a large heap takes, against a plain read of the same memory, and what
//! memtrace needs for it.

mod command;
mod plain;
mod slowdown;

use std::{fs, process::Command};

use anyhow::{Context as _, Result};
use memtrace::model::size;

use self::{command::look, plain::Plain};
use crate::{
    Setup,
    machine::Cpus,
    results::{Requirement, Results, Unit, median},
    target::Target,
};

/// Holds as many blocks as it is told.
const HEAP: &str = "import sys; blocks = [bytearray(1000) for _ in range(int(sys.argv[1]))]; \
                    print('ready', flush=True); sys.stdin.read()";

const MOST_BYTES: Requirement = Requirement::AllBelow((64 << 20) as f64);

/// What a block of the heap takes, with its object and the list's entry.
const BLOCK_BYTES: u64 = 1100;

/// A heap to look at.
struct Heap {
    name: &'static str,
    blocks: u64,
    /// A look may take as long, ...
    most_ns: f64,
}

const HEAPS: [Heap; 2] = [
    Heap { name: "1 GB", blocks: 1_000_000, most_ns: 0.5e9 },
    Heap { name: "10 GB", blocks: 10_000_000, most_ns: 5e9 },
];

/// ... or as long as a plain read at half its bandwidth.
const PLAIN_READS: f64 = 2.0;

/// Measures, and adds the rows.
pub fn measure(setup: &Setup, cpus: Cpus, results: &mut Results) -> Result<()> {
    for heap in &HEAPS {
        let available = available_bytes()?;
        let needed = heap.blocks * BLOCK_BYTES * 5 / 4;
        if available < needed {
            let [needed, available] = [needed, available].map(size::bytes);
            let name = heap.name;
            results.skip(format!(
                "a look at a heap of {name}, which needs {needed}: {available} of memory are available"
            ));
            continue;
        }
        of_heap(setup, heap, results).with_context(|| heap.name)?;
    }
    slowdown::measure(setup, cpus, results)
}

/// What the system could still give.
fn available_bytes() -> Result<u64> {
    let info = fs::read_to_string("/proc/meminfo")?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.context("no MemAvailable in /proc/meminfo")? * 1024)
}

/// Looks and plain reads, in turn.
fn of_heap(setup: &Setup, heap: &Heap, results: &mut Results) -> Result<()> {
    let rounds = if setup.quick { 3 } else { 11 };
    let mut python = Command::new("/usr/bin/python3");
    let target = Target::start(python.args(["-c", HEAP, &heap.blocks.to_string()]))?;
    let plain = Plain::of(target.pid())?;
    let (mut looks, mut reads_ns) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        looks.push(look(setup, target.pid())?);
        reads_ns.push(plain.read_ns()?);
    }
    let of = |field: fn(&command::Look) -> f64| looks.iter().map(field).collect::<Vec<f64>>();
    let looks_ns = of(|look| look.duration_ns);
    let bytes = plain.bytes() as f64;
    let rates = |times: &[f64]| times.iter().map(|ns| bytes / ns * 1e9).collect::<Vec<_>>();
    let ratios: Vec<f64> = reads_ns.iter().zip(&looks_ns).map(|(read, look)| read / look).collect();
    let group =
        format!("A look at a heap of {} in blocks of 1 KiB, by memtrace inspect", heap.name);
    let mut row = |name: &str, unit, samples: &[f64], required| {
        results.add(&group, name, unit, samples, required);
    };
    let most_ns = heap.most_ns.max(PLAIN_READS * middle(&reads_ns));
    row("the look", Unit::Ns, &looks_ns, Some(Requirement::MedianAtMost(most_ns)));
    row("memtrace, from its start to its end", Unit::Ns, &of(|look| look.whole_ns), None);
    row("a plain process_vm_readv of the same pages", Unit::Ns, &reads_ns, None);
    row("the heap, looked at", Unit::BytesPerSecond, &rates(&looks_ns), None);
    row("the heap, plainly read", Unit::BytesPerSecond, &rates(&reads_ns), None);
    row("the look's bandwidth over the plain read's", Unit::Ratio, &ratios, None);
    row("memtrace's own peak RSS", Unit::Bytes, &of(|look| look.peak_bytes), Some(MOST_BYTES));
    Ok(())
}

fn middle(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    median(&sorted)
}
