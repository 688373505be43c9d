//! The growth mode: pages that are used for the first time, and the kernel's count of what is
//! resident.

use core::mem::MaybeUninit;

use aya_ebpf::{
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{
            bpf_get_current_task, bpf_get_current_task_btf, bpf_get_prandom_u32, bpf_ktime_get_ns,
            bpf_task_pt_regs,
        },
    },
    macros::{fentry, map, raw_tracepoint},
    maps::{Array, HashMap, PerCpuArray},
    programs::{FEntryContext, RawTracePointContext},
};
use memtrace_common::{
    config::Config,
    function::AllocFn,
    growth::{GrowthConfig, RSS_KINDS, RssCounts, RssKind},
    python::walk::PythonThread,
    sample::Interval,
    unwind::Registers,
    wire::{AllocRecord, RecordKind},
};

use crate::{
    atomic, emit,
    maps::function_counters,
    memory::{UserRegisters, kernel_word, user_registers},
    process::target_config,
    stack,
};

#[map]
static GROWTH: Array<GrowthConfig> = Array::with_max_entries(1, 0);

#[map]
static RSS: Array<RssCounts> = Array::with_max_entries(1, 0);

/// Bytes of a page, the smallest that is counted (x86-64).
const PAGE_SHIFT: u64 = 12;
/// A folio of more pages is not known; 1 GiB is 18.
const MAX_ORDER: u64 = 18;
/// A large page of 2 MiB.
const HUGE_ORDER: u64 = 9;
/// Higher addresses are the kernel's.
const USER_END: u64 = 1 << 63;
/// `orig_ax` of a thread that is in the kernel by no system call.
const NO_SYSTEM_CALL: u64 = u64::MAX;

/// `void folio_add_new_anon_rmap(struct folio *, struct vm_area_struct *, unsigned long address, ...)`,
/// or `page_add_new_anon_rmap` with a page for the folio before Linux 6.8: every way in which a process comes to a page of its own that was nobody's (mm/rmap.c): its own
/// faults, those of system calls that write to it, and those of mappings that are populated.
#[fentry(function = "folio_add_new_anon_rmap")]
pub fn enter_new_page(ctx: FEntryContext) -> i32 {
    if let Some(config) = target_config() {
        take_page(config, ctx.arg(0), ctx.arg(2));
    }
    0
}

