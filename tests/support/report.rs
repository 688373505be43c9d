//! The JSON report as a consumer reads it: only the fields that tests look at, by their names in
//! the documented schema.

use serde::Deserialize;

/// Bytes and blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Amount {
    /// Requested bytes.
    pub bytes: u64,
    /// Blocks or ranges.
    pub count: u64,
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.count += other.count;
    }
}

/// Accounting of a site, or of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Stats {
    /// All allocations.
    pub allocated: Amount,
    /// Those that were freed.
    pub freed: Amount,
    /// Those that were not.
    pub live: Amount,
    /// The largest `live`.
    pub peak: Amount,
}

/// The report.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Report {
    pub schema: String,
    pub target: ReportTarget,
    pub window: Window,
    pub rss: Rss,
    pub rss_table: Option<RssTable>,
    pub rss_table_before: Option<RssTable>,
    pub heap: Option<Heap>,
    #[serde(default)]
    pub blame: Option<Blame>,
    #[serde(default)]
    pub arena_pins: Option<ArenaPinsReport>,
    pub timeline: Timeline,
    pub verdict: Option<Verdict>,
    pub totals: Totals,
    #[serde(default)]
    pub processes: Vec<ProcessReport>,
    #[serde(default)]
    pub summary: Vec<String>,
    #[serde(default)]
    pub allocators: Vec<AllocatorTotals>,
    pub sites: Vec<SiteReport>,
    #[serde(default)]
    pub groups: Vec<Group>,
    #[serde(default)]
    pub growth: Option<Growth>,
    pub functions: Vec<FunctionReport>,
    pub completeness: Completeness,
    pub cost: Option<Cost>,
    pub files: Vec<String>,
}

/// One of several processes.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct ProcessReport {
    pub pid: u32,
    pub command: String,
    pub parent: Option<u32>,
    pub unseen_ns: Option<u64>,
    pub ended_ns: Option<u64>,
    pub pages_after: Option<PrivatePages>,
    pub live: Amount,
    pub survivors: Amount,
    pub inherited: Option<Inherited>,
    pub inherited_live: Option<Amount>,
    pub complete: bool,
    pub top: Option<TopGroup>,
}

/// What is a process's own.
#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct PrivatePages {
    pub rss_bytes: u64,
    pub pss_bytes: u64,
    pub private_bytes: u64,
    pub shared_bytes: u64,
}

/// What a process got by fork.
#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Inherited {
    pub at_fork: Amount,
    pub freed: Amount,
    pub is_sum_only: bool,
}

/// Where a process allocated most of what it kept.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct TopGroup {
    pub function: Option<String>,
    pub file: Option<String>,
    pub line: Option<u32>,
    pub survivors: Amount,
}

/// Children that could not be followed.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct NotFollowed {
    pub ended_early: u64,
    pub beyond_limit: u64,
    pub beyond_window: u64,
    pub refused_count: u64,
}

/// What the trace cost.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Cost {
    pub max_overhead: Option<f64>,
    pub expected: Option<Expected>,
    pub overhead: Option<f64>,
    pub covered: Option<f64>,
    pub setting: Option<String>,
    #[serde(default)]
    pub changes: Vec<SettingChange>,
}

/// What was expected of it.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Expected {
    pub calls_per_second: f64,
    pub exact_overhead: f64,
}

/// What was changed to keep to a limit.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct SettingChange {
    pub from: String,
    pub to: String,
}

/// What grew, where that was followed.
#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Growth {
    pub at_functions: bool,
    pub in_program: bool,
    pub address_space: Amount,
    pub resident: Estimate,
    pub rss: Option<RssChanges>,
}

/// A sum that was estimated from samples.
#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Estimate {
    pub bytes: u64,
    pub error_bytes: u64,
    pub samples: u64,
}

/// How resident memory went.
#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct RssChanges {
    pub peak_bytes: u64,
    pub at_end: Parts,
}

/// What resident memory consists of.
#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Parts {
    pub anonymous_bytes: u64,
}

/// Who was traced.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct ReportTarget {
    pub pid: u32,
    pub command: String,
    pub executable: String,
    pub threads: u64,
    pub allocators: Vec<AllocatorReport>,
    #[serde(default)]
    pub python: Option<PythonReport>,
}

