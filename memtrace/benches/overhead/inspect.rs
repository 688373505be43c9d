//! How long a look at a large heap takes, and what memtrace needs for it.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    Setup,
    results::{Requirement, Results, Unit},
    target::Target,
};

const GROUP: &str = "A look at a heap of 1 GB in blocks of 1 KiB, by memtrace inspect";

/// Holds as many blocks of 1 KiB as it is told.
const HEAP: &str = "import sys; blocks = [bytearray(1000) for _ in range(int(sys.argv[1]))]; \
                    print('ready', flush=True); sys.stdin.read()";
const BLOCKS: u64 = 1_000_000;

const MOST_NS: Requirement = Requirement::MedianAtMost(0.5e9);
const MOST_BYTES: Requirement = Requirement::AllBelow((64 << 20) as f64);

/// Measures, and adds the rows.
pub fn measure(setup: &Setup, results: &mut Results) -> Result<()> {
    let rounds = if setup.quick { 3 } else { 11 };
    let mut python = Command::new("/usr/bin/python3");
    let target = Target::start(python.args(["-c", HEAP, &BLOCKS.to_string()]))?;
    let (mut look_ns, mut own_bytes) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let inspection = inspect(setup, target.pid())?;
        let duration_ns = inspection.pointer("/duration_ns").and_then(Value::as_f64);
        look_ns.push(duration_ns.context("no duration in the inspection")?);
        own_bytes.push(largest_child_bytes());
    }
    results.add(GROUP, "the look", Unit::Ns, &look_ns, Some(MOST_NS));
    results.add(GROUP, "memtrace's own peak RSS", Unit::Bytes, &own_bytes, Some(MOST_BYTES));
    Ok(())
}

fn inspect(setup: &Setup, pid: u32) -> Result<Value> {
    let output = Command::new(&setup.memtrace)
        .args(["inspect", "--json", "-p", &pid.to_string()])
        .output()?;
    ensure!(output.status.success(), "memtrace inspect failed ({})", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The largest peak RSS of the processes that were started and have ended: memtrace's own, when this
/// group is measured alone, and else an upper bound.
fn largest_child_bytes() -> f64 {
    // SAFETY: all zeros are a valid `rusage`, and the call fills it in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    usage.ru_maxrss as f64 * 1024.0
}
