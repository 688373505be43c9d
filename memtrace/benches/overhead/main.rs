//! What memtrace costs its target, whether it keeps up, and how fast it comes and goes.
//!
//! Run by `cargo xtask bench`, which builds this and the targets, runs `measure` as root, keeps
//! its JSON, and lets `render` turn that into a table. What each number means is in
//! docs/benchmarks.md.

mod attach;
mod capture;
mod cost;
mod finished;
mod floor;
mod idle_watch;
mod inspect;
mod kernel_objects;
mod machine;
mod matrix;
mod peers;
mod process;
mod programs;
mod python;
mod rate;
mod render;
mod results;
mod scale;
mod services;
mod stacks;
mod tables;
mod target;
mod tracer;
mod usage;
mod walk;
mod whatif;

use std::{io::Read as _, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum as _};

use crate::{
    machine::Cpus,
    peers::{Tool, Workload},
    render::Format,
    results::Results,
};

#[derive(Parser)]
#[command(about = "memtrace's overhead; run it by `cargo xtask bench`")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measure, and print the results as JSON; as root
    Measure(Box<Setup>),
    /// Print results that are given as JSON on stdin
    Render {
        #[arg(long, default_value = "text")]
        format: Format,
        /// Only these groups [default: all]
        #[arg(long)]
        only: Vec<Group>,
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
    /// libbpf-tools' memleak
    #[arg(long)]
    memleak: Option<PathBuf>,
    /// Of the peers only these [default: all]
    #[arg(long)]
    tool: Vec<Tool>,
    /// The peers only on these [default: all]
    #[arg(long)]
    workload: Vec<Workload>,
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
    Scale,
    Capture,
    Attach,
    Peers,
    Services,
    Python,
    Inspect,
    Stacks,
    Walk,
    Tables,
    Watch,
    #[value(name = "whatif")]
    WhatIf,
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

impl Group {
    /// As it is typed.
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn measure(self, setup: &Setup, cpus: Cpus, results: &mut Results) -> Result<()> {
        match self {
            Self::Cost => cost::measure(setup, cpus, results),
            Self::Rate => rate::measure(setup, cpus, results),
            Self::Scale => scale::measure(setup, cpus, results),
            Self::Capture => capture::measure(setup, cpus, results),
            Self::Attach => attach::measure(setup, cpus, results),
            Self::Peers => peers::measure(setup, cpus, results),
            Self::Services => services::measure(setup, cpus, results),
            Self::Python => python::measure(setup, results),
            Self::Inspect => inspect::measure(setup, cpus, results),
            Self::Stacks => stacks::measure(setup, results),
            Self::Walk => walk::measure(setup, cpus, results),
            Self::Tables => tables::measure(setup, results),
            Self::Watch => idle_watch::measure(setup, results),
            Self::WhatIf => whatif::measure(setup, cpus, results),
        }
    }
}

fn main() -> Result<()> {
    match Cli::parse().task {
        Task::Measure(setup) => measure(&setup),
        Task::Render { format, only } => render(format, &only),
    }
}

fn measure(setup: &Setup) -> Result<()> {
    let cpus = Cpus::share_out()?;
    let mut results = Results::new(cpus.describe()?, setup.quick);
    for group in Group::value_variants().iter().filter(|group| setup.wants(**group)) {
        results.begin(&group.name());
        group.measure(setup, cpus, &mut results).with_context(|| group.name())?;
    }
    println!("{}", serde_json::to_string_pretty(&results)?);
    Ok(())
}

fn render(format: Format, only: &[Group]) -> Result<()> {
    let mut json = String::new();
    std::io::stdin().read_to_string(&mut json)?;
    let results: Results = serde_json::from_str(&json).context("stdin holds no results")?;
    let only: Vec<String> = only.iter().map(|group| group.name()).collect();
    print!("{}", render::render(&results.only(&only), format));
    Ok(())
}
