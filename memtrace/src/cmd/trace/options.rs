//! From what was typed to what a session is told.

use std::{env, num::NonZeroU32, time::Duration};

use memtrace_common::sample::Interval;

use super::super::output::say;
use crate::{
    cli::{By, GrowthByArg, PythonArg, TraceArgs},
    model::size::bytes,
    session::{Choice, GroupBy, GrowthBy, Limit, Options, PythonFrames, Room, Sampling, StackMode},
};

/// One of so many (as a power of two) bytes that come into use is a sample: one page of 128. What
/// 100 MiB came of is known to 14 %, and a sample costs as much as some pages.
const GROWTH_INTERVAL: u8 = 19;

/// What was typed, for the session. `duration` is when tracing ends.
pub fn options(
    args: &TraceArgs,
    pid: NonZeroU32,
    duration: Option<Duration>,
    verbose: u8,
) -> Options {
    Options {
        pid,
        more_pids: Vec::new(),
        follow_forks: args.follow_forks,
        from_start: false,
        duration,
        latest_end: None,
        ring_bytes: ring_bytes(args),
        room: Room::Ample,
        max_live: args.max_live,
        stacks: match args {
            TraceArgs { no_stacks: true, .. } => StackMode::Off,
            TraceArgs { frame_pointers: true, .. } => StackMode::FramePointers,
            _ => StackMode::Tables,
        },
        pymalloc: args.pymalloc,
        python: match args.python {
            PythonArg::Merged => PythonFrames::Merged,
            PythonArg::Only => PythonFrames::Only,
            PythonArg::None => PythonFrames::None,
        },
        debug_dirs: args.debug_dirs.clone(),
        allocator_symbols: args.allocator_symbols.clone(),
        debug_log: verbose >= 2,
        ignore_hazards: args.ignore_hazards,
        reset_peak: args.reset_peak,
        walk: !args.no_walk,
        growth: args.growth.then(|| Interval::from_exponent(GROWTH_INTERVAL)),
        growth_by: match args.growth_by {
            GrowthByArg::Auto => GrowthBy::Auto,
            GrowthByArg::Kernel => GrowthBy::Kernel,
            GrowthByArg::Program => GrowthBy::Program,
        },
        perf_event_links: args.perf_event_links,
        sampling: sampling(args),
        limit: Limit { max_overhead: args.max_overhead.0, choice: choice(args) },
        min_age_ns: args.min_age.as_nanos() as u64,
        command_line: command_line(),
    }
}

/// The interval is not always the one that was asked for.
pub fn say_interval(interval: Interval) {
    match interval {
        Interval::EXACT => say(format_args!("looking at every allocation")),
        interval => say(format_args!(
            "looking at one allocation for every {} allocated, on average",
            bytes(interval.mean_bytes())
        )),
    }
}

/// What was asked for stays; else all may be chosen.
fn choice(args: &TraceArgs) -> Choice {
    match (args.exact, args.sample_bytes) {
        (true, _) => Choice::Only(Interval::EXACT),
        (false, Some(interval)) => Choice::Only(interval),
        (false, None) => Choice::Any,
    }
}

/// Nothing is drawn until it is known how densely samples may be.
fn sampling(args: &TraceArgs) -> Sampling {
    match (args.max_overhead.0, args.sample_bytes) {
        (Some(_), _) => Sampling::Variable { interval: Interval::MAX, blocks: args.max_live },
        (None, None | Some(Interval::EXACT)) => Sampling::Exact,
        (None, Some(interval)) => Sampling::Variable { interval, blocks: args.max_live },
    }
}

/// memtrace's own memory takes twice this: the ring is mapped so that its end is followed by its
/// beginning.
fn ring_bytes(args: &TraceArgs) -> u32 {
    let is_of_everything = matches!(sampling(args), Sampling::Exact) && !args.growth;
    args.ring_size.unwrap_or(if is_of_everything { 16 << 20 } else { 8 << 20 })
}

fn command_line() -> Vec<String> {
    env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

pub fn group_by(by: By) -> GroupBy {
    match by {
        By::Line => GroupBy::Line,
        By::Function => GroupBy::Function,
        By::Module => GroupBy::Module,
        By::Stack => GroupBy::Stack,
    }
}
