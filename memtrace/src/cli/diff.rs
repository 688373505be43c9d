//! `memtrace diff`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{
    By, UnitsArg, ViewArg,
    parse::{parse_duration, parse_limit},
};

const DIFF_EXAMPLES: &str = "\
Examples:
  memtrace diff before.memtrace after.memtrace
  memtrace diff before.memtrace after.memtrace --format html -o growth.html
  memtrace diff main.memtrace branch.memtrace --view allocated --by function
  memtrace diff main.memtrace branch.memtrace -q -o - --fail-above 10MiB    in CI

Exit status: 0 done; 1 it grew by more than --fail-above; 2 bad usage or it could not be done.";

/// `memtrace diff`.
#[derive(Debug, Args)]
#[command(after_help = DIFF_EXAMPLES)]
pub struct DiffArgs {
    /// The capture to compare with: PREFIX.memtrace, as attach wrote it
    #[arg(value_name = "BEFORE")]
    pub before: PathBuf,

    /// The capture that is compared: of the same program, in another process or build
    #[arg(value_name = "AFTER")]
    pub after: PathBuf,

    /// What to make of it
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: DiffFormat,

    /// Short for --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,

    /// Write to this file, or to stdout (-) [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Overwrite the file if it exists
    #[arg(long)]
    pub force: bool,

    /// What to weigh by
    #[arg(long, value_name = "VIEW", value_enum, default_value_t)]
    pub view: ViewArg,

    /// Take stacks together by line, by function, by module (or Python package), or not at all: by stack
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    pub by: By,

    /// Two lines of a function are two places: for two runs of the same build
    #[arg(long)]
    pub lines: bool,

    /// Leave out blocks younger than this at the end [default: as it was for attach]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub min_age: Option<Duration>,

    /// What sizes are written in (text, svg, html)
    #[arg(long, value_name = "UNITS", value_enum, default_value_t)]
    pub units: UnitsArg,

    /// How many of what grew, and of what shrank, the text shows
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,

    /// Exit with status 1 when all together grew by more than this (10MiB; 0 for any growth)
    #[arg(long, value_name = "SIZE", value_parser = parse_limit)]
    pub fail_above: Option<u64>,
}

impl DiffArgs {
    /// What to make of it.
    pub fn format(&self) -> DiffFormat {
        if self.json { DiffFormat::Json } else { self.format }
    }
}

/// What a difference is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// For people.
    #[default]
    Text,
    /// One document, for programs.
    Json,
    /// One page for a browser, with the flamegraph.
    Html,
    /// A flamegraph: red grew, blue shrank.
    Svg,
    /// Stacks with two columns, for flamegraph tools.
    Folded,
}
