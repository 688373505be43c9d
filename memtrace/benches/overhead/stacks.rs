//! How many stacks are complete, from the allocator to `_start` or `clone`, in programs as people
//! run them: without frame pointers. Every call counts, not every distinct stack.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::{
    Setup,
    programs::{self, Program, Start},
    results::{Requirement, Results, Unit},
    tracer::{Report, Site, Stack, Tracer},
};

/// Of calls, in percent.
const COMPLETE: Requirement = Requirement::AllAtLeast(99.5);

/// What a traced window showed of its stacks.
#[derive(Debug, Default, PartialEq)]
struct Census {
    /// Allocating calls whose event arrived.
    calls: u64,
    /// Those without a complete stack, by the label that stands for the missing part.
    incomplete: BTreeMap<String, u64>,
    /// Sum over all calls, without inlined ones.
    frames: u64,
    /// Calls with a complete stack, by the function that it ends in.
    roots: BTreeMap<String, u64>,
    /// Distinct stacks by name.
    sites: u64,
}

/// Measures, and adds the rows.
pub fn measure(setup: &Setup, results: &mut Results) -> Result<()> {
    for program in programs::all(setup) {
        eprintln!("bench: stacks of {}", program.name);
        match &program.start {
            Start::Missing(why) => results.skip(format!("stacks of {}: {why}", program.name)),
            _ => {
                let report = trace(setup, &program).with_context(|| program.name.clone())?;
                add_rows(&program.name, &report, results);
            }
        }
    }
    Ok(())
}

fn trace(setup: &Setup, program: &Program) -> Result<Report> {
    let window = Duration::from_secs(if setup.quick { 2 } else { 5 });
    let mut running = program.run()?;
    let tracer = Tracer::attach_soon(&setup.memtrace, running.pid())?;
    thread::sleep(window);
    let report = tracer.finish()?;
    running.finish()?;
    ensure!(report.sites.iter().any(|site| site.allocated.count > 0), "it did not allocate");
    Ok(report)
}

fn add_rows(program: &str, report: &Report, results: &mut Results) {
    let census = Census::of(&report.sites);
    let group = "Complete stacks, by calls";
    let mut add = |name: String, unit, value: f64, requirement| {
        results.add(group, format!("{program}: {name}"), unit, &[value], requirement);
    };
    add("complete".to_owned(), Unit::Percent, census.complete_percent(), Some(COMPLETE));
    for (reason, count) in &census.incomplete {
        add(reason.clone(), Unit::Percent, percent(*count, census.calls), None);
    }
    for (root, count) in &census.roots {
        add(format!("ending in {root}"), Unit::Percent, percent(*count, census.calls), None);
    }
    add("calls".to_owned(), Unit::Count, census.calls as f64, None);
    add("frames a stack, mean".to_owned(), Unit::Decimal, census.mean_frames(), None);
    add("distinct stacks, by name".to_owned(), Unit::Count, census.sites as f64, None);
    add("events lost".to_owned(), Unit::Count, report.lost() as f64, None);
}

impl Census {
    fn of(sites: &[Site]) -> Self {
        let mut census = Self::default();
        for site in sites.iter().filter(|site| site.allocated.count > 0) {
            let calls = site.allocated.count;
            census.calls += calls;
            census.sites += 1;
            let frames = site.stack.frames.iter().filter(|frame| !frame.inlined).count();
            census.frames += calls * frames as u64;
            let (sum, name) = match &site.stack.missing_root {
                Some(reason) => (&mut census.incomplete, reason.clone()),
                None if site.stack.frames.is_empty() => {
                    (&mut census.incomplete, "[other sites]".to_owned())
                }
                None => (&mut census.roots, root_of(&site.stack)),
            };
            *sum.entry(name).or_default() += calls;
        }
        census
    }

    fn complete_percent(&self) -> f64 {
        percent(self.calls - self.incomplete.values().sum::<u64>(), self.calls)
    }

    fn mean_frames(&self) -> f64 {
        self.frames as f64 / self.calls as f64
    }
}

/// The outermost function, or its module where it has no name.
fn root_of(stack: &Stack) -> String {
    let name = stack.frames.last().map_or("nothing", |frame| frame.function.as_str());
    name.split_once("+0x").map_or(name, |(module, _)| module).to_owned()
}

fn percent(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64 * 100.0
}
