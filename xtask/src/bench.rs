//! `cargo xtask bench`: what memtrace costs and how fast it is, as a table. Built and rendered as
//! the caller, measured as root. Numbers never fail the task: they are for people to judge.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    artifacts, bench_docs, bench_targets, foreign,
    needs::Purpose,
    privilege::Privilege,
    setup,
    shell::{line, run, say, work_dir},
};

/// Options of `cargo xtask bench`.
#[derive(Args)]
pub struct Options {
    /// Fewer rounds and shorter runs: for a look, not for a figure
    #[arg(long)]
    quick: bool,
    /// Only this group; can be given more than once [default: all]
    #[arg(long, value_name = "GROUP", value_parser = ["cost", "rate", "scale", "capture", "attach", "peers", "services", "python", "inspect", "stacks", "walk", "tables", "watch", "whatif"])]
    only: Vec<String>,
    /// Of the peers only this tool; can be given more than once [default: all]
    #[arg(long, value_name = "TOOL", value_parser = ["bare", "floor", "floor-first", "exact", "sampled", "default", "growth", "inspect", "memleak", "bpftrace", "heaptrack", "memray-run", "memray-attach", "jemalloc"])]
    tool: Vec<String>,
    /// The peers only on this; can be given more than once [default: all]
    #[arg(long, value_name = "WORKLOAD", value_parser = ["pairs", "pairs-8", "churn", "sqlite", "redis", "pusher", "model-server", "http"])]
    workload: Vec<String>,
    /// Print the tables in Markdown, as in docs/benchmarks.md
    #[arg(long)]
    markdown: bool,
    /// Put the tables of the groups that have a place in docs/benchmarks.md in there
    #[arg(long)]
    docs: bool,
    /// Measure nothing: print the results of the last run
    #[arg(long, conflicts_with_all = ["quick", "only"])]
    last: bool,
}

impl Options {
    fn wants(&self, group: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == group)
    }
}

/// Runs the task.
pub fn main(options: &Options) -> Result<()> {
    setup::install(&[Purpose::Bench])?;
    if options.wants("peers") && !options.last {
        // What is missing is said in the results.
        if let Err(error) = setup::install(&[Purpose::Peers]) {
            say(format_args!("not all tools are here to compare memtrace with: {error:#}"));
        }
    }
    let results = work_dir("bench").join("results.json");
    let built = artifacts::build_bench()?;
    if !options.last {
        measure(options, &built, &results)?;
        say(format_args!("wrote {}", results.display()));
    }
    if options.docs {
        bench_docs::write(&built.overhead, &results)?;
    }
    render(&built.overhead, &results, options.markdown)
}

fn measure(options: &Options, built: &artifacts::Bench, results: &Path) -> Result<()> {
    let directory = work_dir("bench");
    bench_targets::prepare(&directory)?;
    let mut args = vec!["measure".to_owned()];
    let mut option = |name: &str, value: &str| args.extend([name, value].map(str::to_owned));
    option("--memtrace", text(&built.memtrace)?);
    option("--targets", text(&directory)?);
    for python in bench_targets::pythons(&directory) {
        option("--python", text(&python)?);
    }
    match bench_targets::services(&directory) {
        Ok(services) => {
            option("--services-python", text(&services.python)?);
            option("--pyperformance", text(&services.pyperformance)?);
        }
        Err(error) => say(format_args!("Python services are not measured: {error:#}")),
    }
    if let Some(cc1plus) = bench_targets::cc1plus() {
        option("--cc1plus", text(&cc1plus)?);
    }
    if let Ok(memleak) = foreign::memleak() {
        option("--memleak", text(&memleak)?);
    }
    options.only.iter().for_each(|group| option("--only", group));
    options.tool.iter().for_each(|tool| option("--tool", tool));
    options.workload.iter().for_each(|workload| option("--workload", workload));
    args.extend(options.quick.then(|| "--quick".to_owned()));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let what = "The benchmark loads eBPF programs, which needs root";
    let mut command = Privilege::now().command(what, &[], &built.overhead, &args)?;
    fs::write(results, standard_output(&mut command)?)
        .with_context(|| format!("cannot write {}", results.display()))
}

/// What a command prints, with its progress shown.
fn standard_output(command: &mut Command) -> Result<Vec<u8>> {
    say(format_args!("running {}", line(command)));
    let output = command.stderr(Stdio::inherit()).output().context("cannot start the benchmark")?;
    if !output.status.success() {
        bail!("{}: {}", output.status, line(command));
    }
    Ok(output.stdout)
}

fn render(overhead: &Path, results: &Path, markdown: bool) -> Result<()> {
    let format = if markdown { "markdown" } else { "text" };
    let input = fs::File::open(results)
        .with_context(|| format!("no results of an earlier run: {}", results.display()))?;
    run(Command::new(overhead).args(["render", "--format", format]).stdin(input))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