/// The interpreter in the target.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct PythonReport {
    pub path: String,
    pub version: Option<String>,
    #[serde(default)]
    pub refused: Option<String>,
}

/// A probed object.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct AllocatorReport {
    pub name: String,
    pub path: String,
    pub armed_after_ns: Option<u64>,
}

/// What an allocator served.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct AllocatorTotals {
    pub name: String,
    pub allocated: Amount,
    pub live: Amount,
}

/// When, and why it ended.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Window {
    pub duration_ns: u64,
    pub ended_by: String,
    #[serde(default)]
    pub sample_bytes: Option<u64>,
    pub attach_ns: u64,
    pub detach_ns: u64,
}

/// Resident memory.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Rss {
    pub start_bytes: u64,
    pub end_bytes: u64,
    pub own_peak_bytes: u64,
}

/// What RSS consists of.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct RssTable {
    pub rss_bytes: u64,
    pub rows: Vec<RssRow>,
}

impl RssTable {
    /// A row, 0 when it is not there.
    pub fn bytes(&self, kind: &str) -> i64 {
        self.rows.iter().find(|row| row.kind == kind).map_or(0, |row| row.resident_bytes)
    }
}

/// A part of RSS.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct RssRow {
    pub kind: String,
    pub resident_bytes: i64,
}

/// The heap at the end.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Heap {
    pub walks: u64,
    pub walks_cpu_ns: u64,
    pub in_use_bytes: u64,
    pub trapped_bytes: u64,
    pub allocated_before_bytes: Option<u64>,
    pub survivor_check: Option<SurvivorCheck>,
    pub glibc: Vec<crate::inspection::GlibcHeap>,
    #[serde(default)]
    pub pymalloc: Vec<PymallocHeap>,
}

/// Small objects of a Python.
#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/inspect-json.md")]
pub struct PymallocHeap {
    pub resident: HeapResidency,
}

/// What resident memory of a heap is.
#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/inspect-json.md")]
pub struct HeapResidency {
    pub trapped_bytes: u64,
}

/// Whose small objects keep arenas.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct ArenaPinsReport {
    pub trapped_bytes: u64,
    pub is_traced: bool,
    pub places: Vec<ArenaPlace>,
    pub unowned_sizes: Vec<UnownedClass>,
}

/// Those of one place.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct ArenaPlace {
    pub function: Option<String>,
    pub file: Option<String>,
    pub line: Option<u32>,
    #[serde(flatten)]
    pub pins: ArenaPins,
}

/// What blocks keep.
#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct ArenaPins {
    pub trapped_bytes: u64,
    pub exclusive_bytes: u64,
    pub drop_bytes: u64,
    pub pin_ratio: f64,
}

/// Objects of one size that nobody is known to own.
#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct UnownedClass {
    pub block_bytes: u32,
    pub trapped_bytes: u64,
}

/// What the heap says of survivors.
#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct SurvivorCheck {
    pub in_use: u64,
    pub freed: Amount,
    pub unknown: u64,
    pub unchecked: u64,
}

/// Memory over the window.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Timeline {
    pub samples: Vec<TimelineSample>,
    pub rss_peak_bytes: u64,
    pub rss_peak_source: String,
}

/// One sample.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct TimelineSample {
    pub at_ns: u64,
    pub rss_bytes: u64,
    pub live_bytes: Option<u64>,
    pub in_use_bytes: Option<u64>,
}

/// What happens to memory.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Verdict {
    pub kind: String,
    pub headline: String,
    pub remedies: Vec<Remedy>,
}

/// What to try.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Remedy {
    pub action: String,
    pub expected_bytes: Option<u64>,
}

/// Sums.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Totals {
    pub heap: Stats,
    pub mappings: Stats,
    pub allocator_mappings: Stats,
    pub pymalloc_arenas: Stats,
    pub survivors: Amount,
    pub unmatched_frees: u64,
    pub unmatched_unmapped_bytes: u64,
}

/// A site.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct SiteReport {
    pub function: String,
    pub allocator: Option<String>,
    pub stack: Stack,
    #[serde(flatten)]
    pub stats: Stats,
    pub survivors: Survivors,
    #[serde(default)]
    pub resident: Option<Amount>,
    #[serde(default)]
    pub trapped: Option<Amount>,
}

