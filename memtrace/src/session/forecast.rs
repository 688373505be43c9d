//! What a trace would cost just now: calls are counted as by an attach before its window opens, and
//! nothing is recorded.

use std::num::NonZeroU32;

use memtrace_common::sample::Interval;

use super::{
    StackMode,
    attach::{AttachError, BPF_LOOP_SINCE, First, allocator_code, arm},
    governing::{Governing, Limit, Place},
};
use crate::{
    budget::Choice,
    model::cost::Cost,
    probe::{
        load::{Kernel, LoadOptions, RING_BYTES, Room, Sampling, TableWords},
        target::PlannedObject,
    },
    sys::{kernel::KernelVersion, procfs::ProcFs},
};

/// The limit of an attach that is given none.
const USUAL_OVERHEAD: f64 = 0.1;

/// Sampled blocks that there is room for: none is sampled.
const BLOCKS: usize = 1024;

/// Whose calls are counted.
pub(super) struct Subject<'p> {
    pub(super) pid: NonZeroU32,
    pub(super) executable: &'p str,
    pub(super) objects: &'p [PlannedObject],
}

/// Arms the probes of an attach, counts calls for up to 200 ms, and takes the probes away.
///
/// # Errors
/// As an attach, when the probes cannot be armed.
pub(super) fn forecast(
    proc: &ProcFs,
    version: KernelVersion,
    subject: &Subject<'_>,
) -> Result<Cost, AttachError> {
    let Subject { pid, executable, objects } = *subject;
    let mut kernel = Kernel::load(options(pid, version))?;
    kernel.set_allocator_code(&allocator_code(objects, executable), 0)?;
    arm(&mut kernel, objects, proc, pid.get(), First::default())?;
    kernel.set_active(true)?;
    let place = Place { kernel: &mut kernel, objects, proc, pid: pid.get() };
    let limit = Limit { max_overhead: Some(USUAL_OVERHEAD), choice: Choice::Any };
    Governing::forecast(&place, limit)
}

fn options(pid: NonZeroU32, version: KernelVersion) -> LoadOptions {
    LoadOptions {
        pid,
        ring_bytes: *RING_BYTES.start() as u32,
        stacks: StackMode::Off,
        bpf_loop: version >= BPF_LOOP_SINCE,
        table_words: TableWords::default(),
        debug_log: false,
        perf_event_links: false,
        task_tgid: 0,
        // Nothing is drawn at this distance.
        sampling: Sampling::Variable { interval: Interval::MAX, blocks: BLOCKS },
        uprobes: true,
        growth: None,
        room: Room::Ample,
    }
}
