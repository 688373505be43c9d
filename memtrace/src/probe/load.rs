//! The BPF object in the kernel: load, arm, open the window, count, detach.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    io,
    num::NonZeroU32,
    os::fd::{AsRawFd as _, BorrowedFd},
    panic::resume_unwind,
    path::PathBuf,
    thread::{self, JoinHandle, ScopedJoinHandle},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, PerCpuArray},
    programs::{
        Program, ProgramError, RawTracePoint, UProbe,
        raw_trace_point::RawTracePointLink,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
    },
};
use memtrace_common::{
    call::SiteCookie,
    config::{ALLOCATOR_RANGES, CodeRange, Config, StackMode},
    loss::KernelCounters,
    python::{PythonKind, PythonLayout},
    remembered,
    sample::Interval,
    unwind::{
        memo::{Memo, PLACES},
        table::{CHUNK_WORDS, CodeMappings, Rule},
    },
};

use super::{
    calibrate::Calibrator,
    error::{
        LoadError, classify_arm_error, classify_object_error, classify_program_error, missing_map,
    },
    growth::{GrowthLink, GrowthOptions},
    multi::{self, Attachment},
    plan::AllocatorCode,
    ring::Ring,
    side::Side,
};
use crate::model::{AllocFn, ArgumentPlaces, CallShape, ObjectNumber, footprint::GrowthBy};

/// The object that `cargo xtask build-ebpf` made from memtrace-ebpf.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/memtrace.bpf.o"));

/// Smallest and largest ring that makes sense; the kernel wants a power of two of pages.
pub const RING_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;

/// Load-time options.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// The target's thread group id.
    pub pid: NonZeroU32,
    /// Size of the ring buffer; see [`RING_BYTES`].
    pub ring_bytes: u32,
    /// How stacks are walked.
    pub stacks: StackMode,
    /// The kernel has `bpf_loop` (5.17); else the walk is unrolled, which takes long to verify.
    pub bpf_loop: bool,
    /// Words for unwind rows, and for their page index.
    pub table_words: TableWords,
    /// Forward the BPF side's debug messages to the `log` crate.
    pub debug_log: bool,
    /// Where the kernel's `task_struct` has the thread group id, if children are wanted by name; 0 if
    /// not.
    pub task_tgid: u64,
    /// Use perf-event links even where multi-uprobe links work; for tests of the former.
    pub perf_event_links: bool,
    /// How densely allocations are looked at.
    pub sampling: Sampling,
    /// There may be probes in the target.
    pub uprobes: bool,
    /// Growth is followed so, and no calls of allocators.
    pub growth: Option<GrowthBy>,
    /// How much memory of the kernel's it may take.
    pub room: Room,
}

/// How much memory of the kernel's a trace may take: it is charged to memtrace's own control group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// As much as makes it fast: all programs are verified at once.
    #[default]
    Ample,
    /// As little as will do, where memory runs short: programs are verified one after another, and
    /// fewer stacks are told apart.
    Scarce,
}

impl Room {
    /// Most stacks that are told apart; they take some 80 bytes each.
    fn stacks(self) -> u32 {
        match self {
            Self::Ample => 1 << 18,
            Self::Scarce => 1 << 15,
        }
    }
}

/// Which allocations are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampling {
    /// Each, for as long as the window is open.
    #[default]
    Exact,
    /// Those that are drawn.
    Variable {
        /// How densely at first; see [`Kernel::set_interval`].
        interval: Interval,
        /// Most live blocks that are expected to be followed at once: 16 bytes each in the kernel,
        /// at most 16 MiB.
        blocks: usize,
    },
}

impl Sampling {
    fn interval(self) -> Interval {
        match self {
            Self::Exact => Interval::EXACT,
            Self::Variable { interval, .. } => interval,
        }
    }

    /// The mean distance of sample points at first; `None` when each allocation is looked at.
    pub fn mean_bytes(self) -> Option<u64> {
        let interval = Some(self.interval()).filter(|interval| !interval.is_exact());
        interval.map(Interval::mean_bytes)
    }

