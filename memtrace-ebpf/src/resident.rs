//! The growth mode: pages that are used for the first time, and the kernel's count of what is
//! resident.

use aya_ebpf::{
    bindings::pt_regs,
    helpers::generated::{
        bpf_get_current_task, bpf_get_current_task_btf, bpf_get_prandom_u32, bpf_ktime_get_ns,
        bpf_probe_read_kernel, bpf_task_pt_regs,
    },
    macros::{fentry, map, raw_tracepoint},
    maps::Array,
    programs::{FEntryContext, RawTracePointContext},
};
use memtrace_common::{
    config::Config,
    function::AllocFn,
    growth::{GrowthConfig, RSS_KINDS, RssCounts},
    sample::Interval,
    unwind::Registers,
    wire::{AllocRecord, RecordKind},
};

use crate::{atomic, emit, maps::function_counters, process::target_config, stack};

#[map]
static GROWTH: Array<GrowthConfig> = Array::with_max_entries(1, 0);

#[map]
static RSS: Array<RssCounts> = Array::with_max_entries(1, 0);

/// Bytes of a page, the smallest that is counted (x86-64).
const PAGE_SHIFT: u64 = 12;
/// A folio of more pages is not known; 1 GiB is 18.
const MAX_ORDER: u64 = 18;
/// `orig_ax` of a thread that is in the kernel by no system call.
const NO_SYSTEM_CALL: u64 = u64::MAX;

/// `void folio_add_new_anon_rmap(struct folio *, struct vm_area_struct *, unsigned long address, ...)`,
/// or `page_add_new_anon_rmap` with a page for the folio before Linux 6.8: every way in which a process comes to a page of its own that was nobody's (mm/rmap.c): its own
/// faults, those of system calls that write to it, and those of mappings that are populated.
#[fentry(function = "folio_add_new_anon_rmap")]
pub fn enter_new_page(ctx: FEntryContext) -> i32 {
    if let Some(config) = target_config() {
        take_page(&ctx, config, ctx.arg(0), ctx.arg(2));
    }
    0
}

#[inline(always)]
fn take_page(ctx: &FEntryContext, config: &Config, folio: u64, address: u64) -> Option<()> {
    let growth = GROWTH.get(0)?;
    let counters = function_counters(AllocFn::PageFault as u8)?;
    // SAFETY: a counter of this CPU's map value, here and below.
    atomic::increment(unsafe { &raw mut (*counters).entries });
    let size_bytes = folio_bytes(growth, folio);
    let interval = Interval::from_exponent(growth.interval as u8);
    // SAFETY: the helper has no preconditions.
    if !interval.is_sampled(size_bytes, unsafe { bpf_get_prandom_u32() }) {
        return None;
    }
    let kind = RecordKind::Alloc;
    let header = emit::header(kind, AllocFn::PageFault as u8, u64::from(interval.to_flags()));
    let record = AllocRecord { header, address, size_bytes, stack: stack_of(ctx, config) };
    if !emit::record(config, kind, record) {
        // SAFETY: as above.
        atomic::increment(unsafe { &raw mut (*counters).lost });
    }
    Some(())
}

/// How much memory a folio is.
#[inline(always)]
fn folio_bytes(growth: &GrowthConfig, folio: u64) -> u64 {
    let flags = kernel_word(folio).unwrap_or_default();
    if flags & u64::from(growth.head_mask) == 0 {
        return 1 << PAGE_SHIFT;
    }
    let order = kernel_word(folio + u64::from(growth.folio_order)).unwrap_or_default() & 0xff;
    1 << (PAGE_SHIFT + if order > MAX_ORDER { 0 } else { order })
}

/// The user's stack, from where the thread has come into the kernel.
#[inline(always)]
fn stack_of(ctx: &FEntryContext, config: &Config) -> u64 {
    // SAFETY: the helpers' results are valid for the program's run. Volatile, so that each is a load
    // of one field, as the verifier wants it.
    let (registers, pc, origin) = unsafe {
        let user = bpf_task_pt_regs(bpf_get_current_task_btf()) as *const pt_regs;
        let sp = (&raw const (*user).rsp).read_volatile();
        let bp = (&raw const (*user).rbp).read_volatile();
        let pc = (&raw const (*user).rip).read_volatile();
        (Registers { sp, bp }, pc, (&raw const (*user).orig_rax).read_volatile())
    };
    // An instruction that was interrupted begins at `pc`; a system call's is before it.
    let pc = if origin == NO_SYSTEM_CALL { pc + 1 } else { pc };
    stack::capture(ctx, config, stack::From::Place(pc), registers)
}

/// `rss_stat(struct mm_struct *mm, int member)`, since Linux 6.2
#[raw_tracepoint(tracepoint = "rss_stat")]
pub fn rss_stat(ctx: RawTracePointContext) -> u32 {
    if target_config().is_some() {
        let (mm, kind): (u64, u64) = (ctx.arg(0), ctx.arg(1));
        read_count(mm, kind);
    }
    0
}

/// `rss_stat(struct mm_struct *mm, int member, long count)`, before
#[raw_tracepoint(tracepoint = "rss_stat")]
pub fn rss_stat_counted(ctx: RawTracePointContext) -> u32 {
    if target_config().is_some() {
        let (mm, kind, count): (u64, u64, i64) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
        take_count(mm, kind, count);
    }
    0
}

#[inline(always)]
fn read_count(mm: u64, kind: u64) -> Option<()> {
    let growth = GROWTH.get(0)?;
    let kind = kind & (RSS_KINDS as u64 - 1);
    let at = u64::from(growth.rss_count) + kind * u64::from(growth.rss_step);
    let count = kernel_word(mm + at)?;
    take_count(mm, kind, count as i64)
}

#[inline(always)]
fn take_count(mm: u64, kind: u64, count: i64) -> Option<()> {
    let growth = GROWTH.get(0)?;
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    if kernel_word(task + u64::from(growth.task_mm))? != mm {
        // A child that is being forked, or the program that is about to be executed.
        return None;
    }
    let counts = RSS.get_ptr_mut(0)?;
    // Parts of the sum are on other CPUs, so that it can be below zero for a while.
    let pages = if count < 0 { 0 } else { count as u64 };
    // SAFETY: a live map value, and the mask keeps the index inside. Other CPUs write it, too: what is
    // read is some recent state.
    unsafe {
        let place = (&raw mut (*counts).pages).cast::<u64>();
        place.add(kind as usize & (RSS_KINDS - 1)).write_volatile(pages);
        atomic::increment(&raw mut (*counts).updates);
        keep_peak(&mut *counts);
    }
    Some(())
}

#[inline(always)]
fn keep_peak(counts: &mut RssCounts) {
    let resident = counts.resident_pages();
    if resident > counts.peak_pages {
        counts.peak_pages = resident;
        counts.at_peak = counts.pages;
        // SAFETY: the helper has no preconditions.
        counts.peak_ns = unsafe { bpf_ktime_get_ns() };
    }
}

/// A word of the kernel's memory.
#[inline(always)]
fn kernel_word(address: u64) -> Option<u64> {
    let mut value = 0u64;
    // SAFETY: the helper checks the address, and the value has as many bytes.
    let result = unsafe {
        bpf_probe_read_kernel((&raw mut value).cast(), size_of::<u64>() as u32, address as *const _)
    };
    (result == 0).then_some(value)
}
