//! What a replay of the pusher takes under another allocator, and what the pusher takes when it does
//! the same work once more with what memtrace says is to be set.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use memtrace::whatif::result::{Outcome, Row};
use tempfile::TempDir;

use super::whatif;
use crate::{
    Setup,
    machine::Cpus,
    results::{Requirement, Results, Unit},
    target::Target,
    tracer::{Tracer, exact},
};

const GROUP: &str = "The pusher's RSS: replayed, and really";

/// The first is the baseline, which the traced process itself is compared with, too.
const VARIANTS: [&str; 5] = ["glibc", "glibc:arena_max=1", "jemalloc", "mimalloc", "tcmalloc"];
/// Not asked for: tcmalloc.
const REQUIRED: &[&str] = VARIANTS.split_at(4).0;

const MOST_PERCENT: Requirement = Requirement::MedianAtMost(10.0);

/// A replayed and a real RSS.
struct Pair {
    name: String,
    replayed_bytes: f64,
    real_bytes: f64,
}

/// Measures, and adds the rows.
pub fn measure(setup: &Setup, cpus: Cpus, results: &mut Results) -> Result<()> {
    let (runs, bursts) = if setup.quick { (1, 3) } else { (3, 6) };
    let mut pairs = Vec::new();
    for run in 1..=runs {
        eprintln!("bench: pairs of the pusher, run {run} of {runs}");
        pairs.extend(round(setup, cpus, &format!("turns {bursts}"), results)?);
    }
    add_rows(&pairs, results);
    Ok(())
}

fn round(setup: &Setup, cpus: Cpus, work: &str, results: &mut Results) -> Result<Vec<Pair>> {
    let scratch = TempDir::new()?;
    let capture = scratch.path().join("pusher.memtrace");
    trace(setup, cpus, work, &capture)?;
    let replayed = whatif(setup, cpus, &capture, &VARIANTS.join(","))?;
    let mut pairs = Vec::new();
    for row in &replayed.variants {
        match &row.outcome {
            Outcome::Done => {
                let real_bytes = really(setup, cpus, work, row)?;
                pairs.push(Pair::of(row, &row.name, real_bytes)?);
            }
            other => results.skip(format!("{} of the pusher: {other:?}", row.name)),
        }
    }
    let baseline = replayed.baseline().context("there is no baseline")?;
    let traced_bytes = replayed.target.rss_bytes.context("its heap was not walked")?;
    pairs.push(Pair::of(baseline, "glibc, the traced process itself", traced_bytes)?);
    Ok(pairs)
}

impl Pair {
    fn of(row: &Row, name: &str, real_bytes: u64) -> Result<Self> {
        let replayed_bytes = row.rss_bytes.context("its heap was not walked")? as f64;
        Ok(Self { name: name.to_owned(), replayed_bytes, real_bytes: real_bytes as f64 })
    }

    fn off_percent(&self) -> f64 {
        100.0 * (self.replayed_bytes / self.real_bytes - 1.0).abs()
    }

    fn is_required(&self) -> bool {
        REQUIRED.iter().any(|name| self.name.split(',').next() == Some(name))
    }
}

/// All threads may use all CPUs, as those of a service.
fn pusher(setup: &Setup, cpus: Cpus, variable: Option<(&str, &str)>) -> Result<Target> {
    let mut command = Command::new("/usr/bin/python3");
    command.arg(setup.targets.join("pusher.py")).envs(variable);
    cpus.start(true, || Target::start(&mut command))
}

fn trace(setup: &Setup, cpus: Cpus, work: &str, copy: &Path) -> Result<()> {
    let mut target = pusher(setup, cpus, None)?;
    let options = [&exact(&setup.memtrace)[..], &["--ring-size", "256MiB"]].concat();
    let tracer = Tracer::attach_as(&setup.memtrace, target.pid(), &options)?;
    target.answer(work)?;
    let copied = |capture: &Path| Ok(std::fs::copy(capture, copy)?);
    let (report, _) = tracer.finish_with(copied)?;
    ensure!(report.completeness.complete, "memtrace lost {}", report.losses());
    Ok(())
}

/// RSS after the same work, with what is to be set.
fn really(setup: &Setup, cpus: Cpus, work: &str, row: &Row) -> Result<u64> {
    let how = row.how.as_deref().and_then(|how| how.split_once('='));
    let answer = pusher(setup, cpus, how)?.answer(work)?;
    answer.get("rss_bytes").and_then(|it| it.as_u64()).context("the pusher told no RSS")
}

fn add_rows(pairs: &[Pair], results: &mut Results) {
    let mut names: Vec<&str> = Vec::new();
    for pair in pairs {
        if !names.contains(&&*pair.name) {
            names.push(&pair.name);
        }
    }
    for name in names {
        let own: Vec<&Pair> = pairs.iter().filter(|it| it.name == name).collect();
        let of = |figure: fn(&Pair) -> f64| own.iter().map(|it| figure(it)).collect::<Vec<f64>>();
        let required = own[0].is_required().then_some(MOST_PERCENT);
        let (replayed, real) = (of(|it| it.replayed_bytes), of(|it| it.real_bytes));
        results.add(GROUP, format!("{name}: replayed"), Unit::Bytes, &replayed, None);
        results.add(GROUP, format!("{name}: really"), Unit::Bytes, &real, None);
        let off = of(Pair::off_percent);
        results.add(GROUP, format!("{name}: off by"), Unit::Percent, &off, required);
    }
}