    /// Of the table of followed blocks: a power of two, 0 when none is needed. Twice as many places
    /// as blocks, because buckets fill unevenly.
    fn buckets(self) -> u32 {
        const MOST: usize = 1 << 18;
        match self {
            Self::Exact => 0,
            Self::Variable { blocks, .. } => {
                blocks.div_ceil(remembered::PLACES / 2).clamp(1 << 10, MOST).next_power_of_two()
                    as u32
            }
        }
    }
}

/// A chunk of unwind rows or of their page index.
type Chunk = [u32; CHUNK_WORDS];

/// How large the maps of the unwind tables are; rounded up to [`CHUNK_WORDS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableWords {
    /// Rows.
    pub rows: usize,
    /// Index entries.
    pub pages: usize,
}

/// The loaded object and its armed probes. Dropping it removes everything; so does the kernel when
/// memtrace dies, because nothing is pinned.
pub struct Kernel {
    pub(super) ebpf: Ebpf,
    config: Config,
    pub(super) growth_by: GrowthBy,
    room: Room,
    backend: Backend,
    probes: Vec<Armed>,
    /// Removals that are under way.
    leaving: Vec<JoinHandle<()>>,
    tracepoints: Vec<RawTracePointLink>,
    pub(super) growth: Vec<GrowthLink>,
    /// The programs of the growth mode can hang on functions, and are loaded.
    pub(super) has_growth_functions: bool,
}

/// How probes are put into the target.
enum Backend {
    /// One link per program and file.
    Multi {
        /// Those that can still be loaded; `None` when no more will be.
        programs: Option<Box<multi::Programs>>,
        loaded: HashMap<&'static str, multi::LoadedProgram>,
        /// Entry and return are one program, see [`Attachment::Sessions`].
        has_sessions: bool,
    },
    /// One perf event per site, where the kernel has nothing better.
    PerfEvent,
}

/// An armed probe, or many; dropping it removes them.
#[expect(dead_code, reason = "held for their drop")]
enum Link {
    Multi(multi::MultiLink),
    PerfEvent(UProbeLink),
}

/// A link, and what it is of.
struct Armed {
    side: Side,
    link: Link,
}

/// A function to arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeSite {
    /// What is called.
    pub function: AllocFn,
    /// The shape of the arguments at the site.
    pub shape: CallShape,
    /// The registers that they are in.
    pub arguments: ArgumentPlaces,
    /// Number of the site, for the cookie.
    pub site: u32,
    /// The object that it is in.
    pub object: ObjectNumber,
    /// It calls no other traced function of its family: nothing has to be remembered of its calls
    /// that are not looked at.
    pub is_leaf: bool,
    /// Offset in the file of the instruction to put the probe on.
    pub offset: u64,
}

/// Tracepoints of the target's life, and the programs of the same names.
const FOLLOWED: [&str; 3] = ["task_newtask", "sched_process_exec", "sched_process_exit"];

/// Where `debug_log` output of the BPF side is read from.
pub type KernelLog = aya_log::EbpfLogger<&'static dyn log::Log>;

impl Kernel {
    /// Creates the maps. No program is loaded and nothing is armed yet.
    pub fn load(options: LoadOptions) -> Result<Self, LoadError> {
        const UPROBE_PMU: &str = "/sys/bus/event_source/devices/uprobe/type";
        if options.uprobes && options.growth.is_none() && !std::path::Path::new(UPROBE_PMU).exists()
        {
            return Err(LoadError::NoUprobes { path: UPROBE_PMU.to_owned() });
        }
        raise_memlock_limit();
        let log_level: u8 = if options.debug_log { aya_log_level_debug() } else { 0 };
        // Then no call is in flight, and no block is followed.
        let buckets = if options.growth.is_some() { 0 } else { options.sampling.buckets() };
        let mut loader = EbpfLoader::new();
        if options.growth.is_some() {
            loader.map_max_entries("IN_FLIGHT", 1);
        }
        let ebpf = loader
            // Nothing is relocated against the kernel's types, and parsing them takes a while.
            .btf(None)
            .map_max_entries("EVENTS", options.ring_bytes)
            .map_max_entries("STACKS", options.room.stacks())
            .map_max_entries("ROWS", chunks(options.table_words.rows))
            .map_max_entries("PAGES", chunks(options.table_words.pages))
            .map_max_entries("REMEMBERED", buckets.max(1))
            .override_global("AYA_LOG_LEVEL", &log_level, true)
            .override_global("USE_BPF_LOOP", &u32::from(options.bpf_loop), true)
            .load(OBJECT)
            .map_err(classify_object_error)?;
        let config = Config {
            stacks: options.stacks as u32,
            tgid: options.pid.get(),
            task_tgid: options.task_tgid,
            wake_bytes: u64::from(options.ring_bytes / 8).min(256 << 10),
            interval: options.sampling.interval().exponent().into(),
            remembered_buckets: buckets,
            ..Config::default()
        };
        let mut kernel = Self {
            ebpf,
            config,
            growth_by: options.growth.unwrap_or_default(),
            room: options.room,
            backend: Backend::PerfEvent,
            probes: Vec::new(),
            leaving: Vec::new(),
            tracepoints: Vec::new(),
            growth: Vec::new(),
            has_growth_functions: false,
        };
        kernel.write_config()?;
        if options.growth.is_some() {
            kernel.try_growth_functions();
        }
        let is_in_kernel = options.growth == Some(GrowthBy::Auto) && kernel.has_growth_functions;
        if options.uprobes && !options.perf_event_links && !is_in_kernel {
            kernel.backend = choose_backend(&kernel.ebpf);
        }
        Ok(kernel)
    }

