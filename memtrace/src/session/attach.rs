//! From a pid to armed probes: look, plan, verify, arm, open the window.

use std::{
    io,
    os::fd::AsFd as _,
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread,
};

use jiff::Timestamp;
use thiserror::Error;

use super::{
    Observer, Options, PythonFrames, StackMode,
    code::CodeTables,
    governing::{Governing, Place},
    growth,
    prepare::{Planned, Start},
    python::Python,
    steps::Steps,
};
use crate::{
    model::{
        ObjectNumber,
        footprint::GrowthProbes,
        mapping::{FileId, Mapping},
    },
    probe::{
        calls::CallPlan,
        error::LoadError,
        load::{Kernel, KernelLog, ProbeSite},
        plan::AllocatorCode,
        pymalloc::{PymallocError, PymallocPlan, plan_pymalloc},
        ring::Ring,
        side::Side,
        target::{LeftOut, PlanError, PlannedObject, TargetPlan},
        verify::{VerifyError, verify},
    },
    report::AttachStep,
    symbolize::{
        debug_file::{DebugRoots, NoDirectory},
        perf_map::PerfMap,
    },
    sys::{
        btf::{BtfError, KERNEL_BTF, task_tgid},
        clock,
        kernel::KernelVersion,
        pidfd::PidFd,
        preflight::{Hazard, preflight},
        procfs::{ProcError, ProcFs, Process},
    },
};

/// The first kernel with the `bpf_loop` helper.
pub(super) const BPF_LOOP_SINCE: KernelVersion = KernelVersion::new(5, 17);

/// Why there is no trace.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The target cannot be looked at.
    #[error(transparent)]
    Proc(#[from] ProcError),
    /// The target is no process that memtrace can have a handle on.
    #[error("cannot get hold of process {pid}: {source}")]
    Handle {
        /// As given.
        pid: u32,
        /// Why.
        source: io::Error,
    },
    /// The pid is memtrace's own.
    #[error("{pid} is memtrace itself: it would trace its own tracing; give another process")]
    Own {
        /// As given.
        pid: u32,
    },
    /// The kernel's version is not known.
    #[error("cannot read the kernel's version: {0}")]
    KernelVersion(io::Error),
    /// The kernel does not say what the growth mode needs.
    #[error("--growth is not possible on this kernel: {0}")]
    Growth(#[source] BtfError),
    /// It was asked for that growth is seen in the program.
    #[error(
        "--growth-by program is not possible: where process {pid} makes its system calls was not found \
         in its code; leave that option away"
    )]
    NoCalls {
        /// As given.
        pid: u32,
    },
    /// Tracing is known to hurt the target on this kernel.
    #[error(transparent)]
    Hazard(#[from] Hazard),
    /// A directory that was given for debug files.
    #[error(transparent)]
    DebugDir(#[from] NoDirectory),
    /// There is nothing to put probes on.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// CPython's allocator cannot be traced, which was asked for.
    #[error(transparent)]
    Pymalloc(#[from] PymallocError),
    /// The mapped file is not the one that was planned for.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The kernel refused.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The kernel does not let it go on.
    #[error("the command cannot be let go: {0}")]
    Release(#[source] io::Error),
    /// memtrace itself cannot run.
    #[error("cannot set up memtrace's event loop: {0}")]
    Runtime(io::Error),
    /// The target executed another program while memtrace was attaching.
    #[error(
        "process {pid} executed another program while memtrace was attaching; nothing was traced: \
         attach again"
    )]
    Executed {
        /// As given.
        pid: u32,
    },
    /// The pid came to mean another process while memtrace was attaching.
    #[error(
        "process {pid} ended while memtrace was attaching, and its pid is another process's now; \
         nothing was traced"
    )]
    PidReused {
        /// As given.
        pid: u32,
    },
}

