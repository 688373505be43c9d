//! The open window: what is known of the target, and how each record changes it.

mod allocators;
mod booking;
mod budget;
mod doubt;
mod end;
mod exec;
mod family;
mod growth;
mod mappings;
mod memory;
mod unseen;

use std::collections::BTreeMap;

use jiff::Timestamp;

pub use self::end::Ending;
pub(super) use self::family::{Place, SeenFork};
use self::{
    booking::Puzzling,
    exec::Starting,
    unseen::{Calls, Settling},
};
use super::{
    Options,
    attach::{Attached, perf_map},
    code::Code,
    contents::Contents,
    governing::Governing,
    header::header,
    memory::MemoryWatch,
    python::Python,
    recorder::Feed,
    walks::Walks,
};
use crate::{
    allocator::{GivenNames, LateHeaps, pymalloc::ArenaCalls},
    capture::Header,
    growth::Growth,
    ledger::{InheritedHeap, Ledger, Limits, Start},
    model::{
        event::Event,
        mapping::{FileId, Mapping},
        process::PrivatePages,
    },
    probe::{
        load::{Kernel, KernelLog},
        pymalloc::PymallocPlan,
        ring::Ring,
        target::{LeftOut, PlannedObject},
    },
    report::AttachStep,
    symbolize::Symbolizer,
    sys::{
        pidfd::PidFd,
        procfs::{ProcFs, Process},
    },
};

/// Most sites that are told apart: as many as the kernel side tells stacks apart.
const MAX_SITES: usize = 1 << 18;
/// Most mapped ranges that are followed.
const MAX_RANGES: usize = 1 << 20;

/// A trace in progress.
pub(super) struct Window {
    kernel: Kernel,
    kernel_log: Option<KernelLog>,
    proc: ProcFs,
    process: Process,
    objects: Vec<PlannedObject>,
    /// The files in which allocators were looked for.
    files: Vec<FileId>,
    given: Vec<GivenNames>,
    /// CPython's own allocator; `None` when it is not traced.
    pymalloc: Option<PymallocPlan>,
    ledger: Ledger,
    code: Code,
    /// Tells which mappings are Python's small objects.
    arena_calls: ArenaCalls,
    late_heaps: LateHeaps,
    /// What grows is followed, and not calls of allocators.
    growth: Option<Growth>,
    /// Where growth is seen in the program; `None` where it is seen in the kernel alone.
    calls: Option<Calls>,
    /// It is so no longer, since a moment ago.
    settling: Option<Settling>,
    /// What the ledger is to book of an event, see [`Growth::book`].
    grown: Vec<Event>,
    python: Python,
    undecodable: u64,
    /// Of all records so far.
    newest_ns: u64,
    unkept_stacks: u64,
    trampoline_known: bool,
    /// Libraries were loaded or unloaded since the mappings were read.
    code_changed: bool,
    maps_read_ns: u64,
    /// Stacks through code that was not known, since the last look at the mappings.
    puzzling: Vec<Puzzling>,
    opened_ns: u64,
    started_at: Timestamp,
    attach_ns: u64,
    attach_steps: Vec<AttachStep>,
    probes: usize,
    memory: MemoryWatch,
    walks: Walks,
    notes: Vec<String>,
    header: Header,
    thread_names: BTreeMap<u32, String>,
    /// Takes what the capture is to hold; `None` when there is to be none.
    recorder: Option<Feed>,
    /// Its place among several; `None` where it is alone.
    place: Option<Place>,
    /// What it has of its parent's heap; `None` where that is not known.
    inherited: Option<InheritedHeap>,
    pages_before: Option<PrivatePages>,
    /// Children that nobody has asked for yet.
    forks: Vec<SeenFork>,
    governing: Governing,
    /// Was executed and cannot be traced yet.
    starting: Option<Starting>,
    /// What blocks hold whose release may be missed, by the number of the program.
    contents: Option<(u64, Contents)>,
}

