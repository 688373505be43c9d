//! The life of the target: forks, execs and the ends of threads. Raw tracepoints, because they
//! need no tracefs.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext,
};
use memtrace_common::{
    config::Config,
    wire::{ChildRecord, ProcessRecord, RecordKind},
};

use crate::{
    emit, in_flight,
    maps::{active_config, next_image},
    memory::task_number,
};

/// `CLONE_THREAD` of include/uapi/linux/sched.h.
const CLONE_THREAD: u64 = 0x0001_0000;

/// `CLONE_VM`, likewise.
const CLONE_VM: u64 = 0x0000_0100;

/// `task_newtask(struct task_struct *task, u64 clone_flags)`: runs in the parent.
#[raw_tracepoint(tracepoint = "task_newtask")]
pub fn task_newtask(ctx: RawTracePointContext) -> u32 {
    let (task, clone_flags): (u64, u64) = (ctx.arg(0), ctx.arg(1));
    if clone_flags & CLONE_THREAD == 0 {
        tell(RecordKind::Fork);
        tell_child(task, clone_flags);
    }
    0
}

/// Says who was forked, at once: whoever wants to know is in a hurry.
#[inline(always)]
fn tell_child(task: u64, clone_flags: u64) {
    let Some(config) = target_config().filter(|config| config.task_tgid != 0) else { return };
    let Some(pid) = task_number(task, config.task_tgid) else { return };
    let header = emit::plain_header(RecordKind::Child);
    let shares_memory = u32::from(clone_flags & CLONE_VM != 0);
    emit::record_now(RecordKind::Child, ChildRecord { header, pid, shares_memory });
}

/// `sched_process_exec(struct task_struct *task, pid_t old_pid, struct linux_binprm *binary)`
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn sched_process_exec(_ctx: RawTracePointContext) -> u32 {
    if target_config().is_some() {
        next_image();
        in_flight::remove(bpf_get_current_pid_tgid());
        tell(RecordKind::Exec);
    }
    0
}

/// `sched_process_exit(struct task_struct *task, ...)`: runs in each thread that ends.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn sched_process_exit(_ctx: RawTracePointContext) -> u32 {
    if target_config().is_some() {
        in_flight::remove(bpf_get_current_pid_tgid());
        tell(RecordKind::ThreadExit);
    }
    0
}

/// The configuration, if the current thread is the target's and the window is open.
#[inline(always)]
pub fn target_config() -> Option<&'static Config> {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    active_config().filter(|config| config.tgid == tgid)
}

#[inline(always)]
fn tell(kind: RecordKind) {
    if let Some(config) = target_config() {
        emit::record(config, kind, ProcessRecord { header: emit::plain_header(kind) });
    }
}
