//! What can be typed. What it does is in `cmd`.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use memtrace_common::sample::Interval;
use regex::Regex;

use crate::allocator::GivenNames;

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
  memtrace report app.memtrace --view peak  what attach wrote, looked at in another way
  memtrace diff before.memtrace after.memtrace --fail-above 10MiB
                                           what grew between two captures; 1 if by more than that
  memtrace inspect -p 4242                  what its memory is now, by what it is for
  sudo memtrace doctor -p 4242              what would be seen of it, before anything is traced

Exit status: 0 done; 1 diff: more growth than --fail-above; 2 bad usage or it could not be
done; 130 interrupted before anything was seen.";

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
    /// Show a capture that attach wrote: as text, a picture, a page, or for other tools
    Report(ReportArgs),
    /// Compare two captures: what grew, and where
    Diff(DiffArgs),
    /// Say what a process's memory is: in use, free but held, files, ...; nothing is traced
    Inspect(InspectArgs),
    /// Say what can be traced of a process, what a result would lack and how to get it
    Doctor(DoctorArgs),
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

    /// Trace their children, too: those that are there and those that come, at most 32 processes at a time
    #[arg(long)]
    pub follow_forks: bool,

    /// Split stacks by process, where several were traced: in the text, and in pictures by a frame at the root
    #[arg(long)]
    pub by_process: bool,

    /// End after this time (30s, 5m, 1h 30m; a bare number is seconds); without it: on Ctrl-C, SIGTERM or the process's end
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// Write PREFIX.memtrace (the capture, for `memtrace report`), PREFIX.svg and PREFIX-timeline.svg, with --growth also PREFIX-resident.svg [default: memtrace-COMMAND-PID-TIME in the current directory]
    #[arg(short, long, value_name = "PREFIX")]
    pub output: Option<PathBuf>,

    /// Overwrite files that exist
    #[arg(long)]
    pub force: bool,

    /// Leave out blocks younger than this at the end: they may just be in use
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "0s")]
    pub min_age: Duration,

    /// Print the report as one JSON document
    #[arg(long)]
    pub json: bool,

    /// Take together what was never freed by line, by function, by module (or Python package), or not at all: by stack
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    pub by: By,

    /// Python frames in the places of the interpreter's (merged), without native ones (only), or none
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    pub python: PythonArg,

    /// Trace Python's own allocator, too (PyMem_* and PyObject_*): every small object is seen, at 1 to 5 us a call; Python makes millions of them a second
    #[arg(long, help_heading = LIMITS)]
    pub pymalloc: bool,

    /// Follow what makes the process grow, and not what it allocates: mmap, brk, mprotect and first uses of pages, in the kernel. Next to no cost, for every allocator, but who holds the memory is not seen
    #[arg(long, conflicts_with_all = ["pymalloc", "max_live", "perf_event_links"])]
    pub growth: bool,

    /// How many of these the text report shows
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,

    /// Buffer between kernel and memtrace (64KiB to 1GiB, rounded up to a power of two)
    #[arg(
        long,
        value_name = "SIZE",
        value_parser = parse_ring_size,
        default_value = "16MiB",
        help_heading = LIMITS
    )]
    pub ring_size: u32,

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

/// What never-freed blocks are taken together by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// The line to look at first.
    #[default]
    Line,
    /// The function.
    Function,
    /// The object, or Python package or file.
    Module,
    /// The whole stack.
    Stack,
}

/// Whether a capture has the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Events {
    /// All, as far as there is room.
    #[default]
    On,
    /// None.
    Off,
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
    pub format: ReportFormat,

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

/// What sites are weighed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ViewArg {
    /// Live at the end, and old enough.
    #[default]
    NeverFreed,
    /// Live at the end, of any age.
    Live,
    /// Allocated, freed or not.
    Allocated,
    /// Allocated and freed.
    Freed,
    /// Live when all together had the most.
    Peak,
    /// Freed by the thread that allocated it, before it allocated anything else.
    Temporary,
    /// Of attach --growth: address space that was not given back.
    Grown,
    /// Of attach --growth: pages in use, estimated.
    ResidentGrown,
}

