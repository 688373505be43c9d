//! A window at rest: everything that a report is made of, by itself, so that it can be looked at
//! elsewhere and later. docs/format.md describes the file.
//!
//! A report of a window that has just ended and one of its file are computed from the same
//! [`Capture`].

mod assemble;
pub mod block;
mod books;
mod by_process;
mod codec;
mod cut;
mod estimates;
pub mod events;
pub mod format;
mod found;
mod frames;
pub mod growth;
mod layout;
pub mod matching;
mod merge;
mod name;
mod parts;
mod processes;
mod raw_stacks;
mod read;
mod records;
mod recover;
mod scan;
pub mod select;
mod stacks;
mod stored;
mod tables;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod upgrade;
mod write;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::{
    books::{Books, apply},
    codec::Malformed,
    cut::Cut,
    merge::merge,
    processes::{CapturedProcess, OfProcess},
    read::{Opened, ReadError, Reader, UnknownRecord},
    stored::{EventsError, StoredEvents},
    write::{Writer, write},
};

use crate::model::{
    AllocFn, ObjectNumber,
    cost::Cost,
    coverage::Coverage,
    event::Event,
    footprint::{GrowthProbes, RssChanges},
    incident::Incident,
    layout::HeapLayout,
    room::Room,
    site::{Amount, SiteStats},
    stack::{NamedStack, StackId},
    timeline::Timeline,
    trace::{
        Completeness, Distribution, FunctionReport, Module, Rss, Target, Totals, UnwindTables,
        Walks, Window,
    },
};

pub use crate::model::{site::LiveItem, trace::Host};

/// All of a window but its events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Capture {
    /// Known when the window was opened.
    pub header: Header,
    /// The objects that stacks lead through.
    pub modules: Vec<Module>,
    /// Every stack that a site has, with names; in ascending order of their ids.
    pub stacks: Vec<(StackId, NamedStack)>,
    /// What it holds of the window; a file holds all.
    pub selected: Selected,
    /// Every site that allocated, in the order of first appearance.
    pub sites: Vec<CapturedSite>,
    /// What only the events tell of the sites, in their order; empty where nobody asked them. A file
    /// does not hold it.
    pub extras: Vec<CapturedExtras>,
    /// What was live at the end; `site` is an index in [`Self::sites`].
    pub live: Vec<LiveItem>,
    /// Names of threads, where they were seen; in ascending order of their ids.
    pub threads: Vec<ThreadName>,
    /// How memory went.
    pub timeline: Timeline,
    /// Walks of the heap at both ends.
    pub walks: Walks,
    /// Where everything in the heap lay then; of several processes they are in
    /// [`Self::processes`].
    pub layouts: Layouts,
    /// Known when the window was closed.
    pub ending: Ending,
    /// What became of the events.
    pub events: EventsKept,
    /// The processes that were traced together, in the order of their numbers; empty where one was
    /// traced alone. The rest is of all of them then.
    pub processes: Vec<CapturedProcess>,
}

impl Capture {
    /// What a thread is called, where it was seen.
    pub fn thread_name(&self, tid: u32) -> Option<String> {
        let at = self.threads.binary_search_by_key(&tid, |thread| thread.tid).ok()?;
        Some(self.threads[at].name.clone())
    }
}

/// Where everything in a process's heaps lay at both ends of a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layouts {
    /// Near the start.
    pub before: Option<Arc<HeapLayout>>,
    /// At the end; `None` where the target was not walked then.
    pub after: Option<Arc<HeapLayout>>,
}

/// What is known when a window opens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// memtrace's version.
    pub memtrace_version: String,
    /// What was typed.
    pub command_line: Vec<String>,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// `CLOCK_MONOTONIC` when the window was opened; all times of records are on this clock.
    pub opened_ns: u64,
    /// Who is traced, as it was then.
    pub target: Target,
    /// When the target started, in clock ticks since boot: with its pid and host it names it.
    pub start_time_ticks: u64,
    /// Where.
    pub host: Host,
    /// The target's control group, e.g. `/kubepods/burstable/pod1/0a1b`; empty where there is none.
    pub cgroup: String,
    /// The lowest memory limit of its control groups.
    pub limit_bytes: Option<u64>,
    /// The program break, where it was known.
    pub initial_break: Option<u64>,
    /// Blocks younger than this at the end are not counted as survivors, unless it is said
    /// otherwise.
    pub min_age_ns: u64,
    /// How growth was followed; `None` where calls of allocators were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth: Option<GrowthProbes>,
    /// As [`crate::model::trace::Window::sample_bytes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_bytes: Option<u64>,
}

