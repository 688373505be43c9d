//! memtrace: where did the memory go, and which line holds it?

use std::process::ExitCode;

use clap::Parser as _;
use memtrace::{cli::Cli, cmd, replay};

fn main() -> ExitCode {
    replay::replay_if_asked();
    cmd::run(Cli::parse())
}