    /// Whether all probes of a program in a file are one link (else each is one).
    pub fn has_multi_uprobe_links(&self) -> bool {
        matches!(self.backend, Backend::Multi { .. })
    }

    /// What measures the cost of a probe; `None` without multi-uprobe links. While no allocation is
    /// drawn, what runs there is what runs in the target, and counts the calls; else it is empty.
    pub fn calibrator(&self) -> Option<Calibrator> {
        let Backend::Multi { programs, loaded, .. } = &self.backend else { return None };
        let counts = self.config.interval() == Interval::MAX;
        let entry = loaded.get(CALLS).filter(|_| counts).or_else(|| loaded.get("empty"))?;
        let at_return = programs.as_ref()?.load("empty_return", Attachment::Probes).ok()?;
        let cookie = ProbeSite::CALIBRATION.cookie(entry.attachment()).of_calibration().0;
        Some(Calibrator::new(entry.try_clone().ok()?, cookie, at_return))
    }

    /// Whether calls that are not looked at are spared their return probe (Linux 6.13).
    pub fn has_sessions(&self) -> bool {
        matches!(self.backend, Backend::Multi { has_sessions: true, .. })
    }

    /// The ring buffer's user side. Can be taken once.
    pub fn take_ring(&mut self) -> Result<Ring, LoadError> {
        let map = self.ebpf.take_map("EVENTS").ok_or_else(missing_map)?;
        Ring::new(map).map_err(|source| LoadError::Map { name: "EVENTS", source })
    }

    /// Starts forwarding debug messages; call once, with `debug_log` set.
    pub fn take_log(&mut self) -> Option<KernelLog> {
        match aya_log::EbpfLogger::init(&mut self.ebpf) {
            Ok(log) => Some(log),
            Err(error) => {
                log::warn!("no debug messages from the BPF side: {error}");
                None
            }
        }
    }

    /// Arms the entry probes of functions in a file, and the return probes of those that have
    /// one; returns how many probes that made. `file` is the very file that the target maps: the
    /// kernel gets it by descriptor, so that no path is resolved a second time.
    pub fn arm(&mut self, file: BorrowedFd<'_>, sites: &[ProbeSite]) -> Result<usize, LoadError> {
        let shapes: Vec<CallShape> = sites.iter().map(|site| site.shape).collect();
        self.load_programs(&shapes)?;
        if self.has_sessions() && !self.draws() {
            return self.arm_at_once(file, sites);
        }
        let mut armed = 0;
        for side in Side::ALL {
            let sites: Vec<_> =
                sites.iter().copied().filter(|site| Side::of(site.function) == side).collect();
            armed += self.arm_side(file, side, &sites)?;
        }
        Ok(armed)
    }

    /// Whether allocations are looked at: then probes have to come in an order.
    fn draws(&self) -> bool {
        self.config.active != 0 && self.config.interval() != Interval::MAX
    }