/// A target with all probes armed and the window open.
pub struct Attached {
    pub(super) kernel: Kernel,
    pub(super) ring: Ring,
    pub(super) kernel_log: Option<KernelLog>,
    pub(super) pidfd: PidFd,
    pub(super) proc: ProcFs,
    pub(super) process: Process,
    pub(super) objects: Vec<PlannedObject>,
    pub(super) left_out: Vec<LeftOut>,
    /// The files in which allocators were looked for.
    pub(super) files: Vec<FileId>,
    pub(super) pymalloc: PymallocPlan,
    pub(super) maps: Vec<Mapping>,
    pub(super) code: CodeTables,
    pub(super) debug_roots: DebugRoots,
    pub(super) python: Python,
    /// `CLOCK_MONOTONIC` when the window was opened.
    pub(super) opened_ns: u64,
    pub(super) started_at: Timestamp,
    pub(super) attach_ns: u64,
    pub(super) attach_steps: Vec<AttachStep>,
    pub(super) probes: usize,
    pub(super) governing: Governing,
    /// How growth is followed; `None` where calls of allocators are.
    pub(super) growth: Option<GrowthProbes>,
    /// Where it is seen in the target; `None` where in the kernel alone.
    pub(super) calls: Option<CallPlan>,
}

/// Attaches to a process.
///
/// # Errors
/// Whatever stands in the way, in words for the person who typed the pid. Nothing is left in the
/// target.
pub fn attach(
    options: &Options,
    mut start: Start,
    observer: &mut dyn Observer,
) -> Result<Attached, AttachError> {
    let mut steps = Steps::begin();
    let pid = options.pid.get();
    let proc = ProcFs::new("/proc");
    let process = identify(&proc, pid)?;
    let pidfd = PidFd::open(pid).map_err(|source| AttachError::Handle { pid, source })?;
    let version = proc.kernel_version().map_err(AttachError::KernelVersion)?;
    if !options.ignore_hazards && options.growth.is_none() {
        preflight(&proc, &process, version)?;
    }
    let maps = proc.maps(pid)?;
    steps.over("look at the target");
    let planned = start.take_plan(pid, &maps);
    let (mut code, plans) = thread::scope(|scope| {
        // Both read the target's files, and neither needs what the other finds.
        let code = scope.spawn(|| start.tables(options, &proc, pid, &maps));
        let plans = plan(options, planned, &proc, &maps, version);
        steps.over("plan the probes");
        (code.join().unwrap_or_else(|panic| resume_unwind(panic)), plans)
    });
    let (Planned { allocators, calls }, mut pymalloc) = plans?;
    let TargetPlan { mut objects, loader, left_out, files } = allocators;
    objects.append(&mut pymalloc.objects);
    let debug_roots = debug_roots(&proc, pid, &options.debug_dirs)?;
    steps.over("compile unwind tables");
    let mut kernel = start.kernel(options, version, &mut code)?;
    steps.over("create the maps");
    code.publish(&mut kernel, &maps)?;
    steps.over("upload unwind tables");
    let wants_python = options.python != PythonFrames::None && options.stacks != StackMode::Off;
    let mut python = Python::new(wants_python);
    if options.from_start {
        // What it has of Python's memory has not been read in yet.
        python = python.young();
    } else if let Some(layout) = python.look(&proc, pid, &maps, 0) {
        kernel.set_python(&layout)?;
    }
    steps.over("look for Python");
    let ring = kernel.take_ring()?;
    let kernel_log = if options.debug_log { kernel.take_log() } else { None };
    kernel.follow_process()?;
    kernel.set_allocator_code(&allocator_code(&objects, &process.executable), 0)?;
    let (probes, growth, calls) = match options.growth {
        None => (arm(&mut kernel, &objects, &proc, pid, First::default())?, None, None),
        Some(interval) => {
            let config = start.growth(interval)?;
            growth::arm(&mut kernel, options, config, calls, &proc, &process)?
        }
    };
    arm_loader(&mut kernel, loader.as_ref(), &proc, pid);
    kernel.set_active(true)?;
    // With the window open: an exec from here on is told by the kernel.
    check_identity(&proc, &process, &pidfd)?;
    steps.over("load the programs and arm the probes");
    let place = &mut Place { kernel: &mut kernel, objects: &objects, proc: &proc, pid };
    let governing = Governing::open(place, options.limit, !options.from_start)?;
    observer.expected(governing.cost());
    if !options.from_start {
        steps.over("count calls");
    }
    let (attach_ns, attach_steps) = steps.finish();
    Ok(Attached {
        kernel,
        ring,
        kernel_log,
        pidfd,
        proc,
        process,
        objects,
        left_out,
        files,
        pymalloc,
        maps,
        code,
        debug_roots,
        python,
        opened_ns: clock::monotonic_ns(),
        started_at: Timestamp::now(),
        attach_ns,
        attach_steps,
        probes,
        governing,
        growth,
        calls,
    })
}

