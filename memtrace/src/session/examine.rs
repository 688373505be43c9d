//! What `memtrace doctor` tells: the same look at a process as an attach, without a probe.

mod objects;

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use self::objects::{Survey, with_map};
use super::{
    StackMode,
    attach::{AttachError, BPF_LOOP_SINCE, debug_roots, identify, perf_map},
    forecast::{Subject as Counted, forecast},
    python::Python,
};
use crate::{
    allocator::GivenNames,
    doctor::{
        AllocatorFacts, Diagnosis, Exception, KernelFacts, LockdownFacts, ProbeFacts, PythonFacts,
        SCHEMA, Subject, TableTotals, findings,
    },
    model::{mapping::Mapping, place::Place},
    probe::{
        calls::plan_calls,
        error::LoadError,
        load::{Kernel, LoadOptions, RING_BYTES, Room, Sampling, TableWords},
        plan::{ObjectPlan, PlannedProbe, SiteCost},
        target::{PlannedObject, TargetPlan, plan_target},
        verify::verify,
    },
    report::PythonReport,
    sys::{
        cgroup,
        facilities::{Facilities, Lockdown},
        instructions::Instructions,
        kernel::KernelVersion,
        preflight::{panics_with_profilers, preflight},
        procfs::{ProcFs, Process, SeccompMode},
    },
};

/// What to look at.
#[derive(Clone, Debug)]
pub struct ExamineOptions {
    /// The process; `None` for the machine alone.
    pub pid: Option<NonZeroU32>,
    /// Where else debug files are.
    pub debug_dirs: Vec<PathBuf>,
    /// Names of allocators that are not known.
    pub allocator_symbols: Vec<GivenNames>,
    /// Calls of the process are counted, by probes, to say what an attach would cost.
    pub counts_calls: bool,
}

/// What was found, and what an attach would have failed with.
pub struct Examination {
    /// For people and programs.
    pub diagnosis: Diagnosis,
    /// The first obstacle.
    pub refusal: Option<AttachError>,
}

/// Looks at a process, or at the machine alone.
///
/// # Errors
/// When there is no such process to look at, or the caller may not; what only an attach needs is
/// in [`Examination::refusal`].
pub fn examine(options: &ExamineOptions) -> Result<Examination, AttachError> {
    let proc = ProcFs::new("/proc");
    match options.pid {
        Some(pid) => examine_process(&proc, pid, options),
        None => examine_machine(&proc),
    }
}

/// What an attach to any process would meet; tried on memtrace itself.
fn examine_machine(proc: &ProcFs) -> Result<Examination, AttachError> {
    let version = proc.kernel_version().map_err(AttachError::KernelVersion)?;
    let itself = NonZeroU32::new(std::process::id()).unwrap_or(NonZeroU32::MIN);
    let kernel = try_kernel(itself, version);
    let facts = kernel_facts(version, false, false, &kernel);
    let refusal = kernel.err().map(AttachError::from);
    let mut diagnosis = Diagnosis {
        schema: SCHEMA,
        traceable: refusal.is_none(),
        obstacles: refusal.iter().map(AttachError::to_string).collect(),
        target: None,
        place: None,
        kernel: facts,
        allocators: Vec::new(),
        left_out: Vec::new(),
        growth_probes: None,
        python: None,
        objects: Vec::new(),
        totals: TableTotals::default(),
        cost: None,
        not_counted: None,
        findings: Vec::new(),
    };
    diagnosis.findings = findings(&diagnosis);
    Ok(Examination { diagnosis, refusal })
}