/// A site and its books.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapturedSite {
    /// The caller; `None` for the sum of the sites that found no room.
    pub stack: Option<StackId>,
    /// What it calls; `None` for the same.
    pub function: Option<AllocFn>,
    /// In which of the target's allocators that is.
    pub object: ObjectNumber,
    /// Accounting over the window.
    pub stats: SiteStats,
    /// The number of the process whose site it is.
    pub process: u8,
}

/// Which part of a window it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// In words that go on from "only what was": `obtained by thread 12 (worker)`; nothing where it is
    /// the whole.
    pub what: Vec<String>,
    /// What some threads or some sites did: that does not explain the memory of the process.
    pub is_slice: bool,
}

/// What only the events tell of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapturedExtras {
    /// What was live when all sites together had the most live bytes.
    pub at_peak: Option<Amount>,
    /// What was freed by the thread that obtained it, before it obtained anything else.
    pub temporary: Option<Amount>,
    /// What each thread did, in ascending order of their ids; empty where it was not asked for.
    pub threads: Vec<CapturedShare>,
}

/// What a thread did at a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapturedShare {
    /// The kernel's id of the thread, in the initial pid namespace.
    pub tid: u32,
    /// What it obtained.
    pub allocated: Amount,
    /// What of it is live at the end, whoever may free it.
    pub live: Amount,
    /// What of that is old enough to be a survivor.
    pub survivors: Amount,
}

/// A thread's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct ThreadName {
    /// The kernel's id, in the initial pid namespace.
    pub tid: u32,
    /// The kernel's 15-byte name.
    pub name: String,
}

/// What is known when a window has been closed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ending {
    /// Who was traced: what was learned meanwhile, too.
    pub target: Target,
    /// `CLOCK_MONOTONIC` when the window was closed.
    pub closed_ns: u64,
    /// When, how long, why it ended.
    pub window: Window,
    /// The kernel's view of the target's memory.
    pub rss: Rss,
    /// Sums over all sites.
    pub totals: Totals,
    /// Requested bytes per heap block.
    pub sizes: Option<Distribution>,
    /// Nanoseconds from allocation to free.
    pub lifetimes: Option<Distribution>,
    /// Calls by function.
    pub functions: Vec<FunctionReport>,
    /// What is missing; its `losses` are in `losses` below.
    pub completeness: Completeness,
    /// Every loss that happened.
    pub losses: Vec<LossCount>,
    /// What stacks were walked by.
    pub unwind_tables: Option<UnwindTables>,
    /// When probes were armed, where some were not all the time.
    #[serde(skip_serializing_if = "Coverage::is_full")]
    pub coverage: Coverage,
    /// How many live blocks of glibc's heap one that was seen stands for, where that is another number
    /// than `coverage` tells.
    #[serde(skip_serializing_if = "Room::is_unknown")]
    pub room: Room,
    /// The mean distance of samples at the end, in bytes allocated; `None` where every block was
    /// looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_interval_bytes: Option<u64>,
    /// What the trace cost the target, and was allowed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// How resident memory went; only where growth was followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_changes: Option<RssChanges>,
    /// Why it was taken, where nobody asked for it.
    #[serde(skip_serializing_if = "Incident::is_nothing")]
    pub incident: Incident,
}

/// A loss by its stable name: a later version may know more of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LossCount {
    /// See [`crate::model::loss::Loss::name`].
    pub name: String,
    /// How often.
    pub count: u64,
}

/// What became of the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventsKept {
    /// How many are in the capture.
    pub kept: u64,
    /// How many are not, because they were not wanted, or had no room, or could not be written fast
    /// enough.
    pub left_out: u64,
}

impl EventsKept {
    /// Whether what is computed from the events is computed from all of them.
    pub fn is_complete(self) -> bool {
        self.kept > 0 && self.left_out == 0
    }
}

/// An event as it is kept. There are no stacks among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptEvent {
    /// What happened.
    pub event: Event,
    /// It was found to be an arena of pymalloc.
    pub is_arena: bool,
    /// A free that was not seen, and that the heap told of at the end.
    pub is_unseen: bool,
    /// The number of the process that did it.
    pub process: u8,
}

/// The events of a capture, which need not be in memory.
pub trait Events {
    /// Why they cannot be read.
    type Error;

    /// Calls `visit` with every event, in their order.
    ///
    /// # Errors
    /// When they cannot be read; some may have been visited.
    fn replay(&self, visit: &mut dyn FnMut(&KeptEvent)) -> Result<(), Self::Error>;
}

impl Events for [KeptEvent] {
    type Error = std::convert::Infallible;

    fn replay(&self, visit: &mut dyn FnMut(&KeptEvent)) -> Result<(), Self::Error> {
        self.iter().for_each(visit);
        Ok(())
    }
}
