//! What an attach takes, made ready long before it is needed: programs that are verified, unwind tables
//! of the code that the target runs, and the plan of its probes. An attach has only links to make then.

use std::time::{Duration, Instant};

use memtrace_common::growth::GrowthConfig;

use super::{
    Options,
    attach::{AttachError, BPF_LOOP_SINCE, identify, wanted_tgid},
    code::CodeTables,
    compile::Effort,
    growth,
};
use crate::{
    capture::Header,
    model::{CallShape, footprint::GrowthBy, mapping::Mapping},
    probe::{
        calls::{CallPlan, plan_calls},
        growth::GrowthOptions,
        load::{Kernel, LoadOptions, Room, TableWords},
        target::{PlannedObject, TargetPlan, plan_target},
    },
    sys::{kernel::KernelVersion, preserve::give_back, procfs::ProcFs},
};

/// What does not fit into tables that were made before is worth new ones if there is as much time:
/// programs are verified anew.
const WORTH_NEW_TABLES: Duration = Duration::from_secs(30);

/// See the module. It is of no process, but fits the one best that it was made for last.
pub struct Prepared {
    /// `None` of what is left of a trace: the kernel's part ends with it.
    kernel: Option<Kernel>,
    code: CodeTables,
    growth: Option<GrowthConfig>,
    plan: Option<Plan>,
    former: Former,
}

/// What the programs of the trace before were for.
#[derive(Default)]
pub(super) struct Former {
    shapes: Vec<CallShape>,
    /// Growth was seen in the program.
    knows_calls: bool,
}

impl Former {
    pub(super) fn of(objects: &[PlannedObject], header: &Header) -> Self {
        let knows_calls = header.growth.is_some_and(|it| it.in_program);
        Self { shapes: shapes(objects), knows_calls }
    }
}

/// A plan, and the code that was mapped when it was made.
struct Plan {
    pid: u32,
    code: Vec<Mapping>,
    plan: Planned,
}

/// Where the probes in a process go.
#[derive(Default)]
pub(super) struct Planned {
    /// At calls of allocators; none where growth is followed.
    pub(super) allocators: TargetPlan,
    /// At system calls; only where growth is followed.
    pub(super) calls: CallPlan,
}

impl Prepared {
    /// Makes ready what a trace of `options.pid` takes, out of what there was before; on this thread
    /// alone. As soon as `is_urgent`, no more tables are compiled. Heap that is free is given back.
    ///
    /// # Errors
    /// Whatever would stand in the way of the trace, too.
    pub fn make(
        options: &Options,
        before: Option<Self>,
        is_urgent: &(dyn Fn() -> bool + Sync),
    ) -> Result<Self, AttachError> {
        let (proc, pid) = (ProcFs::new("/proc"), options.pid.get());
        identify(&proc, pid)?;
        let version = proc.kernel_version().map_err(AttachError::KernelVersion)?;
        let maps = proc.maps(pid)?;
        let effort = Effort { threads: 1, may_go_on: &|| !is_urgent(), can_be_resumed: true };
        let (mut code, kernel, growth, plan) = match before {
            Some(it) => (it.code, it.kernel, it.growth, it.plan),
            None => (CodeTables::of(options), None, None, None),
        };
        code.add_with(&proc, pid, &maps, &effort);
        let kernel = kernel.filter(|_| !code.is_full());
        if kernel.is_none() && code.is_full() {
            code = CodeTables::of(options);
            code.add_with(&proc, pid, &maps, &effort);
        }
        let plan = match plan.filter(|plan| plan.is_of(pid, &maps)) {
            Some(plan) => plan,
            None => Plan::make(&proc, pid, &maps, version, options)?,
        };
        let growth = growth_config(options, growth)?;
        let mut kernel = match kernel {
            Some(kernel) => kernel,
            None => load(options, version, &mut code)?,
        };
        let followed = growth
            .map(|config| GrowthOptions { config, knows_calls: plan.plan.calls.is_complete() });
        kernel.load_ahead(&plan.shapes(), followed.as_ref())?;
        code.publish(&mut kernel, &maps)?;
        let kernel = Some(kernel);
        Ok(Self { kernel, code, growth, plan: Some(plan), former: Former::default() })
    }

    /// What is left of a trace.
    pub(super) fn out_of(code: CodeTables, former: Former) -> Self {
        Self { kernel: None, code, growth: None, plan: None, former }
    }

    /// Whether the kernel has verified the programs.
    pub fn is_loaded(&self) -> bool {
        self.kernel.is_some()
    }

    /// Has the kernel verify what the trace before had, for the next process that runs the same code,
    /// before it is there.
    ///
    /// # Errors
    /// Whatever would stand in the way of a trace, too.
    pub fn load(mut self, options: &Options) -> Result<Self, AttachError> {
        let version = ProcFs::new("/proc").kernel_version().map_err(AttachError::KernelVersion)?;
        self.growth = growth_config(options, self.growth)?;
        let mut kernel = load(options, version, &mut self.code)?;
        let Former { shapes, knows_calls } = &self.former;
        let followed =
            self.growth.map(|config| GrowthOptions { config, knows_calls: *knows_calls });
        kernel.load_ahead(shapes, followed.as_ref())?;
        self.code.publish(&mut kernel, &[])?;
        self.kernel = Some(kernel);
        Ok(self)
    }
}

fn growth_config(
    options: &Options,
    known: Option<GrowthConfig>,
) -> Result<Option<GrowthConfig>, AttachError> {
    match (options.growth, known) {
        (Some(interval), None) => growth::config(interval).map(Some),
        (_, known) => Ok(known),
    }
}