impl SiteReport {
    /// The function of the program that calls the allocator; empty without a stack.
    pub fn caller(&self) -> &str {
        self.stack.frames.first().map_or("", |frame| &frame.function)
    }
}

/// Sites that have a line (or a function, or a module) in common.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Group {
    pub function: Option<String>,
    pub file: Option<String>,
    pub line: Option<u32>,
    #[serde(default)]
    pub language: Language,
    pub survivors: Survivors,
    #[serde(default)]
    pub pattern: Option<GrowthPattern>,
}

/// How survivors came to be.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub enum GrowthPattern {
    Steps {
        count: u64,
        step_bytes: u64,
        interval_ns: u64,
    },
    #[serde(other)]
    Other,
}

/// What a frame was written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub enum Language {
    #[default]
    Native,
    Python,
}

/// A named stack, leaf first.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Stack {
    pub frames: Vec<Frame>,
    #[serde(default)]
    pub missing_root: Option<String>,
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Frame {
    pub function: String,
    pub module: String,
    #[serde(default)]
    pub inlined: bool,
    #[serde(default)]
    pub file: Option<String>,
    #[serde(default)]
    pub line: Option<u32>,
    #[serde(default)]
    pub language: Language,
}

/// What was never freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Survivors {
    pub bytes: u64,
    pub count: u64,
    pub oldest_age_ns: u64,
    pub youngest_age_ns: u64,
}

/// Calls.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct FunctionReport {
    pub function: String,
    pub calls: u64,
    pub nested: u64,
    pub void: u64,
    pub lost: u64,
    pub passed_over: u64,
    pub requested_bytes: u64,
}

/// What is missing.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Completeness {
    pub complete: bool,
    pub events: u64,
    pub cut_calls: u64,
    pub forks: u64,
    #[serde(default)]
    pub not_followed: NotFollowed,
    pub execs: u64,
    pub discarded_by_exec: Amount,
    pub losses: Vec<LossReport>,
    pub notes: Vec<String>,
}

/// A kind of loss.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct LossReport {
    pub name: String,
    pub count: u64,
}

impl Report {
    /// Sites whose direct caller has this name.
    pub fn sites_of(&self, caller: &str) -> impl Iterator<Item = &SiteReport> {
        self.sites.iter().filter(move |site| site.caller() == caller)
    }

    /// The counters of a function; zero when it is not in the report.
    pub fn function(&self, name: &str) -> FunctionReport {
        let found = self.functions.iter().find(|function| function.function == name).cloned();
        let function = name.to_owned();
        found.unwrap_or(FunctionReport { function, ..FunctionReport::default() })
    }

    /// How often this loss happened.
    pub fn loss(&self, name: &str) -> u64 {
        self.completeness.losses.iter().find(|loss| loss.name == name).map_or(0, |loss| loss.count)
    }
}

/// Who keeps free memory from being given back.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Blame {
    pub trapped_bytes: u64,
    pub returnable_bytes: u64,
    pub live_bytes: u64,
    pub traced_bytes: u64,
    pub coverage: f64,
    pub left_out_bytes: u64,
    pub culprits: Vec<Culprit>,
    pub tops: Vec<TopPin>,
    pub stranded: Vec<StrandedArena>,
}

impl Blame {
    /// The culprit whose name begins so.
    pub fn culprit(&self, name: &str) -> &Culprit {
        let found = self.culprits.iter().find(|culprit| culprit.name.starts_with(name));
        found.unwrap_or_else(|| panic!("{name} is not among {:?}", self.culprits))
    }
}

/// Who does.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Culprit {
    pub kind: String,
    pub name: String,
    pub trapped_bytes: u64,
    pub exclusive_bytes: u64,
    pub drop_bytes: u64,
    pub chunk_bytes: u64,
    pub chunks: u64,
    pub pin_ratio: Option<f64>,
    pub pins: u64,
    pub median_age_ns: Option<u64>,
}

/// Who holds the end of an arena.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct TopPin {
    pub arena: u32,
    pub name: String,
    pub chunks: u64,
    pub behind_bytes: u64,
}

/// An arena without threads.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct StrandedArena {
    pub arena: u32,
    pub resident_bytes: u64,
    pub holders: Vec<Holding>,
}

/// Whose bytes.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/report-json.md")]
pub struct Holding {
    pub name: String,
    pub bytes: u64,
}
