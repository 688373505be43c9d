//! `memtrace attach`.

use std::time::Duration;

use clap::Args;

use super::{TraceArgs, parse::parse_duration};

/// `memtrace attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// The process to trace; several (-p 1 -p 2, or -p 1,2) go into one capture
    #[arg(
        short = 'p',
        long = "pid",
        value_name = "PID",
        required = true,
        value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=0x7fff_ffff)
    )]
    pub pids: Vec<u32>,

    /// End after this time (30s, 5m, 1h 30m; a bare number is seconds); without it: on Ctrl-C, SIGTERM or the process's end
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// Print the report as one JSON document
    #[arg(long)]
    pub json: bool,

    /// How to trace
    #[command(flatten)]
    pub trace: TraceArgs,
}