#[inline(always)]
fn take_page(config: &Config, folio: u64, address: u64) -> Option<()> {
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
    let mut place = MaybeUninit::uninit();
    let stack = stack_of(registers_of_user(&mut place)?);
    tell(config, interval, AllocRecord { address, size_bytes, stack, ..Default::default() });
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

/// The registers with which the thread has come into the kernel.
#[inline(always)]
fn registers_of_user(place: &mut MaybeUninit<UserRegisters>) -> Option<&UserRegisters> {
    // SAFETY: the helpers have no preconditions.
    user_registers(unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as u64, place)
}

#[inline(always)]
fn stack_of(registers: &UserRegisters) -> u64 {
    // An instruction that was interrupted begins at `ip`; a system call's is before it.
    let interrupted = u64::from(registers.orig_ax == NO_SYSTEM_CALL);
    let from = stack::From::Place(registers.ip + interrupted);
    let registers = Registers { sp: registers.sp(), bp: registers.bp() };
    let thread = &mut PythonThread::default();
    stack::capture(stack::Start { from, registers, thread }, false)
}

/// A sampled fault, until the kernel counts the page that it is about.
#[repr(C)]
#[derive(Clone, Copy)]
struct Fault {
    address: u64,
    stack: u64,
    /// Where the thread was.
    ip: u64,
}

/// By thread. Only samples are in it.
#[map]
static FAULTS: HashMap<u64, Fault> = HashMap::with_max_entries(4096, 0);

/// How many there are: as a rule none.
#[map]
static FAULT_COUNT: Array<u64> = Array::with_max_entries(1, 0);

/// The last fault of the target on this CPU.
#[repr(C)]
#[derive(Clone, Copy)]
struct LastFault {
    thread: u64,
    address: u64,
}

/// Whoever comes next on the CPU replaces it: then a large page is not told.
#[map]
static LAST_FAULT: PerCpuArray<LastFault> = PerCpuArray::with_max_entries(1, 0);

/// `page_fault_user(unsigned long address, struct pt_regs *regs, unsigned long error_code)`: where
/// programs cannot hang on functions. What comes of the fault is told by the counters.
#[raw_tracepoint(tracepoint = "page_fault_user")]
pub fn page_fault_user(ctx: RawTracePointContext) -> u32 {
    if target_config().is_some() {
        begin_fault(ctx.arg(0));
    }
    0
}

/// `page_fault_kernel`, likewise: system calls that write to pages that nobody has used. Reads that must
/// not fault, as those of programs like this, are among them; no page comes of these.
#[raw_tracepoint(tracepoint = "page_fault_kernel")]
pub fn page_fault_kernel(ctx: RawTracePointContext) -> u32 {
    let address: u64 = ctx.arg(0);
    if address < USER_END && target_config().is_some() {
        begin_fault(address);
    }
    0
}

#[inline(always)]
fn begin_fault(address: u64) -> Option<()> {
    let growth = GROWTH.get(0)?;
    let counters = function_counters(AllocFn::PageFault as u8)?;
    // SAFETY: a counter of this CPU's map value.
    atomic::increment(unsafe { &raw mut (*counters).entries });
    let thread = bpf_get_current_pid_tgid();
    let last = LAST_FAULT.get_ptr_mut(0)?;
    // SAFETY: a live map value, which only programs of this CPU use.
    unsafe { last.write(LastFault { thread, address }) };
    let count = FAULT_COUNT.get_ptr_mut(0)?;
    forget_fault(thread, count);
    let interval = Interval::from_exponent(growth.interval as u8);
    // SAFETY: the helper has no preconditions.
    if !interval.is_sampled(1 << PAGE_SHIFT, unsafe { bpf_get_prandom_u32() }) {
        return None;
    }
    let mut place = MaybeUninit::uninit();
    let registers = registers_of_user(&mut place)?;
    let stack = stack_of(registers);
    let fault = Fault { address: address & !((1 << PAGE_SHIFT) - 1), stack, ip: registers.ip };
    if FAULTS.insert(thread, fault, 0).is_ok() {
        atomic::increment(count);
    }
    Some(())
}

/// Of a fault that no page came of.
#[inline(always)]
fn forget_fault(thread: u64, count: *mut u64) {
    // SAFETY: a live map value.
    if unsafe { count.read_volatile() } != 0 && FAULTS.remove(thread).is_ok() {
        atomic::decrement(count);
    }
}

/// The kernel counts pages: a large one, or that of a sampled fault. A large page is known by how much
/// is counted at once: smaller numbers wait on their CPU until there are more.
#[inline(always)]
fn end_fault(config: &Config, growth: &GrowthConfig, kind: u64, grown_pages: u64) -> Option<()> {
    if kind != RssKind::Anonymous as u64 && kind != RssKind::Shared as u64 {
        return None;
    }
    let count = FAULT_COUNT.get_ptr_mut(0)?;
    let thread = bpf_get_current_pid_tgid();
    let interval = Interval::from_exponent(growth.interval as u8);
    if grown_pages >> HUGE_ORDER != 0 {
        forget_fault(thread, count);
        return take_huge_page(config, interval, thread);
    }
    // SAFETY: a live map value.
    if unsafe { count.read_volatile() } == 0 {
        return None;
    }
    // SAFETY: the entry is this thread's own.
    let Fault { address, stack, ip } = *unsafe { FAULTS.get(thread) }?;
    // Else it is of something that the thread did since.
    let mut place = MaybeUninit::uninit();
    let is_same = registers_of_user(&mut place).is_some_and(|registers| registers.ip == ip);
    forget_fault(thread, count);
    if is_same {
        let size_bytes = 1 << PAGE_SHIFT;
        tell(config, interval, AllocRecord { size_bytes, address, stack, ..Default::default() });
    }
    Some(())
}

#[inline(always)]
fn take_huge_page(config: &Config, interval: Interval, thread: u64) -> Option<()> {
    let size_bytes = 1 << (PAGE_SHIFT + HUGE_ORDER);
    // SAFETY: a live map value.
    let last = unsafe { LAST_FAULT.get_ptr(0)?.read() };
    // SAFETY: the helper has no preconditions.
    let is_sampled = interval.is_sampled(size_bytes, unsafe { bpf_get_prandom_u32() });
    if last.thread != thread || !is_sampled {
        return None;
    }
    let address = last.address & !(size_bytes - 1);
    let mut place = MaybeUninit::uninit();
    let stack = stack_of(registers_of_user(&mut place)?);
    tell(config, interval, AllocRecord { size_bytes, address, stack, ..Default::default() });
    Some(())
}

#[inline(always)]
fn tell(config: &Config, interval: Interval, record: AllocRecord) {
    let (kind, function) = (RecordKind::Alloc, AllocFn::PageFault as u8);
    let header = emit::header(kind, function, u64::from(interval.to_flags()));
    if !emit::record(config, kind, AllocRecord { header, ..record })
        && let Some(counters) = function_counters(function)
    {
        // SAFETY: a counter of this CPU's map value.
        atomic::increment(unsafe { &raw mut (*counters).lost });
    }
}

/// `rss_stat(struct mm_struct *mm, int member)`, since Linux 6.2
#[raw_tracepoint(tracepoint = "rss_stat")]
pub fn rss_stat(ctx: RawTracePointContext) -> u32 {
    if let Some(config) = target_config() {
        let (mm, kind): (u64, u64) = (ctx.arg(0), ctx.arg(1));
        read_count(config, mm, kind);
    }
    0
}

/// `rss_stat(struct mm_struct *mm, int member, long count)`, before
#[raw_tracepoint(tracepoint = "rss_stat")]
pub fn rss_stat_counted(ctx: RawTracePointContext) -> u32 {
    if let Some(config) = target_config() {
        let (mm, kind, count): (u64, u64, i64) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
        take_count(config, mm, kind, count);
    }
    0
}

#[inline(always)]
fn read_count(config: &Config, mm: u64, kind: u64) -> Option<()> {
    let growth = GROWTH.get(0)?;
    let kind = kind & (RSS_KINDS as u64 - 1);
    let at = u64::from(growth.rss_count) + kind * u64::from(growth.rss_step);
    let count = kernel_word(mm + at)?;
    take_count(config, mm, kind, count as i64)
}

#[inline(always)]
fn take_count(config: &Config, mm: u64, kind: u64, count: i64) -> Option<()> {
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
    let before = unsafe {
        let place = (&raw mut (*counts).pages).cast::<u64>().add(kind as usize & (RSS_KINDS - 1));
        let before = place.read_volatile();
        place.write_volatile(pages);
        atomic::increment(&raw mut (*counts).updates);
        keep_peak(&mut *counts);
        before
    };
    end_fault(config, growth, kind, pages.saturating_sub(before))
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
