//! Who is killed for want of memory. Independent of all else here: a watch loads this program alone.

use aya_ebpf::{
    helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_kernel},
    macros::{map, raw_tracepoint},
    maps::{Array, RingBuf},
    programs::RawTracePointContext,
};
use memtrace_common::oom::{OomLayout, Victim};

use crate::memory::{kernel_word, task_number};

#[map]
static OOM_LAYOUT: Array<OomLayout> = Array::with_max_entries(1, 0);

/// Few are killed, and each is read at once.
#[map]
static VICTIMS: RingBuf = RingBuf::with_byte_size(1 << 12, 0);

/// `mark_victim(struct task_struct *task, uid_t uid)`, or `mark_victim(int pid)` before Linux 6.10.
#[raw_tracepoint(tracepoint = "mark_victim")]
pub fn mark_victim(ctx: RawTracePointContext) -> u32 {
    let Some(layout) = OOM_LAYOUT.get(0) else { return 0 };
    let first: u64 = ctx.arg(0);
    // SAFETY: the helper has no preconditions.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    let mut victim = Victim { time_ns, pid: first as u32, ..Victim::default() };
    if layout.has_task != 0 {
        describe(&mut victim, first, layout);
    }
    // One that finds no room is still counted by its control group.
    let _ = VICTIMS.output::<Victim>(&victim, 0);
    0
}

#[inline(always)]
fn describe(victim: &mut Victim, task: u64, layout: &OomLayout) {
    victim.pid = task_number(task, layout.task_tgid.into()).unwrap_or_default();
    let from = task.wrapping_add(layout.task_comm.into());
    // SAFETY: the helper checks the address, and the name has as many bytes.
    unsafe {
        bpf_probe_read_kernel(victim.command.as_mut_ptr().cast(), 16, from as *const _);
    }
    let signal = kernel_word(task.wrapping_add(layout.task_signal.into())).unwrap_or_default();
    // A `short`.
    let score = task_number(signal, layout.score.into()).unwrap_or_default();
    victim.oom_score_adj = (score as u16 as i16).into();
    let mm = kernel_word(task.wrapping_add(layout.task_mm.into())).unwrap_or_default();
    let counter = |kind: u64| {
        let at = u64::from(layout.rss_count).wrapping_add(kind * u64::from(layout.rss_step));
        // What is below zero is none: other CPUs have not added theirs yet.
        kernel_word(mm.wrapping_add(at)).filter(|count| *count < 1 << 62).unwrap_or_default()
    };
    victim.pages = [counter(0), counter(1), counter(2), counter(3)];
}