/// What sizes are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum UnitsArg {
    /// Each in the unit that fits it.
    #[default]
    Auto,
    /// Exactly.
    Bytes,
    /// 2^10 bytes.
    #[value(name = "KiB", alias = "kib")]
    KiB,
    /// 2^20 bytes.
    #[value(name = "MiB", alias = "mib")]
    MiB,
    /// 2^30 bytes.
    #[value(name = "GiB", alias = "gib")]
    GiB,
}

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
    pub format: DiffFormat,

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

/// `memtrace inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The process to look at; it is not stopped, and no probe is armed
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=0x7fff_ffff))]
    pub pid: u32,

    /// Show each arena of glibc: its threads, and what it holds
    #[arg(long, conflicts_with = "every")]
    pub arenas: bool,

    /// Look again and again, a line each time; less often where looking would take more than 1 % of a CPU
    #[arg(long, value_name = "TIME", value_parser = parse_interval)]
    pub every: Option<Duration>,

    /// End after this time (30s, 5m, 1h 30m; a bare number is seconds); without it: on Ctrl-C, SIGTERM or the process's end
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration, requires = "every")]
    pub duration: Option<Duration>,

    /// End after so many looks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), requires = "every")]
    pub count: Option<u64>,

    /// Print one JSON document; with --every one on each line
    #[arg(long)]
    pub json: bool,
}

/// `memtrace doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The process to look at; without it, only what this machine allows. No probe is armed
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=0x7fff_ffff))]
    pub pid: Option<u32>,

    /// Print one JSON document
    #[arg(long)]
    pub json: bool,

    /// Trace an allocator by its functions' names: those of malloc and kin with a prefix, in the
    /// objects whose names begin with LIB (all, without it); can be given more than once
    #[arg(long = "allocator-symbols", value_name = "prefix=PREFIX[,lib=LIB]", value_parser = parse_names)]
    pub allocator_symbols: Vec<GivenNames>,

    /// Look for debug files here, too (.build-id/xx/yyyy.debug, or the names of debug links)
    #[arg(long = "debug-dir", value_name = "DIR")]
    pub debug_dirs: Vec<PathBuf>,
}

/// `prefix=_rjem_,lib=libpolars`
fn parse_names(text: &str) -> Result<GivenNames, String> {
    let (mut prefix, mut library) = (None, None);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("prefix", value)) if !value.is_empty() => prefix = Some(value.to_owned()),
            Some(("lib", value)) if !value.is_empty() => library = Some(value.to_owned()),
            _ => return Err(format!("`{part}` is neither prefix=PREFIX nor lib=LIB")),
        }
    }
    let prefix = prefix.ok_or("what the names begin with is missing: prefix=PREFIX")?;
    Ok(GivenNames { prefix, library })
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    // As for sleep(1) and timeout(1).
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text).map_err(|_| "write a time like 30s, 5m or 1h 30m".to_owned())
}

fn parse_regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| error.to_string())
}

/// An interval: not nothing.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval.is_zero() {
        return Err("a time longer than 0 is needed".to_owned());
    }
    Ok(interval)
}

fn parse_limit(text: &str) -> Result<u64, String> {
    parse_size::parse_size(text).map_err(|_| "write a size like 64KiB or 10MiB".to_owned())
}

fn parse_max_live(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(value @ 1_000..=100_000_000) => Ok(value),
        _ => Err("a number from 1000 to 100000000 is needed".to_owned()),
    }
}

fn parse_max_size(text: &str) -> Result<u64, String> {
    parse_size::parse_size(text).map_err(|_| "write a size like 64MiB or 2GiB".to_owned())
}