/// What an attach begins with: nothing, or what was made ready.
#[derive(Default)]
pub(super) struct Start {
    kernel: Option<Kernel>,
    code: Option<CodeTables>,
    growth: Option<GrowthConfig>,
    plan: Option<Plan>,
}

impl From<Prepared> for Start {
    fn from(prepared: Prepared) -> Self {
        let Prepared { kernel, code, growth, plan, .. } = prepared;
        Self { kernel, code: Some(code), growth, plan }
    }
}

impl Start {
    /// The plan of these mappings, if there is one.
    pub(super) fn take_plan(&mut self, pid: u32, maps: &[Mapping]) -> Option<Planned> {
        self.plan.take().filter(|plan| plan.is_of(pid, maps)).map(|plan| plan.plan)
    }

    /// The tables of all code that there is time for.
    pub(super) fn tables(
        &mut self,
        options: &Options,
        proc: &ProcFs,
        pid: u32,
        maps: &[Mapping],
    ) -> CodeTables {
        let begun = Instant::now();
        let left = options.latest_end.map(|end| end.saturating_duration_since(begun));
        // Verifying takes as long, where it has not been done.
        let may_go_on = || left.is_none_or(|left| begun.elapsed() < left / 2);
        let effort = Effort { may_go_on: &may_go_on, ..Effort::FULL };
        let mut code = self.code.take().unwrap_or_else(|| CodeTables::of(options));
        code.add_with(proc, pid, maps, &effort);
        if code.is_full() && left.is_none_or(|left| left > WORTH_NEW_TABLES) {
            self.kernel = None;
            code = CodeTables::of(options);
            code.add_with(proc, pid, maps, &effort);
        }
        code
    }

    /// The maps, and what programs are loaded already.
    pub(super) fn kernel(
        &mut self,
        options: &Options,
        version: KernelVersion,
        code: &mut CodeTables,
    ) -> Result<Kernel, AttachError> {
        let Some(mut kernel) = self.kernel.take() else { return load(options, version, code) };
        kernel.aim(options.pid)?;
        Ok(kernel)
    }

    /// Where the kernel has what; only for following growth.
    pub(super) fn growth(
        &self,
        interval: memtrace_common::sample::Interval,
    ) -> Result<GrowthConfig, AttachError> {
        self.growth.map_or_else(|| growth::config(interval), Ok)
    }
}

impl Plan {
    fn make(
        proc: &ProcFs,
        pid: u32,
        maps: &[Mapping],
        version: KernelVersion,
        options: &Options,
    ) -> Result<Self, AttachError> {
        let plan = Planned::make(proc, pid, maps, version, options)?;
        Ok(Self { pid, code: code_of(maps), plan })
    }

    fn is_of(&self, pid: u32, maps: &[Mapping]) -> bool {
        self.pid == pid && self.code == code_of(maps)
    }

    fn shapes(&self) -> Vec<CallShape> {
        let TargetPlan { objects, loader, .. } = &self.plan.allocators;
        shapes(objects.iter().chain(loader))
    }
}

fn shapes<'o>(objects: impl IntoIterator<Item = &'o PlannedObject>) -> Vec<CallShape> {
    let probes = objects.into_iter().flat_map(|it| &it.plan.probes);
    probes.map(|probe| probe.shape).collect()
}

impl Planned {
    /// Looks for them.
    pub(super) fn make(
        proc: &ProcFs,
        pid: u32,
        maps: &[Mapping],
        version: KernelVersion,
        options: &Options,
    ) -> Result<Self, AttachError> {
        let mut planned = Self::default();
        if options.growth.is_none() {
            planned.allocators = plan_target(proc, pid, maps, version, &options.allocator_symbols)?;
        } else if options.growth_by != GrowthBy::Kernel {
            planned.calls = plan_calls(proc, pid, maps, version, &[]);
        }
        Ok(planned)
    }
}

/// Mappings of code in files.
fn code_of(maps: &[Mapping]) -> Vec<Mapping> {
    maps.iter().filter(|it| it.permissions.execute && it.file.is_some()).cloned().collect()
}

/// [`create`], where memory is scarce with heap given back that is free by now: compiling takes as much as
/// the programs that are to be verified next, and so does reading the kernel's types.
fn load(
    options: &Options,
    version: KernelVersion,
    code: &mut CodeTables,
) -> Result<Kernel, AttachError> {
    if options.room != Room::Scarce {
        return create(options, version, code);
    }
    give_back();
    let kernel = create(options, version, code)?;
    give_back();
    Ok(kernel)
}

/// Creates maps that have room for these tables and some more.
fn create(
    options: &Options,
    version: KernelVersion,
    code: &mut CodeTables,
) -> Result<Kernel, AttachError> {
    let words: TableWords = code.table_words();
    let kernel = Kernel::load(LoadOptions {
        pid: options.pid,
        ring_bytes: options.ring_bytes,
        stacks: options.stacks,
        bpf_loop: version >= BPF_LOOP_SINCE,
        table_words: words,
        debug_log: options.debug_log,
        perf_event_links: options.perf_event_links,
        task_tgid: if options.follow_forks { wanted_tgid() } else { 0 },
        sampling: options.sampling,
        uprobes: options.growth.is_none() || options.growth_by != GrowthBy::Kernel,
        growth: options.growth.map(|_| options.growth_by),
        room: options.room,
    })?;
    code.limit(words);
    Ok(kernel)
}
