//! `memtrace whatif`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{
    UnitsArg,
    parse::{parse_library, parse_limit},
};
use crate::whatif::variant::Variant;

const WHATIF_EXAMPLES: &str = "\
Examples:
  memtrace whatif app.memtrace
  memtrace whatif app.memtrace --with glibc,jemalloc,glibc:arena_max=2+trim=10s
  memtrace whatif app.memtrace --lib snmalloc=/opt/libsnmallocshim.so
  memtrace whatif app.memtrace --format svg -o whatif.svg
  memtrace whatif app.memtrace --format json -o whatif.json
  memtrace report app.memtrace --whatif whatif.json    with the remedy that was measured

The capture is one of `attach --exact --max-overhead none`: with every event. No rights are needed.";

/// `memtrace whatif`.
#[derive(Debug, Args)]
#[command(after_help = WHATIF_EXAMPLES)]
pub struct WhatIfArgs {
    /// The capture: PREFIX.memtrace, as `attach --exact --max-overhead none` wrote it
    #[arg(value_name = "CAPTURE")]
    pub capture: PathBuf,

    /// What to try: glibc, with settings (glibc:arena_max=2, mmap_threshold=SIZE, trim_threshold=SIZE,
    /// top_pad=SIZE, tcache=off, trim=TIME, hugetlb; several joined by +), jemalloc, tcmalloc, mimalloc or the name of
    /// a --lib; the first is what the others are compared with [default: glibc and all of these]
    #[arg(long, value_name = "VARIANT", value_delimiter = ',')]
    pub with: Vec<Variant>,

    /// Another allocator: a library that replaces malloc and kin; can be given more than once
    #[arg(long = "lib", value_name = "NAME=PATH", value_parser = parse_library)]
    pub libraries: Vec<(String, PathBuf)>,

    /// Stop a replay whose heap takes more than this [default: half of the memory that is available,
    /// shared by those that run at a time]
    #[arg(long, value_name = "SIZE", value_parser = parse_limit)]
    pub max_rss: Option<u64>,

    /// So many replays at a time [default: one for each two CPUs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=256))]
    pub jobs: Option<u64>,

    /// Of several processes that were traced, this one
    #[arg(long, value_name = "PID")]
    pub process: Option<u32>,

    /// What to make of it
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: WhatIfFormat,

    /// Short for --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,

    /// Write to this file, or to stdout (-) [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Overwrite the file if it exists
    #[arg(long)]
    pub force: bool,

    /// What sizes are written in (text)
    #[arg(long, value_name = "UNITS", value_enum, default_value_t)]
    pub units: UnitsArg,
}

impl WhatIfArgs {
    /// What to make of it.
    pub fn format(&self) -> WhatIfFormat {
        if self.json { WhatIfFormat::Json } else { self.format }
    }
}

/// What a what-if is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum WhatIfFormat {
    /// A table, for people.
    #[default]
    Text,
    /// One document, docs/whatif.md.
    Json,
    /// A chart of the heap over time.
    Svg,
}
