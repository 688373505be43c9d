//! `memtrace run`.

mod when;

use std::{ffi::OsString, time::Duration};

use clap::Args;

use super::{
    TraceArgs,
    parse::{parse_duration, parse_need},
};
pub use when::WhenArgs;

const EXAMPLES: &str = "\
Examples:
  sudo memtrace run -- ./server --port 80       until it ends; then the report, on stderr
  sudo memtrace run --user app -d 1m -- ./job   for a minute; the job goes on
  sudo memtrace run --need 20GiB -- ./train     unless less memory is available
  sudo memtrace run --when 'rss>80%' -- ./job   captures only when memory runs short, as watch
  timeout 1h sudo memtrace run -- ./job         SIGTERM is handed on

Exit status: that of the command, 128 and the signal's number where a signal ended it; 127 it was
not found; 126 it cannot be executed; 2 memtrace could not do it: then it was not started (or, where
it ended with 0, a part of the result could not be written).";

/// `memtrace run`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// End the trace after this time (30s, 5m, 1h 30m; a bare number is seconds): the command goes on, and memtrace waits for its end. Without it: the command's end. With --when: how long a capture takes, 20s without it
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// Write the report to PREFIX.json, as one JSON document, and not to stderr
    #[arg(long)]
    pub json: bool,

    /// Do not start the command unless so much memory is available: to the machine, and below the limit of the control group
    #[arg(long, value_name = "SIZE", value_parser = parse_need)]
    pub need: Option<u64>,

    /// Run the command as this user (a name or a number), with their groups; without it, as memtrace's own: under sudo, root
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,

    /// Instead of tracing from the start, when to take captures
    #[command(flatten)]
    pub when: WhenArgs,

    /// How to trace
    #[command(flatten)]
    pub trace: TraceArgs,

    /// The command and its arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<OsString>,
}
