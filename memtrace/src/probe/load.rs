//! The BPF object in the kernel: load, arm, open the window, count, detach.

mod arm;
mod options;
mod programs;

use std::{num::NonZeroU32, thread::JoinHandle};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, PerCpuArray},
    programs::{Program, ProgramError, RawTracePoint, UProbe, raw_trace_point::RawTracePointLink},
};
use memtrace_common::{
    config::{ALLOCATOR_RANGES, CodeRange, Config},
    loss::KernelCounters,
    python::{PythonKind, PythonLayout},
    sample::Interval,
    unwind::{
        memo::{Memo, PLACES},
        table::{CHUNK_WORDS, CodeMappings, Rule},
    },
};

use self::arm::{Armed, Backend, choose_backend};
pub use self::{
    arm::ProbeSite,
    options::{LoadOptions, RING_BYTES, Room, Sampling, TableWords},
};
use super::{
    error::{LoadError, classify_object_error, classify_program_error, missing_map},
    growth::GrowthLink,
    plan::AllocatorCode,
    ring::Ring,
};
use crate::model::footprint::GrowthBy;

/// The object that `cargo xtask build-ebpf` made from memtrace-ebpf.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/memtrace.bpf.o"));

/// A chunk of unwind rows or of their page index.
type Chunk = [u32; CHUNK_WORDS];

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

    /// The target from here on; nothing is armed yet.
    ///
    /// # Errors
    /// The kernel's.
    pub fn aim(&mut self, pid: NonZeroU32) -> Result<(), LoadError> {
        self.config.tgid = pid.get();
        self.write_config()
    }

    fn pid(&self) -> NonZeroU32 {
        NonZeroU32::new(self.config.tgid).unwrap_or(NonZeroU32::MIN)
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
}

/// Ranges as the kernel side has them. More than [`ALLOCATOR_RANGES`] are as good as none.
fn known(code: &[CodeRange]) -> [CodeRange; ALLOCATOR_RANGES] {
    let mut ranges = [CodeRange::default(); ALLOCATOR_RANGES];
    if code.len() <= ALLOCATOR_RANGES {
        ranges[..code.len()].copy_from_slice(code);
    }
    ranges
}

fn chunks(words: usize) -> u32 {
    words.div_ceil(CHUNK_WORDS).max(1) as u32
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