fn parse_max_overhead(text: &str) -> Result<MaxOverhead, String> {
    if text == "none" {
        return Ok(MaxOverhead(None));
    }
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match percent {
        Some(percent) if percent > 0.0 && percent.is_finite() => {
            Ok(MaxOverhead(Some(percent / 100.0)))
        }
        _ => Err("write a percentage like 5% or 0.5%, or none".to_owned()),
    }
}

/// The nearest interval that there is; 1 is every allocation.
fn parse_sample_bytes(text: &str) -> Result<Interval, String> {
    let bytes = parse_size::parse_size(text)
        .map_err(|_| "write a size like 64KiB, 512KiB or 4MiB".to_owned())?;
    if !(1..=Interval::MAX.mean_bytes()).contains(&bytes) {
        return Err("a size from 1 (every allocation) to 1TiB is needed".to_owned());
    }
    Ok(Interval::nearest(bytes))
}

/// A size as the kernel wants it for a ring: a power of two, and whole pages.
fn parse_ring_size(text: &str) -> Result<u32, String> {
    let limits = crate::probe::load::RING_BYTES;
    let bytes = parse_size::parse_size(text)
        .map_err(|error| format!("{error}; write it like 64KiB, 16MiB or 1GiB"))?;
    let rounded = bytes.checked_next_power_of_two().filter(|bytes| limits.contains(bytes));
    rounded
        .and_then(|bytes| u32::try_from(bytes).ok())
        .ok_or_else(|| "a size from 64KiB to 1GiB is needed".to_owned())
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
    fn ring_sizes_are_rounded_up_to_powers_of_two_within_limits() {
        assert_eq!(parse_ring_size("64KiB"), Ok(64 << 10));
        assert_eq!(parse_ring_size("5MiB"), Ok(8 << 20));
        assert_eq!(parse_ring_size("65536"), Ok(64 << 10));
        for wrong in ["0", "1KiB", "32GiB", "many", "18446744073709551615"] {
            assert!(parse_ring_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_limit_of_the_overhead_is_a_percentage_or_none() {
        assert_eq!(parse_max_overhead("5%"), Ok(MaxOverhead(Some(0.05))));
        assert_eq!(parse_max_overhead("none"), Ok(MaxOverhead(None)));
        for wrong in ["5", "0%", "-1%", "%", "much", "inf%"] {
            assert!(parse_max_overhead(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn allocators_are_named_by_a_prefix_and_perhaps_a_library() {
        let names = |prefix: &str, library: Option<&str>| GivenNames {
            prefix: prefix.to_owned(),
            library: library.map(str::to_owned),
        };
        let both = "prefix=_rjem_,lib=libpolars";
        assert_eq!(parse_names(both), Ok(names("_rjem_", Some("libpolars"))));
        assert_eq!(parse_names("prefix=sn_"), Ok(names("sn_", None)));
        for wrong in ["", "lib=libc", "prefix=", "_rjem_", "prefix=a,path=b"] {
            assert!(parse_names(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_of_samples_are_rounded_to_the_nearest_power_of_two() {
        let bytes = |text| parse_sample_bytes(text).map(Interval::mean_bytes);
        assert_eq!(bytes("500KB"), Ok(512 << 10));
        assert_eq!(bytes("524288"), Ok(512 << 10));
        assert_eq!(bytes("1"), Ok(1));
        for wrong in ["0", "2TiB", "few", "-1"] {
            assert!(parse_sample_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sampling_and_exactness_exclude_each_other() {
        let attach = ["memtrace", "attach", "-p", "1", "--sample-bytes", "4KiB"];
        assert!(Cli::try_parse_from(attach).is_ok());
        assert!(Cli::try_parse_from(attach.into_iter().chain(["--exact"])).is_err());
    }

    #[test]
    fn durations_are_words_of_time_or_seconds() {
        assert_eq!(parse_duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert!(parse_interval("0s").is_err());
        assert!(parse_duration("soon").unwrap_err().contains("30s"));
    }
}