/// Where probes go; as it was planned before, where it was.
fn plan(
    options: &Options,
    planned: Option<Planned>,
    proc: &ProcFs,
    maps: &[Mapping],
    version: KernelVersion,
) -> Result<(Planned, PymallocPlan), AttachError> {
    let pid = options.pid.get();
    let planned = match planned {
        Some(planned) => planned,
        None => Planned::make(proc, pid, maps, version, options)?,
    };
    let pymalloc = match options.pymalloc {
        true => plan_pymalloc(proc, pid, maps, version)?,
        false => PymallocPlan::default(),
    };
    Ok((planned, pymalloc))
}

/// Where the kernel has the ids of children; 0 where it does not say: then none are followed.
pub(super) fn wanted_tgid() -> u64 {
    task_tgid(Path::new(KERNEL_BTF)).unwrap_or_else(|error| {
        log::warn!("children are not followed: {error}");
        0
    })
}

/// The process, if it can be traced at all.
pub(super) fn identify(proc: &ProcFs, pid: u32) -> Result<Process, AttachError> {
    if pid == std::process::id() {
        return Err(AttachError::Own { pid });
    }
    let process = proc.process(pid)?;
    process.check_traceable()?;
    Ok(process)
}

/// Where debug files of the target's objects are looked for.
pub(super) fn debug_roots(
    proc: &ProcFs,
    pid: u32,
    given: &[PathBuf],
) -> Result<DebugRoots, AttachError> {
    Ok(DebugRoots::new(given, &proc.root_of(pid))?)
}

/// Where the target's just-in-time compiler writes names, if it has one.
pub(super) fn perf_map(proc: &ProcFs, process: &Process) -> PerfMap {
    let own_pid = process.namespace_pids.last().copied().unwrap_or(process.pid);
    PerfMap::of(&proc.root_of(process.pid), own_pid, process.user)
}

/// The numbers of the first site and of the first object that is armed now.
#[derive(Clone, Copy, Default)]
pub(super) struct First {
    pub(super) site: u32,
    pub(super) object: usize,
}

impl First {
    /// After what is armed.
    pub(super) fn after(objects: &[PlannedObject]) -> Self {
        let sites = objects.iter().map(|object| object.plan.probes.len()).sum::<usize>();
        Self { site: sites as u32, object: objects.len() }
    }
}

/// Verifies and arms every planned object. The verification comes right before the arming, which
/// goes by descriptor, so that no other file can slip in between.
pub(super) fn arm(
    kernel: &mut Kernel,
    objects: &[PlannedObject],
    proc: &ProcFs,
    pid: u32,
    first: First,
) -> Result<usize, AttachError> {
    arm_sides(kernel, objects, proc, pid, first, &Side::ALL)
}

/// The same of the functions of some sides only.
pub(super) fn arm_sides(
    kernel: &mut Kernel,
    objects: &[PlannedObject],
    proc: &ProcFs,
    pid: u32,
    first: First,
    sides: &[Side],
) -> Result<usize, AttachError> {
    let mut armed = 0;
    let mut next_site = first.site;
    for (object, number) in objects.iter().zip(first.object..) {
        verify(&object.plan, &object.file, pid, proc)?;
        let sites: Vec<_> = object
            .plan
            .probes
            .iter()
            .zip(next_site..)
            .map(|(probe, site)| ProbeSite {
                function: probe.function,
                shape: probe.shape,
                arguments: probe.arguments,
                site,
                object: ObjectNumber::of(number),
                is_leaf: object.plan.is_leaf(probe.function),
                offset: probe.file_offset,
            })
            .filter(|site| sides.contains(&Side::of(site.function)))
            .collect();
        next_site += object.plan.probes.len() as u32;
        armed += kernel.arm(object.file.as_fd(), &sites)?;
    }
    Ok(armed)
}

