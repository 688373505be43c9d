//! `memtrace report`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use regex::Regex;

use super::{
    By, UnitsArg, ViewArg,
    parse::{parse_duration, parse_regex},
};

/// The heading of options that choose a part.
const PART: &str = "Which part";

/// `memtrace report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The capture: PREFIX.memtrace, as attach wrote it
    #[arg(value_name = "CAPTURE")]
    pub capture: PathBuf,

    /// What to make of it
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) format: ReportFormat,

    /// Short for --format json
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,

    /// Write to this file, or to stdout (-) [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Overwrite the file if it exists
    #[arg(long)]
    pub force: bool,

    /// What to weigh by
    #[arg(long, value_name = "VIEW", value_enum, default_value_t)]
    pub view: ViewArg,

    /// Take sites together by line, by function, by module (or Python package), or not at all: by stack
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    pub by: By,

    /// Turn stacks over: from the allocation functions to their callers (svg, folded)
    #[arg(long)]
    pub inverted: bool,

    /// Tell what each thread did at each site (text, json, pprof, otlp)
    #[arg(long)]
    pub by_thread: bool,

    /// Split stacks by process, where several were traced: by a frame at the root
    #[arg(long)]
    pub by_process: bool,

    /// What sizes are written in (text, svg)
    #[arg(long, value_name = "UNITS", value_enum, default_value_t)]
    pub units: UnitsArg,

    /// What `memtrace whatif --format json` measured of this capture: the best of it becomes a remedy
    #[arg(long, value_name = "FILE")]
    pub whatif: Option<PathBuf>,

    /// How many of these the text report shows
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,

    /// Leave out blocks younger than this at the end [default: as it was for attach]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = PART)]
    pub min_age: Option<Duration>,

    /// Only what was obtained after this time since the start of the window
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = PART)]
    pub since: Option<Duration>,

    /// Only what was obtained before this time since the start; what is live is what was live then
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = PART)]
    pub until: Option<Duration>,

    /// Only what this thread obtained, whoever freed it; can be given several times
    #[arg(long = "thread", value_name = "TID", help_heading = PART)]
    pub threads: Vec<u32>,

    /// Only this process, where several were traced: as if it had been traced alone
    #[arg(long, value_name = "PID", help_heading = PART)]
    pub process: Option<u32>,

    /// Only stacks of which a function, a module or a FILE:LINE matches
    #[arg(long, value_name = "REGEX", value_parser = parse_regex, help_heading = PART)]
    pub site: Option<Regex>,
}

impl ReportArgs {
    /// What to make of it.
    pub fn format(&self) -> ReportFormat {
        if self.json { ReportFormat::Json } else { self.format }
    }
}

/// What a report is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people, on a terminal.
    #[default]
    Text,
    /// One JSON document, docs/report-json.md.
    Json,
    /// One page with everything, for a browser.
    Html,
    /// A flamegraph.
    Svg,
    /// One line a stack, for flamegraph tools.
    Folded,
    /// Gzipped profile.proto, for pprof, Pyroscope, Parca, ...
    Pprof,
    /// OpenTelemetry's profiles.
    Otlp,
    /// For speedscope.app.
    Speedscope,
}
