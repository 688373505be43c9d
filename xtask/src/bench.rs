//! `cargo xtask bench`: what memtrace costs and how fast it is, as a table. Built and rendered as
//! the caller, measured as root. Numbers never fail the task: they are for people to judge.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use xtask::test_program;

use crate::{
    artifacts,
    needs::Purpose,
    privilege::Privilege,
    setup,
    shell::{line, output, root, run, say, succeeds, work_dir},
};

/// Options of `cargo xtask bench`.
#[derive(Args)]
pub struct Options {
    /// Fewer rounds and shorter runs: for a look, not for a figure
    #[arg(long)]
    quick: bool,
    /// Only this group; can be given more than once [default: all]
    #[arg(long, value_name = "GROUP", value_parser = ["cost", "rate", "attach", "peers"])]
    only: Vec<String>,
    /// Print the tables in Markdown, as in docs/benchmarks.md
    #[arg(long)]
    markdown: bool,
    /// Measure nothing: print the results of the last run
    #[arg(long, conflicts_with_all = ["quick", "only"])]
    last: bool,
}

const TARGET_SOURCE: &str = "memtrace/benches/overhead/pairs.c";

/// Runs the task.
pub fn main(options: &Options) -> Result<()> {
    setup::install(&[Purpose::Bench])?;
    let results = work_dir("bench").join("results.json");
    let built = artifacts::build_bench()?;
    if !options.last {
        measure(options, &built, &results)?;
        say(format_args!("wrote {}", results.display()));
    }
    render(&built.overhead, &results, options.markdown)
}

fn measure(options: &Options, built: &artifacts::Bench, results: &Path) -> Result<()> {
    let directory = work_dir("bench");
    fs::create_dir_all(&directory)?;
    let pairs = directory.join("pairs");
    test_program::compile(&root().join(TARGET_SOURCE), &pairs)?;
    let python = python_with_numpy(&directory);
    let mut args = vec!["measure", "--memtrace", text(&built.memtrace)?, "--pairs", text(&pairs)?];
    if let Some(python) = &python {
        args.extend(["--python", text(python)?]);
    }
    args.extend(options.quick.then_some("--quick"));
    args.extend(options.only.iter().flat_map(|group| ["--only", group]));
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

/// The system's Python where it has numpy, else one of our own. `None`, after saying why, where
/// there is neither.
fn python_with_numpy(directory: &Path) -> Option<PathBuf> {
    let has_numpy = |python: &Path| succeeds(Command::new(python).args(["-c", "import numpy"]));
    let venv = directory.join("venv");
    let candidates = [PathBuf::from("/usr/bin/python3"), venv.join("bin/python3")];
    if let Some(python) = candidates.iter().find(|python| has_numpy(python)) {
        return Some(python.clone());
    }
    match install_numpy(&venv) {
        Ok(()) => candidates.into_iter().find(|python| has_numpy(python)),
        Err(error) => {
            say(format_args!("no numpy, so nothing is measured on Python: {error:#}"));
            None
        }
    }
}

fn install_numpy(venv: &Path) -> Result<()> {
    say(format_args!("installing numpy into {}, for a target in Python", venv.display()));
    output(Command::new("python3").args(["-m", "venv"]).arg(venv))?;
    output(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "numpy"])).map(drop)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
