//! memtrace: where did the memory go, and which line holds it?

use std::process::ExitCode;

use clap::Parser as _;
use memtrace::{cli::Cli, cmd};

fn main() -> ExitCode {
    cmd::run(Cli::parse())
}
