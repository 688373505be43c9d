//! memtrace in its modes beside empty programs and the tools that people use instead, on the same
//! work, in rounds that go through all of them.

mod http;
mod leak;
mod leftovers;
mod redis;
mod rounds;
pub mod rows;
mod sqlite;
mod subject;
mod tool;
mod watch;
mod workload;
mod wrapped;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use self::{leftovers::Leftovers, rounds::Rounds, subject::Subject};
pub use self::{
    tool::Tool,
    watch::{MEMLEAK_REPORTS, Watch, started_when},
    workload::Workload,
};
use crate::{
    Setup,
    machine::Cpus,
    results::Results,
    tracer::{Tracer, knows},
};

/// What all workloads have in common.
pub struct Peers<'a> {
    pub setup: &'a Setup,
    pub cpus: Cpus,
}

/// Measures, and adds the rows.
pub fn measure(setup: &Setup, cpus: Cpus, results: &mut Results) -> Result<()> {
    let peers = Peers { setup, cpus };
    let (begun, leftovers) = (Instant::now(), Leftovers::before());
    let tools = peers.tools(results);
    let workloads = peers.workloads(results);
    for workload in workloads.iter().copied() {
        // What one workload cannot do does not keep the others from it.
        if let Err(error) = peers.compare(workload, &tools, results) {
            results.skip(format!("{}: {error:#}", workload.name()));
        }
    }
    peers.plant_leaks(&tools, &workloads, results);
    leftovers.add(results);
    eprintln!("bench: peers took {} s", begun.elapsed().as_secs());
    Ok(())
}

impl Peers<'_> {
    fn compare(&self, workload: Workload, tools: &[Tool], results: &mut Results) -> Result<()> {
        let runs = Rounds::prepare(self, workload, tools, results)?.run(results)?;
        rows::add(workload, tools, &runs, results);
        Ok(())
    }

    /// In the default mode, where there is one.
    fn plant_leaks(&self, tools: &[Tool], workloads: &[Workload], results: &mut Results) {
        let mut modes = [Tool::Default, Tool::Exact].into_iter();
        let Some(tool) = modes.find(|tool| tools.contains(tool)) else { return };
        for workload in workloads.iter().filter(|it| Workload::LEAKING.contains(it)) {
            leak::measure(self, tool, *workload, results);
        }
    }

    /// Those that are wanted and here.
    fn tools(&self, results: &mut Results) -> Vec<Tool> {
        let is_wanted = |tool: &Tool| self.setup.tool.is_empty() || self.setup.tool.contains(tool);
        let mut tools: Vec<Tool> = Tool::ALL.into_iter().filter(is_wanted).collect();
        tools.retain(|tool| match tool.missing(self) {
            None => true,
            Some(why) => {
                results.skip(format!("{}: {why}", tool.name()));
                false
            }
        });
        for tool in &tools {
            if let Some(command) = tool.command() {
                results.command(tool.name(), command);
            }
        }
        tools
    }

    fn workloads(&self, results: &mut Results) -> Vec<Workload> {
        let of = &self.setup.workload;
        let is_wanted = |workload: &Workload| of.is_empty() || of.contains(workload);
        let mut workloads: Vec<_> = Workload::ALL.into_iter().filter(is_wanted).collect();
        workloads.retain(|workload| match workload.missing(self.setup) {
            None => true,
            Some(why) => {
                results.skip(format!("{}: {why}", workload.name()));
                false
            }
        });
        workloads
    }

    /// Whether `memtrace attach` has an option.
    pub fn knows(&self, option: &str) -> bool {
        knows(&self.setup.memtrace, option)
    }

    fn without_memray(&self) -> Option<String> {
        let python = self.setup.services_python.as_ref();
        python.is_none().then(|| "there is no Python with memray".to_owned())
    }

    /// Attaches memtrace in one of its modes.
    pub fn attach(&self, tool: Tool, pid: u32) -> Result<Tracer> {
        Tracer::attach_as(&self.setup.memtrace, pid, &tool.options(&self.setup.memtrace))
    }

    /// Starts a workload where it belongs.
    fn start(&self, workload: Workload, command: &mut Command) -> Result<Box<dyn Subject>> {
        let started =
            self.cpus.start(!workload.is_pinned(), || workload.start(self.setup, command));
        started.with_context(|| format!("cannot start {command:?}"))
    }

    fn rounds(&self) -> u32 {
        if self.setup.quick { 3 } else { 7 }
    }

    fn leak_runs(&self) -> u32 {
        if self.setup.quick { 1 } else { 3 }
    }

    /// How long the work goes on. The default mode needs time to settle, and a look comes every
    /// two seconds.
    fn duration(&self, tool: Tool) -> Duration {
        let (usual, slight) = if self.setup.quick { (1000, 2500) } else { (2000, 8000) };
        Duration::from_millis(if tool.is_slight() { slight } else { usual })
    }
}
