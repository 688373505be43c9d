//! memtrace's BPF programs: entry points, one per call shape. What they decide is in
//! memtrace-common, where it is tested; the attach cookie says which function was hit.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "core hides atomics on BPF, see atomic.rs")]

mod atomic;
mod emit;
mod entry;
mod in_flight;
mod leave;
mod maps;
mod memory;
mod process;
mod stack;

use aya_ebpf::{
    EbpfContext,
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use entry::{Arguments, Family, enter, enter_free, enter_free_of_python};
use leave::leave;
use memtrace_common::{call::product, loss::FunctionCounters, wire::RecordKind};

/// Keeps the kernel from giving the program a per-CPU "private" stack (6.13+), which it does on
/// the false assumption that programs of this type are never preempted: a second program on the
/// CPU then overwrites the first one's stack, which has crashed kernels
/// (open-telemetry/opentelemetry-ebpf-instrumentation#3056). A program that contains a tail call
/// gets none; this one is never taken.
#[inline(always)]
fn decline_private_stack<C: EbpfContext>(ctx: &C, counters: *mut FunctionCounters) {
    // SAFETY: a counter of this CPU's map value. Volatile, so that no compiler sees the result.
    if unsafe { (&raw const (*counters).entries).read_volatile() } == u64::MAX {
        // SAFETY: not reached, and the map is empty.
        unsafe { maps::NO_PROGRAMS.tail_call(ctx, 0) };
    }
}

#[inline(always)]
fn argument(ctx: &ProbeContext, index: usize) -> u64 {
    ctx.arg(index).unwrap_or_default()
}

#[inline(always)]
fn sized(size_bytes: u64) -> Arguments {
    Arguments { address: 0, size_bytes, extra: 0 }
}

/// malloc, valloc, pvalloc
#[uprobe]
pub fn enter_size(ctx: ProbeContext) -> u32 {
    enter(&ctx, Family::Heap, sized(argument(&ctx, 0)), None);
    0
}

/// calloc
#[uprobe]
pub fn enter_count_size(ctx: ProbeContext) -> u32 {
    let size_bytes = product(argument(&ctx, 0), argument(&ctx, 1));
    enter(&ctx, Family::Heap, sized(size_bytes), None);
    0
}

/// realloc
#[uprobe]
pub fn enter_old_size(ctx: ProbeContext) -> u32 {
    let arguments =
        Arguments { address: argument(&ctx, 0), size_bytes: argument(&ctx, 1), extra: 0 };
    enter(&ctx, Family::Heap, arguments, Some(RecordKind::ReallocBegin));
    0
}

/// reallocarray
#[uprobe]
pub fn enter_old_count_size(ctx: ProbeContext) -> u32 {
    let size_bytes = product(argument(&ctx, 1), argument(&ctx, 2));
    let arguments = Arguments { address: argument(&ctx, 0), size_bytes, extra: 0 };
    enter(&ctx, Family::Heap, arguments, Some(RecordKind::ReallocBegin));
    0
}

/// memalign, aligned_alloc
#[uprobe]
pub fn enter_align_size(ctx: ProbeContext) -> u32 {
    enter(&ctx, Family::Heap, sized(argument(&ctx, 1)), None);
    0
}

/// posix_memalign
#[uprobe]
pub fn enter_out_align_size(ctx: ProbeContext) -> u32 {
    let arguments =
        Arguments { address: argument(&ctx, 0), size_bytes: argument(&ctx, 2), extra: 0 };
    enter(&ctx, Family::Heap, arguments, None);
    0
}

/// free
#[uprobe]
pub fn enter_block(ctx: ProbeContext) -> u32 {
    enter_free(&ctx, argument(&ctx, 0));
    0
}

/// What serves PyMem_Malloc and PyObject_Malloc
#[uprobe]
pub fn enter_context_size(ctx: ProbeContext) -> u32 {
    enter(&ctx, Family::Heap, sized(argument(&ctx, 1)), None);
    0
}

/// What serves PyMem_Calloc and PyObject_Calloc
#[uprobe]
pub fn enter_context_count_size(ctx: ProbeContext) -> u32 {
    let size_bytes = product(argument(&ctx, 1), argument(&ctx, 2));
    enter(&ctx, Family::Heap, sized(size_bytes), None);
    0
}

/// What serves PyMem_Realloc and PyObject_Realloc
#[uprobe]
pub fn enter_context_old_size(ctx: ProbeContext) -> u32 {
    let arguments =
        Arguments { address: argument(&ctx, 1), size_bytes: argument(&ctx, 2), extra: 0 };
    enter(&ctx, Family::Heap, arguments, Some(RecordKind::ReallocBegin));
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

/// mmap
#[uprobe]
pub fn enter_mmap(ctx: ProbeContext) -> u32 {
    let prot_and_flags = argument(&ctx, 2) & 0xffff_ffff | argument(&ctx, 3) << 32;
    let arguments = Arguments {
        address: argument(&ctx, 0),
        size_bytes: argument(&ctx, 1),
        extra: prot_and_flags,
    };
    enter(&ctx, Family::Mapping, arguments, None);
    0
}

/// munmap
#[uprobe]
pub fn enter_munmap(ctx: ProbeContext) -> u32 {
    let arguments =
        Arguments { address: argument(&ctx, 0), size_bytes: argument(&ctx, 1), extra: 0 };
    enter(&ctx, Family::Mapping, arguments, Some(RecordKind::UnmapBegin));
    0
}

/// mremap
#[uprobe]
pub fn enter_mremap(ctx: ProbeContext) -> u32 {
    let arguments = Arguments {
        address: argument(&ctx, 0),
        size_bytes: argument(&ctx, 2),
        extra: argument(&ctx, 1),
    };
    enter(&ctx, Family::Mapping, arguments, Some(RecordKind::RemapBegin));
    0
}

/// brk
#[uprobe]
pub fn enter_brk(ctx: ProbeContext) -> u32 {
    let arguments = Arguments { address: argument(&ctx, 0), size_bytes: 0, extra: 0 };
    enter(&ctx, Family::Mapping, arguments, None);
    0
}

/// sbrk
#[uprobe]
pub fn enter_sbrk(ctx: ProbeContext) -> u32 {
    enter(&ctx, Family::Mapping, sized(argument(&ctx, 0)), None);
    0
}

/// The return of everything whose result is the block.
#[uretprobe]
pub fn leave_block(ctx: RetProbeContext) -> u32 {
    if let Some(outcome) = leave(&ctx, Family::Heap) {
        outcome.block();
    }
    0
}

/// The return of realloc and reallocarray.
#[uretprobe]
pub fn leave_realloc(ctx: RetProbeContext) -> u32 {
    if let Some(outcome) = leave(&ctx, Family::Heap) {
        outcome.realloc();
    }
    0
}

/// The return of posix_memalign.
#[uretprobe]
pub fn leave_out_block(ctx: RetProbeContext) -> u32 {
    if let Some(outcome) = leave(&ctx, Family::Heap) {
        outcome.out_block();
    }
    0
}

/// The return of mmap and kin.
#[uretprobe]
pub fn leave_mapping(ctx: RetProbeContext) -> u32 {
    if let Some(outcome) = leave(&ctx, Family::Mapping) {
        outcome.mapping();
    }
    0
}

/// An empty probe: the floor that the benchmark compares with.
#[uprobe]
pub fn empty(_ctx: ProbeContext) -> u32 {
    0
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
