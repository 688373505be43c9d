//! How fast memtrace comes and goes, and what it takes while it is there.

use std::{path::Path, process::Command};

use anyhow::Result;

use crate::{
    Setup,
    machine::Cpus,
    results::{Requirement, Results, Unit},
    target::Target,
    tracer::Tracer,
};

const GROUP: &str = "Attach and detach";
const AT_MOST: Requirement = Requirement::AllBelow(300e6);
/// What the busy target does meanwhile.
const PAIRS_PER_SECOND: u64 = 100_000;

const NUMPY: &str = "import numpy; print('ready', flush=True); input()";

#[derive(Default)]
struct Samples {
    attach_ns: Vec<f64>,
    detach_ns: Vec<f64>,
    own_peak_bytes: Vec<f64>,
}

/// Measures, and adds the rows.
pub fn measure(setup: &Setup, cpus: Cpus, results: &mut Results) -> Result<()> {
    let rounds = if setup.quick { 3 } else { 10 };
    let mut idle = Target::pairs(&setup.pairs(), cpus)?;
    attach_to(setup, "idle C program", &mut idle, rounds, results)?;
    let mut busy = Target::pairs(&setup.pairs(), cpus)?;
    busy.begin_pace(3600 * 1_000_000_000, PAIRS_PER_SECOND)?;
    attach_to(setup, "C program at 100k pairs/s", &mut busy, rounds, results)?;
    drop(busy);
    match setup.python.first() {
        Some(python) => {
            let mut target = with_numpy(python)?;
            attach_to(setup, "Python with numpy", &mut target, rounds, results)
        }
        None => {
            results.skip("attach to Python with numpy: no python3 that can import numpy");
            Ok(())
        }
    }
}

fn with_numpy(python: &Path) -> Result<Target> {
    Target::start(Command::new(python).args(["-c", NUMPY]))
}

fn attach_to(
    setup: &Setup,
    what: &str,
    target: &mut Target,
    rounds: u32,
    results: &mut Results,
) -> Result<()> {
    for (links, arguments) in [("", &[][..]), (", perf-event links", &["--perf-event-links"])] {
        eprintln!("bench: attach to {what}{links}");
        let mut samples = Samples::default();
        for _ in 0..rounds {
            samples.take(setup, target.pid(), arguments)?;
        }
        // The requirement is for what kernels of today get; the fallback is shown beside it.
        let requirement = arguments.is_empty().then_some(AT_MOST);
        samples.add_rows(&format!("{what}{links}"), requirement, results);
    }
    Ok(())
}

impl Samples {
    fn take(&mut self, setup: &Setup, pid: u32, arguments: &[&str]) -> Result<()> {
        let tracer = Tracer::attach(&setup.memtrace, pid, arguments)?;
        self.attach_ns.push(tracer.armed_after.as_nanos() as f64);
        let report = tracer.finish()?;
        self.detach_ns.push(report.window.detach_ns as f64);
        self.own_peak_bytes.push(report.rss.own_peak_bytes as f64);
        Ok(())
    }

    fn add_rows(&self, what: &str, requirement: Option<Requirement>, results: &mut Results) {
        let mut add = |name: &str, unit, samples: &[f64], requirement| {
            results.add(GROUP, format!("{name}: {what}"), unit, samples, requirement);
        };
        add("attach, from exec to armed", Unit::Ns, &self.attach_ns, requirement);
        add("detach, to the last probe gone", Unit::Ns, &self.detach_ns, requirement);
        add("memtrace's own peak RSS", Unit::Bytes, &self.own_peak_bytes, None);
    }
}
