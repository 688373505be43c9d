//! What `attach` and `run` have in common: how to trace, and where the result goes.

use std::{path::PathBuf, time::Duration};

use clap::{
    Args, ValueEnum,
    builder::{PathBufValueParser, TypedValueParser as _},
};
use memtrace_common::sample::Interval;

use super::{
    By, LIMITS,
    parse::{
        check_prefix, parse_duration, parse_max_live, parse_max_overhead, parse_max_size,
        parse_names, parse_ring_size, parse_sample_bytes,
    },
};
use crate::allocator::GivenNames;

/// How to trace.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// Trace their children, too: those that are there and those that come, at most 32 processes at a time
    #[arg(long)]
    pub follow_forks: bool,

    /// Split stacks by process, where several were traced: in the text, and in pictures by a frame at the root
    #[arg(long)]
    pub by_process: bool,

    /// Write PREFIX.memtrace (the capture, for `memtrace report`), PREFIX.svg and PREFIX-timeline.svg, with --growth also PREFIX-resident.svg [default: memtrace-COMMAND-PID-TIME in the current directory]
    #[arg(short, long, value_name = "PREFIX", value_parser = PathBufValueParser::new().try_map(check_prefix))]
    pub output: Option<PathBuf>,

    /// Overwrite files that exist
    #[arg(long)]
    pub force: bool,

    /// Leave out blocks younger than this at the end: they may just be in use
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "0s")]
    pub min_age: Duration,

    /// Take together what was never freed by line, by function, by module (or Python package), or not at all: by stack
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    pub by: By,

    /// Python frames in the places of the interpreter's (merged), without native ones (only), or none
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    pub python: PythonArg,

    /// Trace Python's own allocator, too (PyMem_* and PyObject_*): every small object is seen, at 1 to 5 us a call; Python makes millions of them a second
    #[arg(long, help_heading = LIMITS)]
    pub pymalloc: bool,

    /// Follow what makes the process grow, and not what it allocates: mmap, brk, mprotect and first uses of pages. Next to no cost, for every allocator, but who holds the memory is not seen
    #[arg(long, conflicts_with_all = ["pymalloc", "max_live"])]
    pub growth: bool,

    /// Where --growth sees system calls: in the kernel, or in the program at the instructions by which it makes them; auto: at functions of the kernel if that is possible, else in the program
    #[arg(long, value_name = "HOW", value_enum, default_value_t, requires = "growth")]
    pub growth_by: GrowthByArg,

    /// How many of these the text report shows
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,

    /// Buffer between kernel and memtrace (64KiB to 1GiB, rounded up to a power of two) [default:
    /// 16MiB for every event at whatever cost, else 8MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_ring_size, help_heading = LIMITS)]
    pub ring_size: Option<u32>,

    /// Most live blocks that are followed at once; 1 million takes about 40 MB
    #[arg(long, value_name = "N", default_value_t = 3_500_000, value_parser = parse_max_live, help_heading = LIMITS)]
    pub max_live: usize,

    /// Look at one allocation for every SIZE allocated, on average: large ones always, small ones
    /// seldom, which makes tracing cheap; sums are estimates (rounded to a power of two)
    #[arg(long, value_name = "SIZE", value_parser = parse_sample_bytes, conflicts_with = "exact", help_heading = LIMITS)]
    pub sample_bytes: Option<Interval>,

    /// Look at every allocation
    #[arg(long, help_heading = LIMITS)]
    pub exact: bool,

    /// By how much the process may become slower: first fewer stacks are walked (of samples only),
    /// then samples become rarer, then the probes are there only part of the time, at last not at
    /// all; with --exact or --sample-bytes only when they are there is chosen. `none`: by as much as
    /// it takes
    #[arg(
        long,
        value_name = "SHARE",
        value_parser = parse_max_overhead,
        default_value = "10%",
        help_heading = LIMITS
    )]
    pub max_overhead: MaxOverhead,

    /// Do not walk stacks: a little cheaper, but sites cannot be told apart
    #[arg(long, help_heading = LIMITS)]
    pub no_stacks: bool,

    /// Walk stacks by frame pointers only: less memory, and incomplete in code that has none
    #[arg(long, conflicts_with = "no_stacks")]
    pub frame_pointers: bool,

    /// Trace an allocator by its functions' names: those of malloc and kin with a prefix, in the
    /// objects whose names begin with LIB (all, without it); can be given more than once
    #[arg(long = "allocator-symbols", value_name = "prefix=PREFIX[,lib=LIB]", value_parser = parse_names)]
    pub allocator_symbols: Vec<GivenNames>,

    /// Look for debug files here, too (.build-id/xx/yyyy.debug, or the names of debug links)
    #[arg(long = "debug-dir", value_name = "DIR")]
    pub debug_dirs: Vec<PathBuf>,

    /// Attach even on a kernel where tracing is known to hurt this process
    #[arg(long, help_heading = LIMITS)]
    pub ignore_hazards: bool,

    /// Make the kernel forget the process's peak of RSS (VmHWM) at the start: then the peak of the
    /// window is exact; who else reads VmHWM sees the same
    #[arg(long)]
    pub reset_peak: bool,

    /// Keep every event in the capture (on), which filters by time and thread need, or sums only (off)
    #[arg(long, value_name = "WHETHER", value_enum, default_value_t, help_heading = LIMITS)]
    pub events: Events,

    /// From this size of the capture on events are left out of it; what the report says does not
    /// change
    #[arg(
        long,
        value_name = "SIZE",
        value_parser = parse_max_size,
        default_value = "1GiB",
        help_heading = LIMITS
    )]
    pub max_size: u64,

    /// Do not walk the heap: no table of what RSS is made of, and survivors are not looked for in
    /// it
    #[arg(long, help_heading = LIMITS)]
    pub no_walk: bool,

    /// Use one perf event per probe, as kernels before 6.10 need it: slower to attach and detach
    #[arg(long, hide = true)]
    pub perf_event_links: bool,
}

/// By how much a trace may slow its target down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxOverhead(
    /// 0.1 for a tenth; `None` without a limit.
    pub Option<f64>,
);

/// Whether a capture has the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Events {
    /// All, as far as there is room.
    #[default]
    On,
    /// None.
    Off,
}

/// By what growth is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum GrowthByArg {
    /// At functions of the kernel, else in the program, else at tracepoints.
    #[default]
    Auto,
    /// Its functions, or the tracepoints of all system calls.
    Kernel,
    /// Where its code makes system calls.
    Program,
}

/// How Python's frames are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PythonArg {
    /// In the places of the interpreter's frames.
    #[default]
    Merged,
    /// Without native ones.
    Only,
    /// Not at all.
    None,
}
