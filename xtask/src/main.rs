//! memtrace's own build, test, demo and benchmark commands: `cargo xtask help`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod apt;
mod artifacts;
mod bench;
mod bench_docs;
mod bench_targets;
mod bpf_toolchain;
mod build_ebpf;
mod demo;
mod foreign;
mod needs;
mod privilege;
mod programs;
mod second_chance;
mod setup;
mod shell;
mod strip;
mod test;
mod vm;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about, disable_help_subcommand = false)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Trace two bundled programs that leak, and show what memtrace says
    Demo(demo::Options),
    /// Install what the other tasks need, after saying what
    Setup(setup::Options),
    /// Build the BPF object from source, or check that it is up to date
    BuildEbpf(build_ebpf::Options),
    /// Run the tests
    Test(test::Options),
    /// Measure the overhead, the losses, and how long attach and detach take
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Demo(options) => demo::main(&options),
        Task::Setup(options) => setup::main(&options),
        Task::BuildEbpf(options) => build_ebpf::main(&options),
        Task::Test(options) => test::main(&options),
        Task::Bench(options) => bench::main(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            // 2: something must be provided first. 1: it was tried and failed.
            ExitCode::from(if error.is::<privilege::Unmet>() { 2 } else { 1 })
        }
    }
}
