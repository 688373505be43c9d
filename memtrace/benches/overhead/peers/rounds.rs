//! Rounds through all tools on one workload.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};

use super::{
    Peers,
    subject::{Done, Subject},
    tool::Tool,
    watch::Watch,
    workload::Workload,
    wrapped::Wrapped,
};
use crate::{results::Results, tracer::Report};

/// A tool's run in a round.
pub struct Run {
    pub tool: Tool,
    pub round: u32,
    pub done: Done,
    /// The run without any tool that it is compared with.
    pub bare: Done,
    /// What memtrace said in the end.
    pub report: Option<Report>,
}

impl Run {
    /// How much longer the same work takes.
    pub fn slow_down(&self) -> f64 {
        self.bare.rate / self.done.rate
    }

    /// What a unit of work costs more, by the clock on the wall.
    pub fn added_ns(&self) -> f64 {
        self.done.unit_ns() - self.bare.unit_ns()
    }
}

/// One workload, in the processes that it runs in.
pub struct Rounds<'a> {
    peers: &'a Peers<'a>,
    workload: Workload,
    plain: Box<dyn Subject>,
    wrapped: BTreeMap<usize, Wrapped>,
    tools: Vec<Tool>,
}

impl<'a> Rounds<'a> {
    /// Starts the workload once for those who come and go, and once under each of the others.
    pub fn prepare(
        peers: &'a Peers<'a>,
        workload: Workload,
        tools: &[Tool],
        results: &mut Results,
    ) -> Result<Self> {
        let plain = start_plain(peers, workload)?;
        let tools = tools.to_owned();
        let mut rounds = Self { peers, workload, plain, wrapped: BTreeMap::new(), tools };
        rounds.leave_out_unfit();
        for tool in rounds.tools.clone().into_iter().filter(|tool| tool.is_started_under()) {
            eprintln!("bench: {}: starting it under {}", workload.name(), tool.name());
            match Wrapped::start(peers, tool, workload) {
                Ok(wrapped) => drop(rounds.wrapped.insert(tool as usize, wrapped)),
                Err(error) => rounds.leave_out(tool, &error, results),
            }
        }
        Ok(rounds)
    }

    fn leave_out_unfit(&mut self) {
        let workload = self.workload;
        self.tools.retain(|tool| match tool.unfit(workload) {
            None => true,
            Some(why) => {
                eprintln!("bench: {}: no {}: {why}", workload.name(), tool.name());
                false
            }
        });
    }

    /// All of it, round by round.
    pub fn run(mut self, results: &mut Results) -> Result<Vec<Run>> {
        let mut runs = Vec::new();
        for round in 1..=self.peers.rounds() {
            eprintln!("bench: {}, round {round} of {}", self.workload.name(), self.peers.rounds());
            self.round(round, &mut runs, results)?;
        }
        // A tool that failed in a later round has no figure.
        runs.retain(|run| self.tools.contains(&run.tool));
        Ok(runs)
    }

    fn round(&mut self, round: u32, runs: &mut Vec<Run>, results: &mut Results) -> Result<()> {
        let mut bare = self.bare(self.peers.duration(Tool::Bare))?;
        for tool in self.tools.clone() {
            if tool.is_slight() {
                bare = self.bare(self.peers.duration(tool))?;
            }
            let ran = if tool == Tool::Bare { Ok((bare, None)) } else { self.watched(tool) };
            match ran {
                Ok((done, report)) => runs.push(Run { tool, round, done, bare, report }),
                Err(error) => {
                    self.leave_out(tool, &error, results);
                    self.revive()?;
                }
            }
        }
        Ok(())
    }

    fn bare(&mut self, duration: Duration) -> Result<Done> {
        self.plain.work(duration).context("without any tool")
    }

    fn watched(&mut self, tool: Tool) -> Result<(Done, Option<Report>)> {
        let duration = self.peers.duration(tool);
        if let Some(wrapped) = self.wrapped.get_mut(&(tool as usize)) {
            return Ok((wrapped.subject.work(duration)?, None));
        }
        let watch = Watch::begin(self.peers, tool, self.plain.pid())?;
        let done = self.plain.work(duration)?;
        Ok((done, watch.end()?))
    }

    fn leave_out(&mut self, tool: Tool, error: &anyhow::Error, results: &mut Results) {
        results.skip(format!("{} on {}: {error:#}", tool.name(), self.workload.name()));
        self.tools.retain(|other| *other != tool);
        self.wrapped.remove(&(tool as usize));
    }

    /// A tool may have taken the program with it.
    fn revive(&mut self) -> Result<()> {
        if self.plain.work(Duration::from_millis(50)).is_err() {
            eprintln!("bench: {} did not survive it: starting it again", self.workload.name());
            self.plain = start_plain(self.peers, self.workload)?;
        }
        Ok(())
    }
}

fn start_plain(peers: &Peers<'_>, workload: Workload) -> Result<Box<dyn Subject>> {
    let mut command = workload.command(peers.setup, false)?;
    let mut plain = peers.start(workload, &mut command)?;
    plain.work(Duration::from_millis(300)).context("the first run")?;
    Ok(plain)
}
