//! The commands: each turns what was typed into calls of the library, and its outcome into an
//! exit status.

pub mod attach;
mod diff;
mod docs;
pub mod doctor;
pub mod inspect;
mod output;
mod progress;
pub mod push;
pub mod report;
mod run;
mod trace;
mod watch;
mod whatif;

use std::process::ExitCode;

use crate::cli::{Cli, Command};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Done,
    /// Interrupted before there was anything to report.
    Interrupted,
    /// Done, and it is more than the limit that was set.
    AboveLimit,
    /// What was waited for has happened.
    Fired,
    /// The command that was run ended with this status.
    Command(u8),
    /// The result is there, but a part of it could not be delivered; said on stderr.
    Incomplete,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        match status {
            Status::Done => Self::SUCCESS,
            Status::AboveLimit | Status::Fired => Self::from(1),
            Status::Command(code) => Self::from(code),
            Status::Incomplete => Self::from(2),
            Status::Interrupted => Self::from(130),
        }
    }
}

/// Runs a command line.
pub fn run(cli: Cli) -> ExitCode {
    init_log(cli.verbose, cli.quiet);
    let result = match &cli.command {
        Command::Attach(args) => attach::run(args, cli.verbose, cli.quiet),
        Command::Run(args) => run::run(args, cli.verbose, cli.quiet),
        Command::Watch(args) => watch::run(args, cli.quiet),
        Command::Report(args) => report::run(args, cli.quiet),
        Command::Push(args) => push::run(args, cli.quiet),
        Command::Diff(args) => diff::run(args, cli.quiet),
        Command::Inspect(args) => inspect::run(args, cli.quiet),
        Command::Doctor(args) => doctor::run(args),
        Command::Whatif(args) => whatif::run(args, cli.quiet),
        Command::Completions { shell } => docs::completions(*shell),
        Command::Man { command } => docs::man(command.as_deref()),
    };
    match result {
        Ok(status) => status.into(),
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::say(format_args!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn init_log(verbose: u8, quiet: bool) {
    let level = match (quiet, verbose) {
        (true, _) => log::LevelFilter::Error,
        (_, 0) => log::LevelFilter::Warn,
        (_, 1) => log::LevelFilter::Info,
        _ => log::LevelFilter::Debug,
    };
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Warn)
        .filter_module("memtrace", level)
        .filter_module("memtrace_ebpf", level)
        .format_timestamp(None)
        .format_target(false)
        .init();
}
