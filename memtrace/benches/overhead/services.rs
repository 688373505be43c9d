//! What memtrace costs Python services with every stack taken, beside empty probes on the same
//! sites and the tools that people use instead, in rounds that go through all of them.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::{
    Setup,
    floor::{Floor, Sites},
    machine::Cpus,
    peers::{MEMLEAK_REPORTS, started_when},
    process::which,
    results::{Requirement, Results, Unit},
    target::{Target, Work},
    tracer::Tracer,
};

const GROUP: &str = "Slow-down of Python services, every stack taken";
const GROUP_ADDED: &str = "What memtrace adds to Python services, over what empty programs add";

/// Of added cost with every stack over added cost of empty probes.
const MOST_OF_EMPTY: f64 = 1.6;
/// How long a tool may take until it traces.
const PATIENCE: Duration = Duration::from_secs(60);
/// The services take no shape.
const ANY: Work = Work { size_bytes: 0, depth: 0 };

/// A service of service.py, and how much of its work is timed at once (some 50 ms undisturbed).
const SERVICES: [(&str, u64); 3] = [("pusher", 150), ("model-server", 1500), ("pickle", 300)];

/// What watches while a service works.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Watcher {
    Nothing,
    Empty,
    EmptyFirst,
    Memtrace,
    Memleak,
    MemrayRun,
    MemrayAttach,
}

use Watcher::{Empty, EmptyFirst, Memleak, MemrayAttach, MemrayRun, Memtrace, Nothing};

impl Watcher {
    const ALL: [Self; 7] = [Nothing, Empty, EmptyFirst, Memtrace, Memleak, MemrayRun, MemrayAttach];

    fn name(self) -> &'static str {
        match self {
            Nothing => "nothing",
            Empty => "empty programs on memtrace's sites",
            EmptyFirst => "empty programs at first instructions",
            Memtrace => "memtrace, native and Python stacks",
            Memleak => "memleak (libbpf-tools)",
            MemrayRun => "memray run --native",
            MemrayAttach => "memray attach --native",
        }
    }
}

/// Measures, and adds the rows.
pub fn measure(setup: &Setup, cpus: Cpus, results: &mut Results) -> Result<()> {
    let Some(python) = setup.services_python.as_deref() else {
        results.skip("Python services: there is no Python with numpy, memray and pyperformance");
        return Ok(());
    };
    let watchers: Vec<Watcher> =
        Watcher::ALL.into_iter().filter(|it| is_there(setup, *it, results)).collect();
    for (service, units) in SERVICES {
        let bench = Bench { setup, cpus, python, service, units };
        bench.measure(&watchers, results).with_context(|| format!("the service {service}"))?;
    }
    Ok(())
}

fn is_there(setup: &Setup, watcher: Watcher, results: &mut Results) -> bool {
    let missing = match watcher {
        Memleak if setup.memleak.is_none() => "there is no memleak of libbpf-tools",
        MemrayAttach if which("lldb").is_none() => "there is no lldb, which it injects itself by",
        _ => return true,
    };
    results.skip(format!("{} on Python services: {missing}", watcher.name()));
    false
}

/// One service.
struct Bench<'a> {
    setup: &'a Setup,
    cpus: Cpus,
    python: &'a Path,
    service: &'a str,
    units: u64,
}

