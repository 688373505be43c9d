//! What can be typed, a file a command. What it does is in `cmd`.

mod attach;
mod diff;
mod doctor;
mod inspect;
mod parse;
mod push;
mod report;
mod run;
mod trace;
mod views;
mod watch;
mod whatif;

use clap::{ArgAction, Parser, Subcommand};

pub use self::{
    attach::AttachArgs,
    diff::{DiffArgs, DiffFormat},
    doctor::DoctorArgs,
    inspect::InspectArgs,
    push::{PushArgs, PushFormat},
    report::{ReportArgs, ReportFormat},
    run::RunArgs,
    trace::{Events, GrowthByArg, MaxOverhead, PythonArg, TraceArgs},
    views::{By, UnitsArg, ViewArg},
    watch::WatchArgs,
    whatif::{WhatIfArgs, WhatIfFormat},
};

const ABOUT: &str = "Where did the memory go, and which line of code holds it?";

const LONG_ABOUT: &str = "\
Where did the memory go, and which line of code holds it?

memtrace watches the allocator of a running process from the kernel: it does not stop the process,
inject code into it or need it to be restarted, and leaves nothing behind.";

const EXAMPLES: &str = "\
Examples:
  sudo memtrace attach -p 4242             until Ctrl-C; then the report
  sudo memtrace attach -p 4242 -d 30s      for 30 seconds
  sudo memtrace attach -p 4242 -d 5m --min-age 1m --json > report.json
  sudo memtrace run -- ./app --port 80      from its first allocation to its end
  memtrace report app.memtrace --view peak  what attach wrote, looked at in another way
  memtrace diff before.memtrace after.memtrace --fail-above 10MiB
                                           what grew between two captures; 1 if by more than that
  memtrace push app.memtrace --to http://pyroscope:4040
                                           its profile, to where profiles are kept
  memtrace whatif app.memtrace              what jemalloc, fewer arenas, ... would have made of it
  memtrace inspect -p 4242                  what its memory is now, by what it is for
  sudo memtrace watch --unit app --when 'rss>80%'
                                           a capture by itself, before memory has run out
  sudo memtrace doctor -p 4242              what would be seen of it, before anything is traced

Exit status: 0 done; 1 diff: more growth than --fail-above, watch --once: it fired; 2 bad usage or
it could not be done; 130 interrupted before anything was seen; run: that of the command.";

/// The heading of options that few need.
const LIMITS: &str = "Limits and cost";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "memtrace",
    version,
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_help = EXAMPLES,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// Say more on stderr: -v what is done, -vv also debug messages from the kernel side
    #[arg(short, long, action = ArgAction::Count, global = true, display_order = 100)]
    pub verbose: u8,

    /// Say nothing on stderr but errors
    #[arg(short, long, global = true, conflicts_with = "verbose", display_order = 101)]
    pub quiet: bool,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Trace the allocations of a running process; report what is never freed
    Attach(AttachArgs),
    /// Start a command and trace it from its first allocation on
    Run(RunArgs),
    /// Wait until memory runs short or a process is killed for it, and take a capture by itself
    Watch(WatchArgs),
    /// Show a capture that attach wrote: as text, a picture, a page, or for other tools
    Report(ReportArgs),
    /// Send a capture's profile to Pyroscope or an OpenTelemetry collector
    Push(PushArgs),
    /// Compare two captures: what grew, and where
    Diff(DiffArgs),
    /// Say what a process's memory is: in use, free but held, files, ...; nothing is traced
    Inspect(InspectArgs),
    /// Say what can be traced of a process, what a result would lack and how to get it
    Doctor(DoctorArgs),
    /// Say what another allocator or setting would have made of the same calls: replays a capture
    Whatif(WhatIfArgs),
    /// Print shell completions
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Print the man page of memtrace, or of one command
    Man {
        /// The command, e.g. `attach`
        command: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sampling_and_exactness_exclude_each_other() {
        let attach = ["memtrace", "attach", "-p", "1", "--sample-bytes", "4KiB"];
        assert!(Cli::try_parse_from(attach).is_ok());
        assert!(Cli::try_parse_from(attach.into_iter().chain(["--exact"])).is_err());
    }
}