impl Window {
    /// Takes over an attached target; hands back what the loop waits for.
    pub(super) fn open(
        attached: Attached,
        options: &Options,
        place: Option<Place>,
    ) -> (Self, Ring, PidFd) {
        let header = header(&attached, options);
        let Attached {
            kernel,
            ring,
            kernel_log,
            code: tables,
            debug_roots,
            python,
            pidfd,
            proc,
            process,
            objects,
            maps,
            left_out,
            files,
            mut pymalloc,
            attach_steps,
            governing,
            calls,
            ..
        } = attached;
        let symbolizer = Symbolizer::with_names(debug_roots, perf_map(&proc, &process))
            .with_python_frames(options.python);
        let mut code = Code::new(tables, symbolizer);
        code.add_names(&proc, process.pid, &maps);
        let limits =
            Limits { live_blocks: options.max_live, live_ranges: MAX_RANGES, sites: MAX_SITES };
        let start = Start {
            time_ns: attached.opened_ns,
            initial_break: header.initial_break,
            page_bytes: rustix::param::page_size() as u64,
        };
        let mut arena_calls = ArenaCalls::new(options.pymalloc);
        arena_calls.learn(&maps);
        let mut late_heaps = LateHeaps::default();
        late_heaps.learn(&maps);
        let mut window = Self {
            kernel,
            kernel_log,
            ledger: Ledger::new(limits, start),
            code,
            arena_calls,
            late_heaps,
            growth: options
                .growth
                .map(|_| Growth::new(start.page_bytes, header.initial_break, &maps)),
            calls: calls.map(|calls| Calls::new(calls, options.growth_by)),
            settling: None,
            grown: Vec::new(),
            python,
            undecodable: 0,
            newest_ns: 0,
            unkept_stacks: 0,
            trampoline_known: false,
            code_changed: false,
            maps_read_ns: attached.opened_ns,
            puzzling: Vec::new(),
            opened_ns: attached.opened_ns,
            started_at: attached.started_at,
            attach_ns: attached.attach_ns,
            attach_steps,
            probes: attached.probes,
            memory: MemoryWatch::begin(&proc, &process, attached.opened_ns),
            notes: left_out
                .iter()
                .map(left_out_note)
                .chain(pymalloc.notes.drain(..))
                .chain(header.growth.and_then(super::growth::note))
                .collect(),
            walks: Walks::new(attached.opened_ns, options.from_start),
            proc,
            process,
            objects,
            files,
            given: options.allocator_symbols.clone(),
            pymalloc: options.pymalloc.then_some(pymalloc),
            thread_names: BTreeMap::new(),
            recorder: None,
            header,
            inherited: place.as_ref().and_then(|it| it.heap.as_ref()).map(InheritedHeap::new),
            place,
            pages_before: None,
            forks: Vec::new(),
            governing,
            starting: None,
            contents: None,
        };
        window.read_thread_names();
        window.look_at_pages();
        window.learn_mappings();
        if options.reset_peak {
            window.reset_peak();
        }
        (window, ring, pidfd)
    }

    fn reset_peak(&mut self) {
        if let Err(error) = self.memory.reset_peak() {
            self.notes
                .push(format!("the peak of RSS before the window was not forgotten: {error}"));
        }
    }

    /// What happens from here on goes there.
    pub(super) fn record_to(&mut self, mut feed: Feed) {
        if let Some(place) = &self.place {
            feed.begin(place.begun(self.header.clone()));
        }
        self.recorder = Some(feed);
        self.record_modules();
    }

    /// What was known when it was opened.
    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// What a reader must know of it, if anything.
    pub(super) fn notes_of_start(&mut self, note: Option<String>) {
        self.notes.extend(note);
    }

    fn record_modules(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            recorder.modules(self.code.modules());
        }
    }

    /// Threads come and go, and change their names: the last that was seen is kept.
    fn read_thread_names(&mut self) {
        self.thread_names.extend(self.proc.thread_names(self.process.pid));
    }

    /// The target, for people.
    pub(super) fn target(&self) -> String {
        format!("{} ({})", self.process.pid, self.process.command)
    }

    /// How many probes are armed.
    pub(super) fn probes(&self) -> usize {
        self.probes
    }

    /// How long the attach took.
    pub(super) fn attach_ns(&self) -> u64 {
        self.attach_ns
    }
}

/// Where the program break is, to the page: the end of `[heap]`.
pub(super) fn program_break(maps: &[Mapping]) -> Option<u64> {
    maps.iter().find(|mapping| mapping.name == "[heap]").map(|mapping| mapping.end)
}

fn left_out_note(object: &LeftOut) -> String {
    format!("{} is not traced: {}", object.path, object.reason)
}
