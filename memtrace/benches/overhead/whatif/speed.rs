//! How many calls a second a replay under glibc makes.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use memtrace::whatif::result::Row;
use tempfile::TempDir;

use super::whatif;
use crate::{
    Setup,
    machine::Cpus,
    results::{Requirement, Results, Unit},
    target::Target,
    tracer::Tracer,
};

const GROUP: &str = "Events that a replay under glibc makes again";

/// Pairs a second, for so many seconds: three million events.
const RATE: u64 = 300_000;
const SECONDS: u64 = 5;

const LEAST: Requirement = Requirement::MedianAtLeast(5e6);

/// Programs of threads.c.
const PROGRAMS: [(&str, [&str; 2]); 2] =
    [("pairs of equal size", ["pairs", "1"]), ("churn in 2 threads", ["churn", "2"])];

/// Measures, and adds the rows.
pub fn measure(setup: &Setup, cpus: Cpus, results: &mut Results) -> Result<()> {
    let runs = if setup.quick { 3 } else { 9 };
    for (name, arguments) in PROGRAMS {
        eprintln!("bench: replays of {name}");
        let scratch = TempDir::new()?;
        let capture = scratch.path().join("kept.memtrace");
        trace(setup, cpus, &arguments, &capture)?;
        let rows: Vec<Row> =
            (0..runs).map(|_| replay(setup, cpus, &capture)).collect::<Result<_>>()?;
        add_rows(name, &rows, results);
    }
    Ok(())
}

fn trace(setup: &Setup, cpus: Cpus, arguments: &[&str], copy: &Path) -> Result<()> {
    let mut command = Command::new(setup.targets.join("threads"));
    let mut target = cpus.start(false, || Target::start(command.args(arguments)))?;
    let tracer = Tracer::attach(&setup.memtrace, target.pid(), &[])?;
    target.pace(SECONDS * 1_000_000_000, RATE)?;
    tracer.finish_with(|capture| Ok(fs::copy(capture, copy)?))?;
    Ok(())
}

fn replay(setup: &Setup, cpus: Cpus, capture: &Path) -> Result<Row> {
    let result = whatif(setup, cpus, capture, "glibc")?;
    result.baseline().cloned().context("the replay was not done")
}

fn add_rows(name: &str, rows: &[Row], results: &mut Results) {
    let of = |figure: fn(&Row) -> f64| rows.iter().map(figure).collect::<Vec<f64>>();
    let by_cpu = of(|row| row.calls as f64 / row.cpu_ns.max(1) as f64 * 1e9);
    let by_wall = of(|row| row.calls as f64 / row.wall_ns.max(1) as f64 * 1e9);
    let of_cpu = format!("{name}: a second of CPU time");
    results.add(GROUP, format!("{name}: calls"), Unit::Count, &of(|row| row.calls as f64), None);
    results.add(GROUP, of_cpu, Unit::PerSecond, &by_cpu, Some(LEAST));
    results.add(GROUP, format!("{name}: a second"), Unit::PerSecond, &by_wall, None);
}
