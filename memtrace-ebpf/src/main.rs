//! memtrace's BPF programs: entry points. What they decide is in memtrace-common, where it is
//! tested; the attach cookie says which function was hit, and where its arguments are.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "core hides atomics on BPF, see atomic.rs")]

mod arguments;
mod atomic;
mod emit;
mod entry;
mod growth;
mod in_flight;
mod leave;
mod maps;
mod memory;
mod oom;
mod process;
mod recordings;
mod remembered;
mod resident;
mod sampling;
mod session;
mod stack;

use core::ffi::c_void;

use arguments::argument;
use aya_ebpf::{
    EbpfContext,
    macros::{uprobe, uretprobe},
    maps::ProgramArray,
    programs::{ProbeContext, RetProbeContext},
};
use entry::{Family, enter_free, enter_free_of_python};
use leave::{leave, leave_by_exit};
use maps::NO_PROGRAMS;
use memtrace_common::loss::FunctionCounters;

/// Keeps the kernel from giving the program a per-CPU "private" stack (6.13+), which it does on
/// the false assumption that programs of this type are never preempted: a second program on the
/// CPU then overwrites the first one's stack, which has crashed kernels
/// (open-telemetry/opentelemetry-ebpf-instrumentation#3056). A program that contains a tail call
/// gets none; this one is never taken.
#[inline(always)]
fn decline_private_stack<C: EbpfContext>(
    ctx: &C,
    counters: *mut FunctionCounters,
    no_programs: &ProgramArray,
) {
    // SAFETY: a counter of this CPU's map value. Volatile, so that no compiler sees the result.
    if unsafe { (&raw const (*counters).entries).read_volatile() } == u64::MAX {
        // SAFETY: not reached, and the map is empty.
        unsafe { no_programs.tail_call(ctx, 0) };
    }
}

/// All functions whose result matters; their returns, too, where the kernel has sessions. Not by the
/// macro, whose programs all return 0.
#[unsafe(no_mangle)]
#[unsafe(link_section = "uprobe")]
pub extern "C" fn enter(ctx: *mut c_void) -> u32 {
    session::run(&ProbeContext::new(ctx))
}

/// free
#[uprobe]
pub fn enter_block(ctx: ProbeContext) -> u32 {
    enter_free(&ctx);
    0
}

/// What serves PyMem_Free and PyObject_Free
#[uprobe]
pub fn enter_context_block(ctx: ProbeContext) -> u32 {
    enter_free_of_python(&ctx, argument(&ctx, 1));
    0
}

/// PyMem_Free and PyObject_Free themselves
#[uprobe]
pub fn enter_python_block(ctx: ProbeContext) -> u32 {
    enter_free_of_python(&ctx, argument(&ctx, 0));
    0
}

/// _dl_debug_state
#[uprobe]
pub fn enter_nothing(ctx: ProbeContext) -> u32 {
    entry::tell_code_change(&ctx);
    0
}

/// The return of everything whose result is the block.
#[uretprobe]
pub fn leave_block(ctx: RetProbeContext) -> u32 {
    if let Some(outcome) = leave(&ctx, &NO_PROGRAMS, Family::Heap) {
        outcome.block();
    }
    0
}

/// The return of realloc and reallocarray.
#[uretprobe]
pub fn leave_realloc(ctx: RetProbeContext) -> u32 {
    if let Some(outcome) = leave(&ctx, &NO_PROGRAMS, Family::Heap) {
        outcome.realloc();
    }
    0
}

/// The return of xallocx.
#[uretprobe]
pub fn leave_in_place(ctx: RetProbeContext) -> u32 {
    if let Some(outcome) = leave(&ctx, &NO_PROGRAMS, Family::Heap) {
        outcome.in_place();
    }
    0
}

/// Where an operator new that may throw returns.
#[uprobe]
pub fn leave_by_return(ctx: ProbeContext) -> u32 {
    if let Some(outcome) = leave_by_exit(&ctx) {
        outcome.block();
    }
    0
}

/// The return of posix_memalign.
#[uretprobe]
pub fn leave_out_block(ctx: RetProbeContext) -> u32 {
    if let Some(outcome) = leave(&ctx, &NO_PROGRAMS, Family::Heap) {
        outcome.out_block();
    }
    0
}

/// The return of mmap and kin.
#[uretprobe]
pub fn leave_mapping(ctx: RetProbeContext) -> u32 {
    if let Some(outcome) = leave(&ctx, &NO_PROGRAMS, Family::Mapping) {
        outcome.mapping();
    }
    0
}

/// An empty probe: the floor that the benchmark compares with.
#[uprobe]
pub fn empty(_ctx: ProbeContext) -> u32 {
    0
}

/// An empty session that wants no return.
#[unsafe(no_mangle)]
#[unsafe(link_section = "uprobe")]
pub extern "C" fn empty_session(_ctx: *mut c_void) -> u32 {
    session::RETURN_UNWANTED
}

/// An empty return probe, likewise.
#[uretprobe]
pub fn empty_return(_ctx: RetProbeContext) -> u32 {
    0
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