    /// Arms all side by side. The kernel waits for a grace period for each link, and for most of them
    /// during the same one.
    fn arm_at_once(
        &mut self,
        file: BorrowedFd<'_>,
        sites: &[ProbeSite],
    ) -> Result<usize, LoadError> {
        let pid = self.pid();
        let Backend::Multi { loaded, .. } = &self.backend else { return Ok(0) };
        let mut groups: BTreeMap<(Side, &'static str), Vec<ProbeSite>> = BTreeMap::new();
        for site in sites {
            let key = (Side::of(site.function), entry_program(site.shape));
            groups.entry(key).or_default().push(*site);
        }
        let links: Vec<_> = thread::scope(|scope| {
            let mut threads = Vec::new();
            for ((side, name), group) in &groups {
                let Some(program) = loaded.get(name) else { continue };
                let points = points(group, program.attachment());
                let link = scope.spawn(move || program.link(file, &points, pid, false));
                threads.push((*side, group, link));
            }
            let join = |thread: ScopedJoinHandle<'_, io::Result<_>>| {
                thread.join().unwrap_or_else(|panic| resume_unwind(panic))
            };
            threads.into_iter().map(|(side, group, link)| (side, group, join(link))).collect()
        });
        for (side, group, link) in links {
            let link = link.map_err(|source| classify_arm_error(group, source.into()))?;
            self.probes.push(Armed { side, link: Link::Multi(link) });
        }
        Ok(sites.len() + sites.iter().filter(|site| site.shape.needs_return()).count())
    }

    fn arm_side(
        &mut self,
        file: BorrowedFd<'_>,
        side: Side,
        sites: &[ProbeSite],
    ) -> Result<usize, LoadError> {
        if self.has_sessions() {
            let halves = sites.iter().filter(|site| site.shape.needs_return()).count();
            return Ok(halves
                + self.arm_half(file, side, sites, |shape| Some(entry_program(shape)), false)?);
        }
        // The return half first: an entry without it would wait for a return that never comes.
        let returns = self.arm_half(file, side, sites, return_program, true)?;
        let entries =
            self.arm_half(file, side, sites, |shape| Some(entry_program(shape)), false)?;
        Ok(returns + entries)
    }

    /// Arms empty programs, as a floor to compare with.
    pub fn arm_empty(
        &mut self,
        file: BorrowedFd<'_>,
        sites: &[ProbeSite],
    ) -> Result<usize, LoadError> {
        let empty_return = |shape: CallShape| shape.needs_return().then_some("empty_return");
        let returns = self.arm_half(file, Side::Mappings, sites, empty_return, true)?;
        Ok(returns + self.arm_half(file, Side::Mappings, sites, |_| Some("empty"), false)?)
    }

    /// Loads what a trace with these sites, or one of growth, needs. It can be done long before, and for
    /// any target: see [`Kernel::aim`].
    ///
    /// # Errors
    /// The kernel's; [`LoadError::NoGrowth`].
    pub fn load_ahead(
        &mut self,
        shapes: &[CallShape],
        growth: Option<&GrowthOptions>,
    ) -> Result<(), LoadError> {
        for name in FOLLOWED {
            self.loaded_program::<RawTracePoint>(name)?;
        }
        if let Some(growth) = growth {
            self.load_growth(growth)?;
        }
        self.load_programs(shapes)
    }

    /// The target from here on; nothing is armed yet.
    ///
    /// # Errors
    /// The kernel's.
    pub fn aim(&mut self, pid: NonZeroU32) -> Result<(), LoadError> {
        self.config.tgid = pid.get();
        self.write_config()
    }

    /// Loads what calls of these shapes need and is not loaded yet, all at once if there is room: the verifier takes
    /// some 50 ms and 5 MiB for the program that walks stacks, and a CPU for each program. Perf-event links
    /// load one by one.
    pub(super) fn load_programs(&mut self, shapes: &[CallShape]) -> Result<(), LoadError> {
        let Backend::Multi { programs, loaded, has_sessions } = &mut self.backend else {
            return Ok(());
        };
        let names: BTreeMap<&'static str, Attachment> = shapes
            .iter()
            .flat_map(|shape| programs_of(*shape, *has_sessions))
            .filter(|name| !loaded.contains_key(name))
            .map(|name| (name, attachment(name, *has_sessions)))
            .collect();
        let at_once = match self.room {
            Room::Ample => names.len(),
            Room::Scarce => 1,
        };
        let Some(programs) = programs else { return Ok(()) };
        for (name, program) in programs.load_all(&names, at_once) {
            let program = program.map_err(|source| classify_program_error(name, source.into()))?;
            loaded.insert(name, program);
        }
        Ok(())
    }

