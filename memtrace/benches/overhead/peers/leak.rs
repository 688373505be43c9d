//! Whether memtrace names the leak that is planted in a busy program.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{Peers, tool::Tool, workload::Workload};
use crate::{
    results::{Requirement, Results, Unit},
    tracer::Report,
};

const GROUP: &str = "Place of the planted leak among memtrace's sites";
/// The leak must be the first by then.
const WINDOW: Duration = Duration::from_secs(30);
/// Before the window: what grows at the start of any program has grown.
const WARM_UP: Duration = Duration::from_secs(2);

/// Measures, and adds the rows.
pub fn measure(peers: &Peers<'_>, tool: Tool, workload: Workload, results: &mut Results) {
    let place = (0..peers.leak_runs())
        .map(|_| place(peers, tool, workload))
        .collect::<Result<Vec<f64>>>()
        .with_context(|| format!("the leak planted in {}", workload.name()));
    match place {
        Ok(places) => {
            let (workload, seconds) = (workload.name(), WINDOW.as_secs());
            let name = format!("{workload}: {}, after {seconds} s", tool.name());
            let first = Some(Requirement::AllEqual(1.0));
            results.add(GROUP, name, Unit::Rank, &places, first);
        }
        Err(error) => results.skip(format!("{error:#}")),
    }
}

fn place(peers: &Peers<'_>, tool: Tool, workload: Workload) -> Result<f64> {
    eprintln!("bench: {} leaks", workload.name());
    let mut command = workload.command(peers.setup, true)?;
    let mut subject = peers.start(workload, &mut command)?;
    let _load = subject.work_on()?;
    thread::sleep(WARM_UP);
    let begun = Instant::now();
    let tracer = peers.attach(tool, subject.pid())?;
    thread::sleep(WINDOW.saturating_sub(begun.elapsed()));
    Ok(tracer.finish()?.place_of(workload.leaking_functions()) as f64)
}

impl Report {
    /// The place, from 1, of the first group of sites that one of the functions led to; 0 if there is
    /// none.
    fn place_of(&self, functions: &[&str]) -> usize {
        let is_one = |name: &str| functions.iter().any(|function| name.contains(function));
        let is_it = |site: usize| {
            let stack = self.sites.get(site).map(|site| &site.stack);
            stack.is_some_and(|stack| stack.frames.iter().any(|frame| is_one(&frame.function)))
        };
        let place = self.groups.iter().position(|group| group.largest_site.is_some_and(is_it));
        place.map_or(0, |place| place + 1)
    }
}