/// Lets the dynamic linker tell of libraries that are loaded later. Without it, they are found when
/// a stack leads through them.
pub(super) fn arm_loader(
    kernel: &mut Kernel,
    loader: Option<&PlannedObject>,
    proc: &ProcFs,
    pid: u32,
) {
    let armed =
        loader.map(|loader| arm(kernel, std::slice::from_ref(loader), proc, pid, First::default()));
    if let Some(Err(error)) = armed {
        log::info!("loading of libraries is not watched: {error}");
    }
}

/// The code of the allocators.
pub(super) fn allocator_code<'o>(
    objects: impl IntoIterator<Item = &'o PlannedObject>,
    executable: &str,
) -> AllocatorCode {
    let mut code = AllocatorCode::default();
    for PlannedObject { plan, .. } in objects {
        let is_program = plan.mapping.name == executable;
        code.callers.append(&mut plan.allocator_code(is_program));
        code.heap.append(&mut plan.heap_code());
        code.mapping.append(&mut plan.mapping_code(is_program));
    }
    code
}

/// The pidfd was opened after the pid was looked at, and probes are filtered by what the pid meant
/// when they were armed: both must still be the process of the beginning.
fn check_identity(proc: &ProcFs, process: &Process, pidfd: &PidFd) -> Result<(), AttachError> {
    let pid = process.pid;
    let now = proc.process(pid);
    if pidfd.has_ended() {
        return match now {
            Ok(now) if now.start_time_ticks != process.start_time_ticks => {
                Err(AttachError::PidReused { pid })
            }
            _ => Err(ProcError::Ended { pid }.into()),
        };
    }
    let now = now?;
    if now.start_time_ticks != process.start_time_ticks {
        return Err(AttachError::PidReused { pid });
    }
    if (now.stack_start, &now.executable) != (process.stack_start, &process.executable) {
        return Err(AttachError::Executed { pid });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test's own process, and as it would look if its pid had been another process's before.
    fn own_and_reused() -> (ProcFs, Process, Process) {
        let proc = ProcFs::new("/proc");
        let own = proc.process(std::process::id()).unwrap();
        let mut reused = own.clone();
        reused.start_time_ticks -= 1;
        (proc, own, reused)
    }

    fn ended_child() -> PidFd {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pidfd = PidFd::open(child.id()).unwrap();
        child.wait().unwrap();
        pidfd
    }

    #[test]
    fn a_pid_that_means_another_process_than_at_the_beginning_is_refused() {
        let (proc, own, reused) = own_and_reused();
        let pidfd = PidFd::open(own.pid).unwrap();
        assert!(check_identity(&proc, &own, &pidfd).is_ok());
        let error = check_identity(&proc, &reused, &pidfd).unwrap_err();
        assert!(matches!(error, AttachError::PidReused { .. }), "{error}");
    }

    #[test]
    fn a_target_that_executed_another_program_meanwhile_is_refused() {
        let (proc, own, _) = own_and_reused();
        let pidfd = PidFd::open(own.pid).unwrap();
        let earlier = Process { stack_start: own.stack_start ^ 0x1000, ..own };
        let error = check_identity(&proc, &earlier, &pidfd).unwrap_err();
        assert!(matches!(error, AttachError::Executed { .. }), "{error}");
    }

    #[test]
    fn a_process_that_ended_is_told_from_one_whose_pid_was_reused() {
        let (proc, own, reused) = own_and_reused();
        let error = check_identity(&proc, &own, &ended_child()).unwrap_err();
        assert!(matches!(error, AttachError::Proc(ProcError::Ended { .. })), "{error}");
        let error = check_identity(&proc, &reused, &ended_child()).unwrap_err();
        assert!(matches!(error, AttachError::PidReused { .. }), "{error}");
    }
}