    /// No more of them will be loaded: what is not takes some MiB.
    pub(super) fn forget_unloaded_programs(&mut self) {
        if let Backend::Multi { programs, .. } = &mut self.backend {
            *programs = None;
        }
    }

    fn arm_half(
        &mut self,
        file: BorrowedFd<'_>,
        side: Side,
        sites: &[ProbeSite],
        program_of: impl Fn(CallShape) -> Option<&'static str>,
        at_return: bool,
    ) -> Result<usize, LoadError> {
        let mut groups: BTreeMap<&'static str, Vec<ProbeSite>> = BTreeMap::new();
        for site in sites {
            if let Some(program) = program_of(site.shape) {
                groups.entry(program).or_default().push(*site);
            }
        }
        for (program, group) in &groups {
            if matches!(self.backend, Backend::Multi { .. }) {
                self.arm_multi(program, file, side, group, at_return)?;
            } else {
                group
                    .iter()
                    .try_for_each(|site| self.arm_perf_event(program, file, side, *site))?;
            }
        }
        Ok(groups.values().map(Vec::len).sum())
    }

    fn arm_multi(
        &mut self,
        name: &'static str,
        file: BorrowedFd<'_>,
        side: Side,
        sites: &[ProbeSite],
        at_return: bool,
    ) -> Result<(), LoadError> {
        let pid = self.pid();
        let Backend::Multi { programs, loaded, has_sessions } = &mut self.backend else {
            return Ok(());
        };
        let attachment = attachment(name, *has_sessions);
        let missing = || LoadError::MissingProgram { name: name.to_owned() };
        let program = match loaded.entry(name) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(
                programs
                    .as_ref()
                    .ok_or_else(missing)?
                    .load(name, attachment)
                    .map_err(|source| classify_program_error(name, source.into()))?,
            ),
        };
        let points = points(sites, attachment);
        let link = program
            .link(file, &points, pid, at_return)
            .map_err(|source| classify_arm_error(sites, source.into()))?;
        self.probes.push(Armed { side, link: Link::Multi(link) });
        Ok(())
    }

    fn arm_perf_event(
        &mut self,
        name: &'static str,
        file: BorrowedFd<'_>,
        side: Side,
        site: ProbeSite,
    ) -> Result<(), LoadError> {
        let scope = UProbeScope::OneProcess(self.pid());
        let program: &mut UProbe = self.loaded_program(name)?;
        let point = UProbeAttachPoint {
            location: UProbeAttachLocation::AbsoluteOffset(site.offset),
            cookie: Some(site.cookie(Attachment::Probes).0),
        };
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let link = program
            .attach(point, &path, scope)
            .and_then(|id| program.take_link(id))
            .map_err(|source| classify_arm_error(&[site], source.into()))?;
        self.probes.push(Armed { side, link: Link::PerfEvent(link) });
        Ok(())
    }

    fn pid(&self) -> NonZeroU32 {
        NonZeroU32::new(self.config.tgid).unwrap_or(NonZeroU32::MIN)
    }

    /// Starts to follow forks, execs and ends of threads.
    pub fn follow_process(&mut self) -> Result<(), LoadError> {
        for name in FOLLOWED {
            let program: &mut RawTracePoint = self.loaded_program(name)?;
            let link =
                program.attach(name).and_then(|id| program.take_link(id)).map_err(|source| {
                    LoadError::Program { name: name.to_owned(), source: source.into() }
                })?;
            self.tracepoints.push(link);
        }
        Ok(())
    }

    /// Loads a program that traces, which takes a right of its own, and attaches it nowhere.
    pub fn try_tracing(&mut self) -> Result<(), LoadError> {
        self.loaded_program::<RawTracePoint>(FOLLOWED[0]).map(|_| ())
    }

    pub(super) fn loaded_program<'a, P>(&'a mut self, name: &str) -> Result<&'a mut P, LoadError>
    where
        P: Loadable + 'a,
        &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
    {
        let program: &mut P = self
            .ebpf
            .program_mut(name)
            .ok_or_else(|| LoadError::MissingProgram { name: name.to_owned() })?
            .try_into()
            .map_err(|source: ProgramError| LoadError::Program {
                name: name.to_owned(),
                source: source.into(),
            })?;
        match program.load_program() {
            Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(program),
            Err(source) => Err(classify_program_error(name, source.into())),
        }
    }

    /// Opens or closes the window: one common start and end for all functions.
    pub fn set_active(&mut self, active: bool) -> Result<(), LoadError> {
        self.config.active = u32::from(active);
        self.write_config()
    }

    /// Changes how densely allocations are looked at, from now on: records say by which interval they
    /// were drawn. Blocks that are followed stay so.
    ///
    /// Errors: the kernel's. A kernel that was loaded as [`Sampling::Exact`] stays exact.
    pub fn set_interval(&mut self, interval: Interval) -> Result<(), LoadError> {
        if self.config.remembered_buckets > 0 {
            self.config.interval = interval.exponent().into();
        }
        self.write_config()
    }

    /// How densely allocations are looked at.
    pub fn interval(&self) -> Interval {
        self.config.interval()
    }

    /// Tells which code is the allocators', in the program image that this many execs have led to.
    pub fn set_allocator_code(
        &mut self,
        code: &AllocatorCode,
        execs: u64,
    ) -> Result<(), LoadError> {
        self.config.allocator_code = known(&code.callers);
        self.config.heap_code = known(&code.heap);
        self.config.mapping_code = known(&code.mapping);
        self.config.allocator_code_image = execs;
        self.write_config()
    }

    /// Tells where the return-probe trampoline is mapped in the target; 0 = not known.
    pub fn set_trampoline(&mut self, address: u64) -> Result<(), LoadError> {
        self.config.trampoline = address;
        self.write_config()
    }

    /// Writes a chunk of unwind rows.
    pub fn write_rows(&mut self, number: u32, words: &Chunk) -> Result<(), LoadError> {
        self.write_chunk("ROWS", number, words)
    }

    /// Writes a chunk of the page index.
    pub fn write_pages(&mut self, number: u32, words: &Chunk) -> Result<(), LoadError> {
        self.write_chunk("PAGES", number, words)
    }

    fn write_chunk(
        &mut self,
        name: &'static str,
        number: u32,
        words: &Chunk,
    ) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut(name).ok_or_else(missing_map)?;
        Array::<_, Chunk>::try_from(map)
            .and_then(|mut array| array.set(number, words, 0))
            .map_err(|source| LoadError::Map { name, source })
    }

    /// Writes unwind rules, from number `first` on.
    pub fn write_rules(&mut self, first: u32, rules: &[Rule]) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("RULES").ok_or_else(missing_map)?;
        Array::<_, Rule>::try_from(map)
            .and_then(|mut array| {
                (first..).zip(rules).try_for_each(|(index, rule)| array.set(index, rule, 0))
            })
            .map_err(|source| LoadError::Map { name: "RULES", source })
    }

    /// Publishes the target's executable mappings; the tables that they refer to must have been
    /// written before. Walks under way finish with the version before.
    pub fn publish_mappings(&mut self, mappings: &CodeMappings) -> Result<(), LoadError> {
        let next = 1 - self.config.mappings.min(1);
        self.forget_rules(next)?;
        let map = self.ebpf.map_mut("MAPPINGS").ok_or_else(missing_map)?;
        Array::<_, CodeMappings>::try_from(map)
            .and_then(|mut array| array.set(next, mappings, 0))
            .map_err(|source| LoadError::Map { name: "MAPPINGS", source })?;
        self.config.mappings = next;
        self.config.generation += 1;
        self.write_config()
    }

    /// Empties the memory of rules of a version of the mappings.
    fn forget_rules(&mut self, version: u32) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("MEMOS").ok_or_else(missing_map)?;
        let empty: &Memo = &[0; PLACES];
        Array::<_, Memo>::try_from(map)
            .and_then(|mut array| array.set(version, empty, 0))
            .map_err(|source| LoadError::Map { name: "MEMOS", source })
    }

    /// Tells where the target's CPython has what; from then on stacks have Python frames while the
    /// target executes the image that this is of. It can be told anew at any time.
    pub fn set_python(&mut self, layout: &PythonLayout) -> Result<(), LoadError> {
        // A program may read while the kernel copies: the second copy only changes the one word
        // that makes the layout valid.
        self.write_python(&PythonLayout { kind: PythonKind::Off as u32, ..*layout })?;
        self.write_python(layout)?;
        self.config.generation += 1;
        self.write_config()
    }

    fn write_python(&mut self, layout: &PythonLayout) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("PYTHON").ok_or_else(missing_map)?;
        Array::<_, PythonLayout>::try_from(map)
            .and_then(|mut array| array.set(0, layout, 0))
            .map_err(|source| LoadError::Map { name: "PYTHON", source })
    }

    fn write_config(&mut self) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("CONFIG").ok_or_else(missing_map)?;
        Array::try_from(map)
            .and_then(|mut array| array.set(0, self.config, 0))
            .map_err(|source| LoadError::Map { name: "CONFIG", source })
    }

    /// The kernel side's counters, summed over CPUs.
    pub fn counters(&self) -> Result<KernelCounters, LoadError> {
        let map = self.ebpf.map("COUNTERS").ok_or_else(missing_map)?;
        let values = PerCpuArray::<_, KernelCounters>::try_from(map)
            .and_then(|array| array.get(&0, 0))
            .map_err(|source| LoadError::Map { name: "COUNTERS", source })?;
        let mut sum = KernelCounters::default();
        values.iter().for_each(|counters| sum.add(counters));
        Ok(sum)
    }

    /// Begins to remove the probes of some sides, and does not wait: they are out of the target
    /// within some 10 ms, and the kernel waits for grace periods afterwards.
    pub fn disarm(&mut self, sides: &[Side]) {
        self.leaving.retain(|thread| !thread.is_finished());
        let leaving = self.probes.extract_if(.., |armed| sides.contains(&armed.side));
        // Waiting together takes one grace period.
        let threads = leaving.map(|armed| std::thread::spawn(move || drop(armed.link)));
        self.leaving.extend(threads);
    }

    /// Removes all probes from the target, and waits for that.
    pub(super) fn disarm_all(&mut self) {
        self.disarm(&Side::ALL);
        for thread in self.leaving.drain(..) {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }

    /// Removes all probes; the counters stay readable.
    pub fn detach(&mut self) {
        self.disarm_all();
        self.tracepoints.clear();
        self.growth.clear();
    }
}

