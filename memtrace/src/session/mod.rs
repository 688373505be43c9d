//! One trace from attach to result: arms the probes, feeds the ledger, and ends for one of the
//! reasons in [`EndReason`]. It writes nothing; `cmd` decides what becomes of the result.

mod attach;
mod code;
mod compile;
mod contents;
mod counting;
mod escort;
mod examine;
mod follow;
mod forecast;
mod gather;
mod governing;
mod growth;
mod header;
mod inspect;
mod memory;
mod outcome;
mod prepare;
mod prices;
mod python;
mod recorder;
mod run;
mod steps;
mod stop;
mod traced;
mod walker;
mod walks;
pub mod watch;
mod window;

use std::{
    num::NonZeroU32,
    path::PathBuf,
    time::{Duration, Instant},
};

pub use memtrace_common::{config::StackMode, sample::Interval};

pub use crate::{
    allocator::GivenNames,
    budget::Choice,
    model::footprint::GrowthBy,
    probe::load::{Room, Sampling},
    report::GroupBy,
    symbolize::PythonFrames,
};
pub use attach::AttachError;
pub use examine::{Examination, ExamineOptions, examine};
pub use governing::Limit;
pub use inspect::{
    Between, InspectError, Inspector, SeriesEnd, SeriesObserver, SeriesOptions, series,
};
pub use outcome::Outcome;
pub use prepare::Prepared;
pub use recorder::{Recorder, Sink};
pub use run::{trace, trace_command, trace_until};
pub use stop::Stop;
pub use window::Ending;

use crate::{budget::Change, model::cost::Cost, report::EndReason};

/// What to trace and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The target.
    pub pid: NonZeroU32,
    /// More of them, in the same capture.
    pub more_pids: Vec<NonZeroU32>,
    /// Trace the children of all of them, too: those that are there and those that come.
    pub follow_forks: bool,
    /// The target is held where it has not allocated anything yet, and let go when the window is open.
    pub from_start: bool,
    /// End after this time.
    pub duration: Option<Duration>,
    /// End now, however short the window was: attaching may have taken long.
    pub latest_end: Option<Instant>,
    /// Size of the ring buffer, a power of two.
    pub ring_bytes: u32,
    /// How much memory of the kernel's it may take besides.
    pub room: Room,
    /// Most live blocks to follow.
    pub max_live: usize,
    /// How stacks are walked.
    pub stacks: StackMode,
    /// Trace CPython's own allocator, too.
    pub pymalloc: bool,
    /// How Python's frames are shown.
    pub python: PythonFrames,
    /// Where else debug files are.
    pub debug_dirs: Vec<PathBuf>,
    /// Names of allocators that are not known.
    pub allocator_symbols: Vec<GivenNames>,
    /// Forward the BPF side's debug messages.
    pub debug_log: bool,
    /// Attach even where that is known to hurt the target.
    pub ignore_hazards: bool,
    /// Make the kernel forget the target's peak of RSS at the start.
    pub reset_peak: bool,
    /// Walk the target's heap, too.
    pub walk: bool,
    /// Which allocations are looked at.
    pub sampling: Sampling,
    /// What the trace may cost the target, and how closely it may look for that.
    pub limit: Limit,
    /// Follow what grows instead of calls of allocators; pages are sampled at this interval.
    pub growth: Option<Interval>,
    /// By what that is to be seen.
    pub growth_by: GrowthBy,
    /// Do without multi-uprobe links.
    pub perf_event_links: bool,
    /// Blocks younger than this at the end are no survivors.
    pub min_age_ns: u64,
    /// What was typed.
    pub command_line: Vec<String>,
}

impl Options {
    /// Whether walks are to tell where every block lies: only allocations are set against that.
    fn wants_layouts(&self) -> bool {
        self.growth.is_none()
    }

    /// Whether there may be more than one process.
    fn is_of_several(&self) -> bool {
        self.follow_forks || !self.more_pids.is_empty()
    }
}

/// Tells how the trace goes; progress on a terminal, silence elsewhere.
pub trait Observer {
    /// What the trace is likely to cost, before the window opens.
    fn expected(&mut self, cost: &Cost);
    /// The target is looked at more or less closely from now on.
    fn changed(&mut self, change: &Change);
    /// All probes are armed and the window is open.
    fn tracing(&mut self, target: &str, probes: usize, attach_ns: u64);
    /// A child is traced from here on, so long after its fork, where that was seen.
    fn followed(&mut self, target: &str, since_fork_ns: Option<u64>);
    /// About once a second.
    fn sample(&mut self, sample: &Sample);
    /// The window is closed; what follows may take a moment.
    fn ended(&mut self, reason: EndReason);
    /// Stacks are being named.
    fn naming(&mut self, stacks: usize);
}

/// The state of a running trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Since the window was opened.
    pub elapsed_ns: u64,
    /// Events received so far.
    pub events: u64,
    /// Events lost so far, for any reason.
    pub lost: u64,
    /// Live heap bytes that were allocated in the window.
    pub live_bytes: u64,
    /// The target's RSS.
    pub rss_bytes: u64,
}
