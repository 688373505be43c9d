//! The report: everything a person or a program is told, as data. `render` turns it into text,
//! JSON or a picture and computes nothing.
//!
//! The serialized form is the JSON schema `memtrace-report/1`, documented in docs/report-json.md.
//! Fields are added freely; a field that changes its meaning or goes away raises the version.

mod allocator;
mod arena_pins;
pub mod blame;
mod build;
mod factors;
mod facts;
pub(crate) mod frame_name;
mod group;
mod growth;
mod heap;
mod key_frame;
mod of_capture;
mod pin_cells;
mod process;
mod profile;
#[cfg(test)]
pub(crate) mod sample;
mod sampling;
mod stacks;
mod summary;
mod trapped;
mod verdict;

use serde::Serialize;

pub(crate) use self::group::package;
pub use self::{
    allocator::AllocatorTotals,
    arena_pins::{ArenaPinsReport, ArenaPlace},
    blame::{BlameReport, CulpritKind, CulpritReport, NeighbourReport},
    build::{ReportInput, SiteInput},
    group::{GroupBy, GroupFacts, GroupName, GroupReport, group_slots, slots_of},
    growth::{Estimate, GrowthReport},
    heap::HeapReport,
    of_capture::ReportOptions,
    pin_cells::{ArenaCells, PinnedCells},
    process::{ProcessReport, TopGroup},
    profile::{Birth, Births, SiteExtras, ThreadShare, View},
    sampling::{Covered, Sampling},
};
pub use crate::analysis::arena_pins::{ArenaPins, UnownedClass};
pub use crate::capture::growth::GrowthView;
use crate::model::{
    AllocFn,
    census::RssTable,
    cost::Cost,
    incident::Incident,
    place::Place,
    site::{Amount, SiteStats},
    stack::NamedStack,
    timeline::Timeline,
    verdict::Verdict,
};
pub use crate::model::{
    site::Survivors,
    trace::{
        AllocatorReport, AttachStep, Completeness, Distribution, EndReason, FunctionReport,
        LossReport, Module, ProbeReport, PythonReport, Rss, SurvivorCheck, Target, Totals,
        UnwindTables, Walks, Window,
    },
};

/// The value of [`Report::schema`].
pub const SCHEMA: &str = "memtrace-report/1";

/// [`SiteReport::function`] of the allocations that found no room in the table of sites.
pub const OTHER_SITES: &str = "[other sites]";

/// [`SiteReport::function`] of a site.
fn site_function(function: Option<AllocFn>) -> &'static str {
    function.map_or(OTHER_SITES, AllocFn::name)
}

