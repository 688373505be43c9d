//! `memtrace run --when`: captures as those of `watch`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::RunArgs;
use crate::{
    cli::{
        WatchArgs,
        parse::{parse_duration, parse_max_size},
    },
    trigger::Condition,
};

/// The heading of these options.
const CAPTURES: &str = "Captures of a command that is watched";

/// What `watch` takes by default.
const DURATION: Duration = Duration::from_secs(20);
/// Nobody asks for the state of a command: it is told this seldom.
const STATUS_EVERY: Duration = Duration::from_secs(60);

/// When to take captures, and what becomes of them.
#[derive(Debug, Args)]
pub struct WhenArgs {
    /// Watch the command, and trace it only when this is met, for -d; several: any of them. -o is the
    /// directory of captures then. The conditions are those of `watch`
    #[arg(long = "when", value_name = "CONDITION", help_heading = CAPTURES, conflicts_with_all = [
        "json", "follow_forks", "by_process", "force", "min_age", "by", "python", "pymalloc", "top",
        "ring_size", "max_live", "sample_bytes", "exact", "no_stacks", "frame_pointers",
        "allocator_symbols", "debug_dirs", "ignore_hazards", "reset_peak", "events", "max_size",
        "no_walk",
    ])]
    pub conditions: Vec<Condition>,

    /// Nothing fires for so long after a capture
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "5m", help_heading = CAPTURES, requires = "conditions")]
    pub cool_down: Duration,

    /// Keep the latest so many captures
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..), help_heading = CAPTURES, requires = "conditions")]
    pub keep: u16,

    /// What all captures may take together; the oldest go first
    #[arg(long, value_name = "SIZE", value_parser = parse_max_size, default_value = "1GiB", help_heading = CAPTURES, requires = "conditions")]
    pub max_disk: u64,

    /// Run a command in a shell after each capture, as `watch --exec`
    #[arg(long, value_name = "COMMAND", help_heading = CAPTURES, requires = "conditions")]
    pub exec: Option<String>,
}

impl RunArgs {
    /// The watch that was asked for, of a process that is not known yet; `None` where the command is to
    /// be traced from its start.
    pub fn watch(&self) -> Option<WatchArgs> {
        let when = &self.when;
        (!when.conditions.is_empty()).then(|| WatchArgs {
            pid: None,
            cgroup: None,
            unit: None,
            container: None,
            pod: None,
            comm: None,
            conditions: when.conditions.clone(),
            follow: false,
            duration: self.duration.unwrap_or(DURATION),
            cool_down: when.cool_down,
            once: false,
            output: self.trace.output.clone().unwrap_or_else(|| PathBuf::from(".")),
            keep: when.keep,
            max_disk: when.max_disk,
            exec: when.exec.clone(),
            max_overhead: self.trace.max_overhead,
            growth: self.trace.growth,
            every: STATUS_EVERY,
            metrics: None,
            json: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::{Cli, Command};

    fn parse(words: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(words.split(' '))
    }

    fn watched(words: &str) -> Option<super::WatchArgs> {
        let Command::Run(args) = parse(words).unwrap().command else { panic!("{words}") };
        args.watch()
    }

    #[test]
    fn a_command_is_watched_where_there_is_a_condition() {
        assert!(watched("memtrace run -- job").is_none());
        let watch =
            watched("memtrace run --when rss>1GiB --when psi>20 -d 3s -o /tmp -- job").unwrap();
        assert_eq!((watch.conditions.len(), watch.duration.as_secs()), (2, 3));
        assert_eq!((watch.output.to_str(), watch.keep), (Some("/tmp"), 10));
        assert_eq!(watched("memtrace run --when psi>20 -- job").unwrap().duration, super::DURATION);
    }

    #[test]
    fn what_would_do_nothing_is_refused() {
        for words in
            ["--keep 3 -- job", "--when psi>20 --exact -- job", "--when psi>20 --json -- job"]
        {
            assert!(parse(&format!("memtrace run {words}")).is_err(), "{words}");
        }
    }
}