fn examine_process(
    proc: &ProcFs,
    pid: NonZeroU32,
    options: &ExamineOptions,
) -> Result<Examination, AttachError> {
    let process = identify(proc, pid.get())?;
    let version = proc.kernel_version().map_err(AttachError::KernelVersion)?;
    let maps = proc.maps(pid.get())?;
    let roots = debug_roots(proc, pid.get(), &options.debug_dirs)?;
    let mut perf_map = perf_map(proc, &process);
    perf_map.read();
    let hazard = preflight(proc, &process, version).err();
    let calls = plan_calls(proc, pid.get(), &maps, version, &[]);
    let growth_probes = if hazard.is_none() { calls.probe_count() } else { 0 };
    let plan = plan_target(proc, pid.get(), &maps, version, &options.allocator_symbols);
    let kernel = try_kernel(pid, version);
    let facts = kernel_facts(version, hazard.is_some(), proc.is_own(pid.get()), &kernel);
    let (planned, left_out, unplanned) = match plan {
        Ok(TargetPlan { objects, left_out, .. }) => (objects, left_out, None),
        Err(error) => (Vec::new(), Vec::new(), Some(error)),
    };
    let mismatch = planned.iter().find_map(|it| verify(&it.plan, &it.file, pid.get(), proc).err());
    let refusals: Vec<AttachError> = [
        hazard.map(AttachError::from),
        unplanned.map(AttachError::from),
        kernel.err().map(AttachError::from),
        mismatch.map(AttachError::from),
    ]
    .into_iter()
    .flatten()
    .collect();
    let wants_count = options.counts_calls && refusals.is_empty();
    let counted = wants_count.then(|| {
        let executable = &process.executable;
        forecast(proc, version, &Counted { pid, executable, objects: &planned })
    });
    let (cost, not_counted) = match counted.transpose() {
        Ok(cost) => (cost, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let mut survey = Survey::new(proc, pid.get(), &roots);
    survey.look_at(&maps);
    let mut diagnosis = Diagnosis {
        schema: SCHEMA,
        traceable: refusals.is_empty(),
        obstacles: refusals.iter().map(AttachError::to_string).collect(),
        place: Some(place(proc, pid.get())),
        target: Some(subject(process)),
        kernel: facts,
        allocators: planned.iter().map(allocator).collect(),
        left_out: left_out
            .into_iter()
            .map(|left| Exception { name: left.path, reason: left.reason })
            .collect(),
        growth_probes: Some(growth_probes),
        python: python(proc, pid.get(), &maps),
        totals: survey.totals(),
        objects: survey.objects.into_iter().map(|it| with_map(it, &perf_map)).collect(),
        cost,
        not_counted,
        findings: Vec::new(),
    };
    diagnosis.findings = findings(&diagnosis);
    Ok(Examination { diagnosis, refusal: refusals.into_iter().next() })
}

/// Creates the maps and loads a program, as an attach would; whether there are multi-uprobe links.
fn try_kernel(pid: NonZeroU32, version: KernelVersion) -> Result<bool, LoadError> {
    let mut kernel = Kernel::load(LoadOptions {
        pid,
        ring_bytes: *RING_BYTES.start() as u32,
        stacks: StackMode::Off,
        bpf_loop: version >= BPF_LOOP_SINCE,
        table_words: TableWords::default(),
        debug_log: false,
        perf_event_links: false,
        task_tgid: 0,
        sampling: Sampling::Exact,
        uprobes: true,
        growth: None,
        room: Room::Ample,
    })?;
    kernel.try_tracing()?;
    Ok(kernel.has_multi_uprobe_links())
}

fn kernel_facts(
    version: KernelVersion,
    seccomp_hazard: bool,
    is_own: bool,
    tried: &Result<bool, LoadError>,
) -> KernelFacts {
    let facilities = Facilities::read(Path::new("/"));
    KernelFacts {
        version: version.to_string(),
        release: facilities.release.clone(),
        btf: facilities.btf,
        jit: facilities.jit,
        counts_instructions: Instructions::are_countable(),
        lockdown: match facilities.lockdown {
            Lockdown::Off => LockdownFacts::Off,
            Lockdown::Integrity => LockdownFacts::Integrity,
            Lockdown::Confidentiality => LockdownFacts::Confidentiality,
        },
        lacking_rights: facilities
            .lacking(is_own)
            .map(|right| Exception { name: right.name.into(), reason: right.needed_to.into() })
            .collect(),
        profiler_hazard: panics_with_profilers(&facilities.release),
        tracefs: facilities.tracefs,
        uprobes: !matches!(tried, Err(LoadError::NoUprobes { .. })),
        bpf_permitted: match tried {
            Ok(_) => Some(true),
            Err(LoadError::Permission { .. }) => Some(false),
            Err(_) => None,
        },
        multi_uprobe_links: tried.as_ref().ok().copied(),
        bpf_loop: version >= BPF_LOOP_SINCE,
        seccomp_hazard,
    }
}

/// The container of the process, and its limit.
fn place(proc: &ProcFs, pid: u32) -> Place {
    let limit = cgroup::memory(proc, Path::new(cgroup::ROOT), pid).unwrap_or_default().limit_bytes;
    Place::new(proc.host(), &cgroup::path(proc, pid).unwrap_or_default(), limit)
}

/// As an attach would find it.
fn python(proc: &ProcFs, pid: u32, maps: &[Mapping]) -> Option<PythonFacts> {
    let mut python = Python::new(true);
    python.look(proc, pid, maps, 0);
    let (report, _) = python.into_report();
    report.map(|PythonReport { version, path, refused }| PythonFacts { version, path, refused })
}

fn subject(process: Process) -> Subject {
    Subject {
        pid: process.pid,
        command: process.command,
        command_line: process.command_line,
        executable: process.executable,
        threads: process.threads,
        resident_bytes: process.resident_bytes,
        seccomp_filter: process.seccomp == SeccompMode::Filter,
    }
}

fn allocator(object: &PlannedObject) -> AllocatorFacts {
    let ObjectPlan {
        mapping, allocator, version, prefix, build_id, probes, skipped, notes, ..
    } = object.plan.clone();
    AllocatorFacts {
        name: allocator.name().to_owned(),
        version,
        symbol_prefix: prefix,
        path: mapping.name,
        build_id: build_id.map(|id| hex(&id)),
        probes: probes.iter().map(probe).collect(),
        skipped: skipped
            .into_iter()
            .map(|(function, reason)| Exception { name: function.name().to_owned(), reason })
            .collect(),
        notes,
    }
}

fn probe(probe: &PlannedProbe) -> ProbeFacts {
    ProbeFacts {
        function: probe.name(),
        aliases: probe.aliases.iter().map(|function| function.name()).collect(),
        offset: probe.site_offset,
        emulated: probe.cost == SiteCost::Emulated,
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