/// One finished window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Who was traced.
    pub target: Target,
    /// The processes that were traced together; nothing where one was traced alone. Everything else
    /// is of all of them then, but for `target`, which is the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<ProcessReport>,
    /// Where it ran.
    pub place: Place,
    /// When, how long, why it ended.
    pub window: Window,
    /// What of the window is reported, in words that go on from "only what was"; nothing where it is
    /// all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub selection: Vec<String>,
    /// Why the capture was taken, where nobody asked for it.
    #[serde(skip_serializing_if = "Incident::is_nothing")]
    pub incident: Incident,
    /// The kernel's view of the target's memory.
    pub rss: Rss,
    /// What RSS consisted of near the end, by a walk of the heap.
    pub rss_table: Option<RssTable>,
    /// The same near the start.
    pub rss_table_before: Option<RssTable>,
    /// The heap near the end.
    pub heap: Option<HeapReport>,
    /// Who keeps free memory from being given back; `None` where that cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blame: Option<BlameReport>,
    /// Who keeps CPython's arenas; `None` where there are none, or it is not known where they lie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arena_pins: Option<ArenaPinsReport>,
    /// Where the blocks lie that keep the most free memory, in the maps of `heap`.
    #[serde(skip)]
    pub pinned_cells: Vec<PinnedCells>,
    /// How memory went in between.
    pub timeline: Timeline,
    /// What happens to its memory, and what to try; `None` of a selection of threads or sites, which
    /// does not explain it.
    pub verdict: Option<Verdict>,
    /// What numbers are estimates of; `None` where every block was looked at, all the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// Sums over all sites.
    pub totals: Totals,
    /// What grew; `None` where calls of allocators were traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth: Option<GrowthReport>,
    /// The same of heap blocks by allocator, by allocated bytes; empty where only one was called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allocators: Vec<AllocatorTotals>,
    /// What each thread did at all sites together, by what survives of it, largest first; empty where
    /// that was not asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub threads: Vec<ThreadShare>,
    /// What the numbers say, as sentences; the most important first.
    pub summary: Vec<String>,
    /// What `groups` are taken together by.
    pub grouped_by: GroupBy,
    /// Sites that share a line, a function or whatever was asked for, by surviving bytes, largest
    /// first. Groups without survivors follow, by allocated bytes.
    pub groups: Vec<GroupReport>,
    /// What renderers weigh sites by.
    pub view: View,
    /// Sites by their weight in the view, largest first. Sites without any follow, by allocated
    /// bytes.
    pub sites: Vec<SiteReport>,
    /// How the window is cut into the bins of [`SiteReport::births`].
    pub births: Births,
    /// The objects that stacks lead through; the frames' `module` is the file name of `path`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<Module>,
    /// Requested bytes per block, over all heap allocations.
    pub sizes: Option<Distribution>,
    /// Nanoseconds from allocation to free, over blocks that were freed in the window.
    pub lifetimes: Option<Distribution>,
    /// Calls by function.
    pub functions: Vec<FunctionReport>,
    /// What is missing.
    pub completeness: Completeness,
    /// What stacks were walked by; `None` where no tables were made.
    pub unwind_tables: Option<UnwindTables>,
    /// What the trace cost the target, and was allowed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Files written.
    pub files: Vec<String>,
}

impl Report {
    /// What all sites weigh in the view.
    pub fn weight(&self) -> Amount {
        self.sites.iter().fold(Amount::default(), |mut sum, site| {
            sum += site.weight(self.view);
            sum
        })
    }
}

/// One site.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SiteReport {
    /// The function that the stack calls; [`OTHER_SITES`] for the sum of those beyond the table.
    pub function: &'static str,
    /// Whose function that is: `jemalloc`, `jemalloc (_rjem_)`; `None` where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocator: Option<String>,
    /// Leaf first.
    pub stack: NamedStack,
    /// Index in the stack of the frame to look at first: the one nearest to the leaf that is not
    /// part of an allocator, a language runtime or a container; where Python runs, the innermost
    /// line of the program's own Python code. `None` when there is no frame.
    pub key_frame: Option<usize>,
    /// Accounting over the window. Where sites of equal names were merged, `peak` is the sum of
    /// their peaks: an upper bound.
    #[serde(flatten)]
    pub stats: SiteStats,
    /// Live blocks that are at least `min_age_ns` old.
    pub survivors: Survivors,
    /// What was live when all sites together had the most live bytes; `None` where the events were
    /// not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_peak: Option<Amount>,
    /// What was freed by the thread that allocated it, before it allocated anything else; `None`
    /// where the events were not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temporary: Option<Amount>,
    /// What of `survivors` was in memory when the heap was last walked: requested bytes on resident
    /// pages, and blocks that have any; `None` where it is not known where blocks lay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident: Option<Amount>,
    /// Free memory that was on pages which live blocks of this site kept, shared evenly with the
    /// other sites of the page, and how many of its blocks did; `None` where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trapped: Option<Amount>,
    /// By thread, by allocated bytes, largest first; empty where that was not asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub threads: Vec<ThreadShare>,
    /// When the survivors were obtained, in order of time; bins without any are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub births: Vec<Birth>,
}

impl SiteReport {
    /// What it weighs in a view; nothing where that is not known.
    pub fn weight(&self, view: View) -> Amount {
        match view {
            View::NeverFreed => self.survivors.amount,
            View::Live => self.stats.live,
            View::Allocated => self.stats.allocated,
            View::Freed => self.stats.freed,
            View::Peak => self.at_peak.unwrap_or_default(),
            View::Temporary => self.temporary.unwrap_or_default(),
            View::Resident => self.resident.unwrap_or_default(),
            View::Trapped => self.trapped.unwrap_or_default(),
        }
    }
}