/// Ranges as the kernel side has them. More than [`ALLOCATOR_RANGES`] are as good as none.
fn known(code: &[CodeRange]) -> [CodeRange; ALLOCATOR_RANGES] {
    let mut ranges = [CodeRange::default(); ALLOCATOR_RANGES];
    if code.len() <= ALLOCATOR_RANGES {
        ranges[..code.len()].copy_from_slice(code);
    }
    ranges
}

impl ProbeSite {
    /// A malloc that never was.
    const CALIBRATION: Self = Self {
        function: AllocFn::Malloc,
        shape: CallShape::Size,
        arguments: ArgumentPlaces::USUAL,
        site: 0,
        object: ObjectNumber::FIRST,
        is_leaf: true,
        offset: 0,
    };

    fn cookie(self, attachment: Attachment) -> SiteCookie {
        let cookie = SiteCookie::new(self.function, self.shape, self.site, self.object)
            .with_arguments(self.arguments);
        let cookie = if self.is_leaf { cookie.of_a_leaf() } else { cookie };
        match attachment {
            Attachment::Probes => cookie,
            Attachment::Sessions => cookie.of_a_session(),
        }
    }
}

/// As the kernel is told of them.
fn points(sites: &[ProbeSite], attachment: Attachment) -> Vec<multi::Site> {
    let point =
        |site: &ProbeSite| multi::Site { offset: site.offset, cookie: site.cookie(attachment).0 };
    sites.iter().map(point).collect()
}

