//! The open window: what is known of the target, and how each record changes it.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use jiff::Timestamp;
use memtrace_common::loss::KernelCounters;

use super::{
    Options, Sample,
    attach::{Attached, First, allocator_code, arm},
    code::Code,
    header::header,
    memory::MemoryWatch,
    python::Python,
    recorder::{Recorder, Sink},
    walker::{MOST_BLOCKS, NoWalk, Request, Walk},
    walks::Walks,
};
use crate::{
    allocator::{GivenNames, LateHeaps, pymalloc::ArenaCalls},
    capture::{self, Header, KeptEvent},
    decode::decode,
    ledger::{Ledger, Limits, Start},
    model::{
        AllocFn,
        event::{Action, Event},
        mapping::{FileId, Mapping},
        stack::{Frame, RawStack, StackId},
        timeline::Timeline,
    },
    probe::{
        load::{Kernel, KernelLog},
        pymalloc::{PymallocPlan, plan_pymalloc},
        ring::Ring,
        target::{LeftOut, PlannedObject, TargetPlan, executable_files, plan_loaded, plan_target},
    },
    report::{self, AttachStep, EndReason, Rss},
    symbolize::Observed,
    sys::{
        clock,
        kernel::KernelVersion,
        pidfd::PidFd,
        procfs::{ProcFs, Process, uprobe_trampoline},
    },
};

/// Most sites that are told apart: as many as the kernel side tells stacks apart.
const MAX_SITES: usize = 1 << 18;
/// Most mapped ranges that are followed.
const MAX_RANGES: usize = 1 << 20;
/// New code in the target is looked for at most this often.
const MAPS_REFRESH_NS: u64 = 50_000_000;
/// Most stacks that wait for the next look; each is sent by the kernel side only once.
const MAX_PUZZLING: usize = 1024;

/// A stack through code that is not known.
struct Puzzling {
    id: StackId,
    stack: RawStack,
    /// Names of its Python frames, as they were when it arrived.
    python: Vec<Option<Arc<Frame>>>,
}

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
    python: Python,
    undecodable: u64,
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
    /// Writes the capture; `None` when there is to be none.
    recorder: Option<Recorder>,
}

/// A finished trace, for the report.
pub struct Ending {
    /// The target, as it was at the attach.
    pub process: Process,
    /// What was probed.
    pub objects: Vec<PlannedObject>,
    /// The accounting.
    pub ledger: Ledger,
    /// Names the stacks.
    pub(super) code: Code,
    /// The target's Python.
    pub(super) python: Python,
    /// The kernel side's counters.
    pub counters: KernelCounters,
    /// Records that could not be decoded.
    pub undecodable: u64,
    /// Stacks that were sent but did not fit into the table.
    pub unkept_stacks: u64,
    /// RSS from start to end.
    pub rss: Rss,
    /// The same in between.
    pub timeline: Timeline,
    /// The heap at both ends.
    pub walks: report::Walks,
    /// When the window was opened.
    pub started_at: Timestamp,
    /// `CLOCK_MONOTONIC` when the window was closed.
    pub closed_ns: u64,
    /// Its length.
    pub duration_ns: u64,
    /// Why it was closed.
    pub reason: EndReason,
    /// From the start of the attach to the opened window.
    pub attach_ns: u64,
    /// Where that time went.
    pub attach_steps: Vec<AttachStep>,
    /// From the closed window to the last probe's removal.
    pub detach_ns: u64,
    /// What a reader must know besides.
    pub notes: Vec<String>,
    /// What was known when the window was opened.
    pub header: Header,
    /// Names of threads, as far as they were seen.
    pub thread_names: BTreeMap<u32, String>,
    /// Writes the rest of the capture.
    pub recorder: Option<Recorder>,
}