impl Bench<'_> {
    fn measure(&self, watchers: &[Watcher], results: &mut Results) -> Result<()> {
        let rounds = if self.setup.quick { 3 } else { 11 };
        let mut plain = self.start(&mut Command::new(self.python))?;
        let scratch = TempDir::new()?;
        let mut watched = Vec::new();
        for watcher in [MemrayRun, MemrayAttach] {
            if watchers.contains(&watcher) {
                match self.start_memray(watcher, scratch.path()) {
                    Ok(target) => watched.push((watcher, target)),
                    Err(error) => {
                        results.skip(format!("{} on {}: {error:#}", watcher.name(), self.service));
                    }
                }
            }
        }
        let mut samples: Vec<(Watcher, Vec<f64>)> =
            watchers.iter().map(|watcher| (*watcher, Vec::new())).collect();
        for round in 1..=rounds {
            eprintln!("bench: {}, round {round} of {rounds}", self.service);
            for (watcher, samples) in &mut samples {
                let watcher = *watcher;
                let own = watched.iter_mut().find(|(it, _)| *it == watcher);
                match (own, watcher) {
                    (Some((_, target)), _) => samples.push(self.time(target)?),
                    (None, MemrayRun | MemrayAttach) => {}
                    (None, _) => samples.push(self.under(watcher, &mut plain)?),
                }
            }
        }
        self.add_rows(&samples, results);
        Ok(())
    }

    fn start(&self, command: &mut Command) -> Result<Target> {
        let target = Target::start(script(self.setup, self.service, command))?;
        self.cpus.pin_target(target.pid())?;
        Ok(target)
    }

    /// A service that memray watches from now on, in a process of its own.
    fn start_memray(&self, watcher: Watcher, scratch: &Path) -> Result<Target> {
        let output = scratch.join(format!("{watcher:?}.bin"));
        if watcher == MemrayRun {
            let mut command = Command::new(self.python);
            command.args(["-m", "memray", "run", "--quiet", "--native", "--force", "--output"]);
            return self.start(command.arg(output));
        }
        let mut target = self.start(&mut Command::new(self.python))?;
        let mut attach = Command::new(self.python);
        attach.args(["-m", "memray", "attach", "--native", "--method", "lldb", "--output"]);
        let mut attach = attach
            .arg(&output)
            .arg(target.pid().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        // It waits for the target to allocate.
        let begun = Instant::now();
        let ended = loop {
            self.time(&mut target)?;
            if let Some(status) = attach.try_wait()? {
                break Some(status);
            }
            if begun.elapsed() > PATIENCE {
                attach.kill()?;
                attach.wait()?;
                break None;
            }
        };
        ensure!(ended.is_some_and(|status| status.success()), "it did not attach ({ended:?})");
        ensure!(output.metadata().is_ok_and(|file| file.len() > 0), "it has recorded nothing");
        Ok(target)
    }

    /// CPU time of a unit in nanoseconds while a tool watches.
    fn under(&self, watcher: Watcher, target: &mut Target) -> Result<f64> {
        match watcher {
            Empty | EmptyFirst => {
                let sites = if watcher == Empty { Sites::Chosen } else { Sites::First };
                let floor = Floor::arm(target.pid(), sites)?;
                let unit_ns = self.time(target);
                floor.detach();
                unit_ns
            }
            Memtrace => {
                let tracer = Tracer::attach(&self.setup.memtrace, target.pid(), &[])?;
                let unit_ns = self.time(target);
                let report = tracer.finish()?;
                ensure!(report.completeness.complete, "memtrace lost {}", report.losses());
                unit_ns
            }
            Memleak => {
                // It would otherwise keep its reports back until a block of them is full.
                let mut memleak = Command::new("stdbuf");
                memleak.arg("-oL").arg(self.setup.memleak.as_deref().context("no memleak")?);
                memleak.args(["-p", &target.pid().to_string(), "1"]);
                let tool = started_when(&mut memleak, MEMLEAK_REPORTS)?;
                let unit_ns = self.time(target);
                drop(tool);
                unit_ns
            }
            Nothing | MemrayRun | MemrayAttach => self.time(target),
        }
    }

    /// A short run, so that all is warm; then the one that counts.
    fn time(&self, target: &mut Target) -> Result<f64> {
        target.time((self.units / 10).max(1), ANY)?;
        Ok(target.time(self.units, ANY)?.pair_ns())
    }

    fn add_rows(&self, samples: &[(Watcher, Vec<f64>)], results: &mut Results) {
        let of = |watcher| {
            let found = samples.iter().find(|(it, _)| *it == watcher);
            found.map_or(&[][..], |(_, samples)| samples)
        };
        let bare = of(Nothing);
        for (watcher, unit_ns) in samples.iter().filter(|(watcher, _)| *watcher != Nothing) {
            let ratios: Vec<f64> = unit_ns.iter().zip(bare).map(|(one, bare)| one / bare).collect();
            let name = format!("{}: {}", self.service, watcher.name());
            results.add(GROUP, name, Unit::Ratio, &ratios, None);
        }
        let added_over = |empty: &[f64]| -> Vec<f64> {
            let rounds = of(Memtrace).iter().zip(empty).zip(bare);
            rounds.map(|((one, empty), bare)| (one - bare) / (empty - bare)).collect()
        };
        let requirement = Some(Requirement::MedianAtMost(MOST_OF_EMPTY));
        results.add(GROUP_ADDED, self.service, Unit::Ratio, &added_over(of(Empty)), requirement);
        // What other tools' probes cost before their programs do anything.
        let name = format!("{}: over those at first instructions", self.service);
        results.add(GROUP_ADDED, name, Unit::Ratio, &added_over(of(EmptyFirst)), None);
    }
}

/// Starts a service of service.py.
pub fn start_service(setup: &Setup, python: &Path, service: &str) -> Result<Target> {
    Target::start(script(setup, service, &mut Command::new(python)))
}

fn script<'c>(setup: &Setup, service: &str, command: &'c mut Command) -> &'c mut Command {
    command.arg(setup.targets.join("service.py")).arg(service);
    if service == "pickle" {
        command.args(&setup.pyperformance);
    }
    command.env("OPENBLAS_NUM_THREADS", "1")
}