fn chunks(words: usize) -> u32 {
    words.div_ceil(CHUNK_WORDS).max(1) as u32
}

fn choose_backend(ebpf: &Ebpf) -> Backend {
    let multi = multi::Programs::new(OBJECT, ebpf.maps())
        .and_then(|programs| Ok((programs.load("empty", Attachment::Probes)?, programs)));
    match multi {
        Ok((empty, programs)) if multi::is_supported(&empty) => {
            let has_sessions = has_sessions(&programs);
            let loaded = HashMap::from([("empty", empty)]);
            Backend::Multi { programs: Some(Box::new(programs)), loaded, has_sessions }
        }
        Ok(_) => Backend::PerfEvent,
        Err(error) => {
            log::debug!("no multi-uprobe links, using perf events: {error}");
            Backend::PerfEvent
        }
    }
}

/// Whether the kernel has sessions; one that has not may refuse the program or its link.
fn has_sessions(programs: &multi::Programs) -> bool {
    let empty = programs.load("empty_session", Attachment::Sessions);
    empty.is_ok_and(|empty| multi::is_supported(&empty))
}

/// The programs of a shape.
fn programs_of(shape: CallShape, has_sessions: bool) -> impl Iterator<Item = &'static str> {
    let at_return = return_program(shape).filter(|_| !has_sessions);
    at_return.into_iter().chain([entry_program(shape)])
}