impl Window {
    /// Takes over an attached target; hands back what the loop waits for.
    pub(super) fn open(
        attached: Attached,
        options: &Options,
        sink: Option<Sink>,
    ) -> (Self, Ring, PidFd) {
        let header = header(&attached, options);
        let Attached {
            kernel,
            ring,
            kernel_log,
            code,
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
            ..
        } = attached;
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
            python,
            undecodable: 0,
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
            notes: left_out.iter().map(left_out_note).chain(pymalloc.notes.drain(..)).collect(),
            walks: Walks::new(attached.opened_ns),
            proc,
            process,
            objects,
            files,
            given: options.allocator_symbols.clone(),
            pymalloc: options.pymalloc.then_some(pymalloc),
            thread_names: BTreeMap::new(),
            recorder: None,
            header,
        };
        window.read_thread_names();
        window.start_recorder(sink);
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

    fn start_recorder(&mut self, sink: Option<Sink>) {
        match sink.map(|sink| Recorder::start(sink, &self.header)).transpose() {
            Ok(recorder) => self.recorder = recorder,
            Err(error) => self.notes.push(format!("there is no capture: {error}")),
        }
        self.record_modules();
    }

    fn record_modules(&mut self) {
        if let Some(recorder) = &self.recorder {
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

    /// Books up to `limit` waiting records.
    pub(super) fn drain(&mut self, ring: &mut Ring, limit: usize) -> usize {
        if let Some(log) = &mut self.kernel_log {
            log.flush();
        }
        let drained = ring.drain(limit, |record| self.book(record));
        self.solve_puzzles();
        if drained > 0 && !self.trampoline_known {
            self.find_trampoline();
        }
        if std::mem::take(&mut self.code_changed) || self.python.is_due(clock::monotonic_ns()) {
            self.read_mappings();
        }
        drained
    }

    fn book(&mut self, record: &[u8]) {
        let Ok(event) = decode(record) else {
            self.undecodable += 1;
            return;
        };
        match &event.action {
            Action::Stack { id, stack } => self.observe(*id, stack, event.time_ns),
            Action::Exec => {
                self.book_memory(event.clone());
                self.follow_exec(&event);
            }
            Action::CodeChange => self.code_changed = true,
            _ => self.book_memory(event),
        }
    }

    fn book_memory(&mut self, event: Event) {
        let is_arena = self.arena_calls.is_arena(&event);
        let event = if is_arena { event } else { self.late_heaps.attribute(event) };
        let kept = KeptEvent { event, is_arena, is_unseen: false };
        capture::apply(&mut self.ledger, &kept);
        if let Some(recorder) = &mut self.recorder {
            recorder.event(kept);
        }
    }

    /// Resolves a new stack while the target is there to be asked where its code came from.
    fn observe(&mut self, id: StackId, stack: &RawStack, taken_ns: u64) {
        self.arena_calls.observe(id, stack);
        self.late_heaps.observe(id, stack);
        let python = self.python.name(stack, taken_ns);
        if let Some(recorder) = &mut self.recorder {
            recorder.stack(id, stack, &python);
        }
        match self.code.observe(id, stack, &python) {
            Observed::UnknownMapping if self.puzzling.len() < MAX_PUZZLING => {
                self.puzzling.push(Puzzling { id, stack: stack.clone(), python });
            }
            Observed::TableFull => self.unkept_stacks += 1,
            Observed::UnknownMapping | Observed::Kept => {}
        }
    }

    /// Looks for the code that was not known, now or when the time for a look has come.
    fn solve_puzzles(&mut self) {
        if self.puzzling.is_empty() || !self.refresh_mappings() {
            return;
        }
        for Puzzling { id, stack, python } in std::mem::take(&mut self.puzzling) {
            self.code.observe(id, &stack, &python);
        }
    }

    /// Reads the mappings again, unless that was just done; the target may have loaded a library.
    fn refresh_mappings(&mut self) -> bool {
        let now = clock::monotonic_ns();
        if now.saturating_sub(self.maps_read_ns) < MAPS_REFRESH_NS {
            return false;
        }
        self.read_mappings()
    }

    fn read_mappings(&mut self) -> bool {
        self.maps_read_ns = clock::monotonic_ns();
        let Ok(maps) = self.proc.maps(self.process.pid) else { return false };
        self.add_mappings(&maps);
        self.look_for_allocators(&maps);
        true
    }

    fn add_mappings(&mut self, maps: &[Mapping]) {
        self.code.add(&self.proc, self.process.pid, maps);
        self.arena_calls.learn(maps);
        self.late_heaps.learn(maps);
        if let Err(error) = self.code.publish(&mut self.kernel, maps) {
            self.notes.push(format!("stacks may be incomplete in code loaded later: {error}"));
        }
        self.look_for_python(maps);
        self.record_modules();
    }

    /// Arms the allocators in libraries that were loaded since.
    fn look_for_allocators(&mut self, maps: &[Mapping]) {
        if executable_files(maps).iter().all(|file| self.files.contains(file)) {
            return;
        }
        if let Err(error) = self.arm_loaded(maps) {
            self.notes.push(format!("an allocator that was loaded is not traced: {error}"));
        }
    }

    fn arm_loaded(&mut self, maps: &[Mapping]) -> Result<(), super::AttachError> {
        let pid = self.process.pid;
        let version = self.proc.kernel_version().map_err(super::AttachError::KernelVersion)?;
        let TargetPlan { mut objects, left_out, files, .. } =
            plan_loaded(&self.proc, pid, maps, version, &self.given, &self.files)?;
        self.files.extend(files);
        self.notes.extend(left_out.iter().map(left_out_note));
        if objects.is_empty() {
            return Ok(());
        }
        let first = First::after(&self.objects);
        let armed = self.objects.iter().chain(&objects);
        let code = allocator_code(armed, &self.process.executable);
        self.kernel.set_allocator_code(&code, self.ledger.totals().execs)?;
        self.probes += arm(&mut self.kernel, &objects, &self.proc, pid, first)?;
        let armed_after_ns = clock::monotonic_ns().saturating_sub(self.opened_ns);
        for object in &mut objects {
            object.armed_after_ns = Some(armed_after_ns);
            self.notes.push(loaded_note(object, armed_after_ns));
        }
        self.objects.append(&mut objects);
        Ok(())
    }

    /// In code that was loaded since, or that has begun to run.
    fn look_for_python(&mut self, maps: &[Mapping]) {
        if !self.python.may_be_new(maps, clock::monotonic_ns()) {
            return;
        }
        let image = self.ledger.totals().execs;
        let layout = self.python.look(&self.proc, self.process.pid, maps, image);
        if let Some(Err(error)) = layout.map(|layout| self.kernel.set_python(&layout)) {
            self.notes.push(format!("Python frames are missing: {error}"));
        }
        self.python.set_retry(clock::monotonic_ns());
    }

    /// Tells the kernel side where return addresses are redirected to, which exists from the first
    /// return probe's hit on.
    fn find_trampoline(&mut self) {
        let found = self.proc.maps(self.process.pid).ok().and_then(|maps| uprobe_trampoline(&maps));
        if let Some(address) = found {
            self.trampoline_known = true;
            if let Err(error) = self.kernel.set_trampoline(address) {
                log::warn!("{error}");
            }
        }
    }

    /// The target runs another program now: other mappings, perhaps another allocator. Probes on
    /// files that both programs map are there already.
    fn follow_exec(&mut self, event: &Event) {
        let pid = self.process.pid;
        self.trampoline_known = false;
        if let Err(error) = self.kernel.set_trampoline(0) {
            log::warn!("{error}");
        }
        self.code.forget_mappings();
        self.python.forget();
        self.arena_calls.forget();
        self.late_heaps = LateHeaps::default();
        self.walks.forget_program();
        let after = crate::model::size::duration_ns(event.time_ns.saturating_sub(self.opened_ns));
        let Ok(maps) = self.proc.maps(pid) else { return };
        self.add_mappings(&maps);
        let program = self.proc.process(pid).map(|process| process.executable).unwrap_or_default();
        let outcome = match self.arm_new_objects(&maps, &program) {
            Ok(since) => since.to_owned(),
            Err(error) => format!("it is not traced: {error}"),
        };
        self.notes.push(format!("after {after} the target executed {program}; {outcome}"));
    }

    fn arm_new_objects(
        &mut self,
        maps: &[Mapping],
        executable: &str,
    ) -> Result<&'static str, super::AttachError> {
        let pid = self.process.pid;
        let version = self.proc.kernel_version().map_err(super::AttachError::KernelVersion)?;
        let known: Vec<Option<FileId>> =
            self.objects.iter().map(|object| object.plan.mapping.file).collect();
        let TargetPlan { mut objects, left_out, files, .. } =
            plan_target(&self.proc, pid, maps, version, &self.given)?;
        self.files = files;
        self.notes.extend(left_out.iter().map(left_out_note));
        self.plan_pymalloc(maps, version, &mut objects);
        let code = allocator_code(&objects, executable);
        self.kernel.set_allocator_code(&code, self.ledger.totals().execs)?;
        let is_armed = |object: &PlannedObject| {
            let allocators = known.iter().zip(&self.objects);
            allocators.into_iter().any(|(file, armed)| {
                *file == object.plan.mapping.file && armed.plan.is_of_same(&object.plan)
            })
        };
        objects.retain(|object| !is_armed(object));
        let first = First::after(&self.objects);
        self.probes += arm(&mut self.kernel, &objects, &self.proc, pid, first)?;
        let since = if objects.is_empty() {
            "it is traced from its start"
        } else {
            "it is traced since shortly after"
        };
        self.objects.append(&mut objects);
        Ok(since)
    }

    /// Plans CPython's allocator anew, for the program that runs since.
    fn plan_pymalloc(
        &mut self,
        maps: &[Mapping],
        version: KernelVersion,
        objects: &mut Vec<PlannedObject>,
    ) {
        let Some(pymalloc) = &mut self.pymalloc else { return };
        match plan_pymalloc(&self.proc, self.process.pid, maps, version) {
            Ok(mut plan) => {
                objects.append(&mut plan.objects);
                self.notes.append(&mut plan.notes);
                *pymalloc = plan;
            }
            Err(error) => {
                self.notes.push(error.to_string());
                *pymalloc = PymallocPlan::default();
            }
        }
    }

    /// A table that changed in the window leads to functions without probes.
    fn check_pymalloc(&mut self) {
        let pymalloc = self.pymalloc.as_ref();
        if pymalloc.is_some_and(|plan| plan.has_changed(&self.proc, self.process.pid)) {
            let note = "the program exchanged the functions of Python's allocator in the window \
                        (tracemalloc does when it starts and stops): objects may be missing, and \
                        what never seems freed may have been";
            self.notes.push(note.to_owned());
        }
    }

    /// How the trace goes.
    pub(super) fn sample(&mut self) -> Sample {
        self.memory.look_at_group();
        let totals = self.ledger.totals();
        let ring_full: u64 =
            self.kernel.counters().map(|counters| counters.ring_full.iter().sum()).unwrap_or(0);
        Sample {
            elapsed_ns: clock::monotonic_ns().saturating_sub(self.opened_ns),
            events: totals.events,
            lost: ring_full + self.undecodable,
            live_bytes: totals.heap.live.bytes,
            rss_bytes: self.memory.rss_bytes(),
        }
    }

    /// Adds a sample to the timeline.
    pub(super) fn sample_memory(&mut self) {
        let sample = self.memory.sample(self.live_bytes());
        if let (Some(recorder), Some(sample)) = (&mut self.recorder, sample) {
            recorder.sample(sample);
        }
    }

    /// What was allocated or mapped in the window and is still there.
    fn live_bytes(&self) -> u64 {
        let totals = self.ledger.totals();
        totals.heap.live.bytes.saturating_add(totals.mappings.live.bytes)
    }

    /// What the next walk of the heap is to look for.
    pub(super) fn walk_request(&self, is_last: bool) -> Request {
        let suspects = is_last.then(|| self.ledger.suspects(MOST_BLOCKS));
        Request { image: self.ledger.totals().execs, suspects }
    }

    /// Takes a walk, unless it is of a program that the target does not run any more. `false` when
    /// another one is wanted at once.
    pub(super) fn take_walk(&mut self, walked: Option<Result<Box<Walk>, NoWalk>>) -> bool {
        let image = self.ledger.totals().execs;
        match walked {
            Some(Ok(walk)) if !self.is_same_process(&walk) => {}
            Some(Ok(walk)) if walk.image == image => {
                self.memory.add_walk(&walk.census);
                return self.walks.add(*walk);
            }
            Some(Err(miss)) if miss.image == image => self.walks.miss(&miss),
            Some(_) => {}
            None => self.walks.note("the heap was not walked: its walker has ended".to_owned()),
        }
        true
    }

    fn is_same_process(&self, walk: &Walk) -> bool {
        walk.start_time_ticks == self.process.start_time_ticks
    }

    /// Books what the last walk found to be free, also in the capture.
    fn finish_walks(&mut self, closed_ns: u64) -> report::Walks {
        let recorder = &mut self.recorder;
        let walks = std::mem::take(&mut self.walks);
        walks.finish(&mut self.ledger, |block| {
            let action = Action::Free { address: block.address.get() };
            let function = AllocFn::Free;
            let event = Event {
                function,
                tid: 0,
                time_ns: closed_ns,
                internal: false,
                interval: Default::default(),
                object: Default::default(),
                action,
            };
            if let Some(recorder) = recorder {
                recorder.event(KeptEvent { event, is_arena: false, is_unseen: true });
            }
        })
    }

    /// The last walk took too long, or whoever waits for it did not want to.
    pub(super) fn miss_last_walk(&mut self) {
        let note = "the walk of the heap at the end was not waited for: what it is like then is \
                    not known, and survivors were not looked for in it";
        self.walks.note(note.to_owned());
    }

    /// Closes the window, books what is waiting, and removes all probes.
    pub(super) fn close(mut self, mut ring: Ring, reason: EndReason) -> Ending {
        let closed_ns = clock::monotonic_ns();
        self.read_thread_names();
        self.check_pymalloc();
        if let Err(error) = self.kernel.set_active(false) {
            self.notes.push(format!("the window could not be closed at one moment: {error}"));
        }
        self.drain(&mut ring, usize::MAX);
        self.memory.sample_end(self.live_bytes());
        let detaching = Instant::now();
        self.kernel.detach();
        let detach_ns = detaching.elapsed().as_nanos() as u64;
        // A program that ran on another CPU when the window was closed may have finished since.
        self.drain(&mut ring, usize::MAX);
        let counters = self.kernel.counters().unwrap_or_else(|error| {
            self.notes.push(format!("losses in the kernel are not known: {error}"));
            KernelCounters::default()
        });
        self.notes.append(&mut self.walks.notes);
        let walks = self.finish_walks(closed_ns);
        let (rss, timeline) = self.memory.finish();
        Ending {
            process: self.process,
            objects: self.objects,
            ledger: self.ledger,
            code: self.code,
            python: self.python,
            counters,
            undecodable: self.undecodable,
            unkept_stacks: self.unkept_stacks,
            rss,
            timeline,
            walks,
            started_at: self.started_at,
            closed_ns,
            duration_ns: closed_ns.saturating_sub(self.opened_ns),
            reason,
            attach_ns: self.attach_ns,
            attach_steps: self.attach_steps,
            detach_ns,
            notes: self.notes,
            header: self.header,
            thread_names: self.thread_names,
            recorder: self.recorder,
        }
    }
}

/// Where the program break is, to the page: the end of `[heap]`.
pub(super) fn program_break(maps: &[Mapping]) -> Option<u64> {
    maps.iter().find(|mapping| mapping.name == "[heap]").map(|mapping| mapping.end)
}

/// From when on the report knows of an allocator.
fn loaded_note(object: &PlannedObject, armed_after_ns: u64) -> String {
    format!(
        "{} of {} was loaded in the window and is traced since {} after it was opened; what it \
         served before is not known",
        object.plan.allocator.name(),
        object.plan.mapping.name,
        crate::model::size::duration_ns(armed_after_ns)
    )
}

fn left_out_note(object: &LeftOut) -> String {
    format!("{} is not traced: {}", object.path, object.reason)
}
