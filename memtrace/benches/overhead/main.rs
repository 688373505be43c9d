//! What memtrace costs its target, whether it keeps up, and how fast it comes and goes.
//!
//! Run by `cargo xtask bench`, which builds this and the targets, runs `measure` as root, keeps
//! its JSON, and lets `render` turn that into a table. What each number means is in
//! docs/benchmarks.md.

mod attach;
mod cost;
mod floor;
mod inspect;
mod kernel_objects;
mod machine;
mod peers;
mod programs;
mod python;
mod rate;
mod render;
mod results;
mod services;
mod stacks;
mod tables;
mod target;
mod tracer;
mod walk;

use std::{io::Read as _, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use crate::{machine::Cpus, render::Format, results::Results};

#[derive(Parser)]
#[command(about = "memtrace's overhead; run it by `cargo xtask bench`")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measure, and print the results as JSON; as root
    Measure(Setup),
    /// Print results that are given as JSON on stdin
    Render {
        #[arg(long, default_value = "text")]
        format: Format,
    },
}

/// What is measured, and with what.
#[derive(clap::Args)]
struct Setup {
    /// The memtrace binary
    #[arg(long)]
    memtrace: PathBuf,
    /// Where the compiled targets and the scripts are
    #[arg(long)]
    targets: PathBuf,
    /// A Python 3 that can import numpy; can be given more than once
    #[arg(long)]
    python: Vec<PathBuf>,
    /// A Python 3 that can import numpy and memray
    #[arg(long)]
    services_python: Option<PathBuf>,
    /// The directory of pyperformance's benchmarks
    #[arg(long)]
    pyperformance: Option<PathBuf>,
    /// GCC's C++ compiler proper
    #[arg(long)]
    cc1plus: Option<PathBuf>,
    /// Fewer rounds and shorter runs: for a look, not for a figure
    #[arg(long)]
    quick: bool,
    /// Only these groups [default: all]
    #[arg(long)]
    only: Vec<Group>,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Group {
    Cost,
    Rate,
    Attach,
    Peers,
    Services,
    Python,
    Inspect,
    Stacks,
    Walk,
    Tables,
}

impl Setup {
    /// The compiled pairs.c.
    fn pairs(&self) -> PathBuf {
        self.targets.join("pairs")
    }

    fn wants(&self, group: Group) -> bool {
        self.only.is_empty() || self.only.contains(&group)
    }
}

fn main() -> Result<()> {
    match Cli::parse().task {
        Task::Measure(setup) => measure(&setup),
        Task::Render { format } => render(format),
    }
}

fn measure(setup: &Setup) -> Result<()> {
    let cpus = Cpus::share_out()?;
    let mut results = Results::new(cpus.describe()?, setup.quick);
    if setup.wants(Group::Cost) {
        cost::measure(setup, cpus, &mut results).context("cost of a pair")?;
    }
    if setup.wants(Group::Rate) {
        rate::measure(setup, cpus, &mut results).context("rates and losses")?;
    }
    if setup.wants(Group::Attach) {
        attach::measure(setup, cpus, &mut results).context("attach and detach")?;
    }
    if setup.wants(Group::Peers) {
        peers::measure(setup, cpus, &mut results).context("peers")?;
    }
    if setup.wants(Group::Services) {
        services::measure(setup, cpus, &mut results).context("Python services")?;
    }
    if setup.wants(Group::Python) {
        python::measure(setup, &mut results).context("Python frames")?;
    }
    if setup.wants(Group::Inspect) {
        inspect::measure(setup, cpus, &mut results).context("a look at a large heap")?;
    }
    if setup.wants(Group::Stacks) {
        stacks::measure(setup, &mut results).context("complete stacks")?;
    }
    if setup.wants(Group::Walk) {
        walk::measure(setup, cpus, &mut results).context("cost of a walk")?;
    }
    if setup.wants(Group::Tables) {
        tables::measure(setup, &mut results).context("unwind tables")?;
    }
    println!("{}", serde_json::to_string_pretty(&results)?);
    Ok(())
}

fn render(format: Format) -> Result<()> {
    let mut json = String::new();
    std::io::stdin().read_to_string(&mut json)?;
    let results: Results = serde_json::from_str(&json).context("stdin holds no results")?;
    print!("{}", render::render(&results, format));
    Ok(())
}