/// What a program is attached as, where the kernel has sessions or not.
fn attachment(program: &str, has_sessions: bool) -> Attachment {
    match program {
        CALLS if has_sessions => Attachment::Sessions,
        _ => Attachment::Probes,
    }
}

/// aya's program types have no common trait for this.
pub(super) trait Loadable {
    fn load_program(&mut self) -> Result<(), ProgramError>;
}

impl Loadable for UProbe {
    fn load_program(&mut self) -> Result<(), ProgramError> {
        self.load()
    }
}

impl Loadable for RawTracePoint {
    fn load_program(&mut self) -> Result<(), ProgramError> {
        self.load()
    }
}

/// The program of all functions whose result matters.
const CALLS: &str = "enter";

fn entry_program(shape: CallShape) -> &'static str {
    match shape {
        CallShape::Block => "enter_block",
        CallShape::PythonBlock => "enter_python_block",
        CallShape::ContextBlock => "enter_context_block",
        CallShape::Nothing => "enter_nothing",
        CallShape::Exit => "leave_by_return",
        CallShape::CallBegin => "begin_call",
        CallShape::CallEnd => "end_call",
        CallShape::Size
        | CallShape::CountSize
        | CallShape::OldSize
        | CallShape::OldCountSize
        | CallShape::InPlace
        | CallShape::Throwing
        | CallShape::AlignSize
        | CallShape::OutAlignSize
        | CallShape::Mmap
        | CallShape::Munmap
        | CallShape::Mremap
        | CallShape::Brk
        | CallShape::Sbrk
        | CallShape::ContextSize
        | CallShape::ContextCountSize
        | CallShape::ContextOldSize => CALLS,
    }
}

fn return_program(shape: CallShape) -> Option<&'static str> {
    match shape {
        CallShape::Block
        | CallShape::PythonBlock
        | CallShape::ContextBlock
        | CallShape::Throwing
        | CallShape::Exit
        | CallShape::CallBegin
        | CallShape::CallEnd
        | CallShape::Nothing => None,
        CallShape::Size
        | CallShape::CountSize
        | CallShape::AlignSize
        | CallShape::ContextSize
        | CallShape::ContextCountSize => Some("leave_block"),
        CallShape::OldSize | CallShape::OldCountSize | CallShape::ContextOldSize => {
            Some("leave_realloc")
        }
        CallShape::OutAlignSize => Some("leave_out_block"),
        CallShape::InPlace => Some("leave_in_place"),
        CallShape::Mmap
        | CallShape::Munmap
        | CallShape::Mremap
        | CallShape::Brk
        | CallShape::Sbrk => Some("leave_mapping"),
    }
}

/// `aya_log::Level::Debug`, as the BPF side compares it.
fn aya_log_level_debug() -> u8 {
    log::Level::Debug as u8
}

/// Kernels before 5.11 charge BPF maps to this limit; later ones ignore it.
fn raise_memlock_limit() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let unlimited = Rlimit { current: None, maximum: None };
    if let Err(error) = setrlimit(Resource::Memlock, unlimited) {
        log::debug!("RLIMIT_MEMLOCK stays as it is: {error}");
    }
}
