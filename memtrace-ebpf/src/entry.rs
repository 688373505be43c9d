//! What every entry probe does: find out whether the call is the outermost of its family, and
//! remember it for its return.

use core::mem::offset_of;

use aya_ebpf::{
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_get_attach_cookie, bpf_jiffies64},
    },
    maps::ProgramArray,
    programs::ProbeContext,
};
use aya_log_ebpf::debug;
use memtrace_common::{
    call::{Arrival, Call, Entry, HandedOn, InFlight, NOT_RECORDED, SiteCookie, Verdict},
    clock::Clock,
    config::Config,
    loss::{FunctionCounters, KernelLoss, STACKS_A_TIMED},
    memory::ReadMemory as _,
    unwind::Registers,
    wire::{FLAG_INTERNAL, FreeRecord, ProcessRecord, RangeRecord, RecordHeader, RecordKind},
};

use crate::{
    arguments, atomic, decline_private_stack, emit, in_flight,
    maps::{NO_PROGRAMS, NO_SESSIONS, active_config, count_loss, function_counters, image},
    memory::UserMemory,
    remembered, sampling, stack,
};

/// 2^64 divided by the golden ratio: numbers that follow each other, times this, are far apart.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Which slot of [`InFlight`] a function uses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Heap,
    Mapping,
}

impl Family {
    /// The family's slot.
    ///
    /// # Safety
    /// `calls` points to a live map value.
    #[inline(always)]
    pub unsafe fn slot(self, calls: *mut InFlight) -> *mut Call {
        // SAFETY: by contract.
        unsafe {
            match self {
                Self::Heap => &raw mut (*calls).heap,
                Self::Mapping => &raw mut (*calls).mapping,
            }
        }
    }
}

/// What a probe knows about its hit.
pub struct Hit {
    pub config: &'static Config,
    pub cookie: SiteCookie,
    pub counters: *mut FunctionCounters,
    /// The `pid_tgid` of the thread.
    pub thread: u64,
}

impl Hit {
    /// The head of a record of the hit, now.
    #[inline(always)]
    pub fn header(&self, kind: RecordKind, flags: u64) -> RecordHeader {
        self.header_at(kind, flags, emit::now_ns())
    }

    /// The same at a time.
    #[inline(always)]
    pub fn header_at(&self, kind: RecordKind, flags: u64, time_ns: u64) -> RecordHeader {
        emit::header_of(self.thread, kind, self.cookie.function(), flags, time_ns)
    }

    /// When an event of the heap is: as the thread's clock says, where all are recorded; else births are
    /// told apart by bursts of some milliseconds.
    #[inline(always)]
    pub fn time_ns(&self, clock: &mut Clock) -> u64 {
        if self.config.remembers() {
            return emit::now_ns();
        }
        // SAFETY: the helper has no preconditions.
        clock.time_ns(unsafe { bpf_jiffies64() }, emit::now_ns)
    }
}

/// The hit's context, `None` while the window is closed. `no_programs` is for
/// [`decline_private_stack`].
#[inline(always)]
pub fn hit<C: aya_ebpf::EbpfContext>(ctx: &C, no_programs: &ProgramArray) -> Option<Hit> {
    hit_at(ctx, cookie(ctx), no_programs)
}

/// The same where the site's cookie is known: asking for it again is one call more.
#[inline(always)]
pub fn hit_at<C: aya_ebpf::EbpfContext>(
    ctx: &C,
    cookie: SiteCookie,
    no_programs: &ProgramArray,
) -> Option<Hit> {
    let config = active_config()?;
    let counters = function_counters(cookie.function())?;
    decline_private_stack(ctx, counters, no_programs);
    Some(Hit { config, cookie, counters, thread: bpf_get_current_pid_tgid() })
}

/// What is known of the site.
#[inline(always)]
pub fn cookie<C: aya_ebpf::EbpfContext>(ctx: &C) -> SiteCookie {
    // SAFETY: the context is the kernel's own.
    SiteCookie(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) })
}

#[inline(always)]
fn read_word(address: u64) -> Option<u64> {
    UserMemory.read_word(address)
}

/// Records the entry of a function whose result matters; `None` when its return does not.
#[inline(always)]
pub fn enter(ctx: &ProbeContext, cookie: SiteCookie) -> Option<()> {
    let hit = hit_at(ctx, cookie, &NO_SESSIONS)?;
    let registers = registers(ctx);
    let Some(calls) = in_flight::get_or_insert(hit.thread) else {
        count_loss(KernelLoss::InFlightFull);
        return None;
    };
    // SAFETY: `calls` is a live map value that only this thread uses; nothing else refers to this
    // part of it.
    let arrival = unsafe { &mut (*calls).arrival };
    arguments::read(ctx, hit.cookie, arrival);
    arrival.interval.set(hit.config.present_interval());
    // SAFETY: as above; the slots do not overlap with the arrival.
    let slot = unsafe { &mut *slot_of(calls, arrival.is_mapping.get()) };
    // The return address is read only where it is needed: a read costs as much as two frames.
    let from_allocator = |word| is_from_allocator(hit.config, registers.sp, word);
    match slot.classify_entry(registers.sp, hit.config.trampoline, from_allocator, read_word) {
        Entry::Outermost => {}
        Entry::AfterAbandoned => {
            debug!(ctx, "call of site {:x} at sp {:x} was abandoned", slot.cookie, slot.sp);
            if slot.is_recorded() {
                count_abandoned(SiteCookie(slot.cookie));
            }
        }
        Entry::Nested => {
            // SAFETY: a counter of this CPU's map value.
            atomic::increment(unsafe { &raw mut (*hit.counters).nested });
            return None;
        }
    }
    if hit.config.remembers() && arrival.is_mapping.get() == 0 {
        // SAFETY: as for `slot`, which it does not overlap.
        let passed_over = unsafe { &mut (*calls).passed_over };
        sampling::decide(&hit, registers.sp, arrival, passed_over);
    }
    if arrival.verdict.get() == Verdict::Nested as u32 {
        slot.sp = 0;
        // SAFETY: a counter of this CPU's map value.
        atomic::increment(unsafe { &raw mut (*hit.counters).nested });
        return None;
    }
    sampling::count(hit.counters, arrival);
    // SAFETY: as for `slot`, which it does not overlap.
    unsafe { (*calls).handed_on.address = 0 };
    if is_only_counted(arrival) {
        // SAFETY: a counter of this CPU's map value.
        atomic::increment(unsafe { &raw mut (*hit.counters).passed_over });
    }
    if arrival.verdict.get() == Verdict::PassedOver as u32 {
        slot.sp = 0;
        return None;
    }
    // SAFETY: as for `slot`; it is read before the slot is written.
    let internal = arrival.is_mapping.get() != 0
        && (unsafe { is_inside(ctx, hit.config, &(*calls).heap) }
            || sampling::is_mapped_by_allocator(hit.config, registers.sp));
    take(&hit, registers, arrival, slot);
    slot.flags = flags(&hit, arrival, internal);
    slot.stack = 0;
    if !internal && is_stack_wanted(arrival) {
        // SAFETY: as for `slot`, which it does not overlap.
        let thread = unsafe { &mut (*calls).python };
        let start = stack::Start { from: stack::From::Entry, registers, thread };
        slot.stack = stack::capture(start, is_timed(&hit));
    }
    // SAFETY: as for `slot`, which it does not overlap.
    let clock = unsafe { &mut (*calls).clock };
    emit_begin(&hit, slot, arrival.begin.get(), clock)
}

/// Whether this hit's stack is one of those whose time is taken: by chance, or calls that take turns would
/// always be the same ones.
#[inline(always)]
fn is_timed(hit: &Hit) -> bool {
    // SAFETY: a counter of this CPU's map value.
    let entries = unsafe { (&raw const (*hit.counters).entries).read_volatile() };
    entries.wrapping_mul(SPREAD) <= u64::MAX / STACKS_A_TIMED
}

/// A call that will not return. One that may throw has thrown: it failed.
#[inline(always)]
fn count_abandoned(cookie: SiteCookie) {
    if !cookie.is_throwing() {
        return count_loss(KernelLoss::AbandonedCall);
    }
    if let Some(counters) = function_counters(cookie.function()) {
        // SAFETY: counters of this CPU's map value.
        unsafe {
            atomic::increment(&raw mut (*counters).void);
            atomic::increment(&raw mut (*counters).returns);
        }
    }
}

#[inline(always)]
fn flags(hit: &Hit, arrival: &Arrival, internal: bool) -> u64 {
    if is_only_counted(arrival) {
        return NOT_RECORDED;
    }
    let object = hit.cookie.object_flags();
    if arrival.is_mapping.get() == 0 {
        return u64::from(arrival.interval().to_flags() | object);
    }
    u64::from(if internal { FLAG_INTERNAL } else { 0 } | object)
}

/// Nobody asks who released something.
#[inline(always)]
fn is_stack_wanted(arrival: &Arrival) -> bool {
    arrival.begin.get() != RecordKind::UnmapBegin as u32
        && arrival.verdict.get() != Verdict::ReleaseOnly as u32
        && !is_only_counted(arrival)
}

#[inline(always)]
fn is_only_counted(arrival: &Arrival) -> bool {
    let verdict = arrival.verdict.get();
    verdict == Verdict::PassedOver as u32 || verdict == Verdict::Followed as u32
}

/// The slot of the heap functions or that of the mapping functions. By a computed address: the
/// verifier would follow what comes after once for each of two.
///
/// # Safety
/// `calls` points to a live map value.
#[inline(always)]
unsafe fn slot_of(calls: *mut InFlight, is_mapping: u32) -> *mut Call {
    const { assert!(offset_of!(InFlight, heap) == 0) };
    const { assert!(offset_of!(InFlight, mapping) == size_of::<Call>()) };
    // SAFETY: by contract, and the mask keeps the index inside of the two slots.
    unsafe { calls.cast::<Call>().add(is_mapping as usize & 1) }
}

/// Remembers a call for its return.
#[inline(always)]
fn take(hit: &Hit, registers: Registers, arrival: &Arrival, slot: &mut Call) {
    slot.sp = registers.sp;
    slot.return_address = 0;
    if hit.config.trampoline == 0 || hit.cookie.is_throwing() {
        slot.return_address = read_word(registers.sp).unwrap_or_default();
    }
    slot.cookie = hit.cookie.0;
    slot.address = arrival.address.get();
    slot.size_bytes = arrival.size_bytes.get();
    slot.extra = arrival.extra.get();
}

/// Tells what a call may release before it returns.
#[inline(always)]
fn emit_begin(hit: &Hit, call: &Call, begin: u32, clock: &mut Clock) -> Option<()> {
    if begin == RecordKind::ReallocBegin as u32 && call.address != 0 {
        let kind = RecordKind::ReallocBegin;
        let flags = u64::from(hit.cookie.object_flags());
        let header = hit.header_at(kind, flags, hit.time_ns(clock));
        emit::record(hit.config, kind, FreeRecord { header, address: call.address });
    } else if begin == RecordKind::UnmapBegin as u32 {
        emit_range(hit, call, RecordKind::UnmapBegin, call.size_bytes);
    } else if begin == RecordKind::RemapBegin as u32 {
        emit_range(hit, call, RecordKind::RemapBegin, call.extra);
    }
    Some(())
}

#[inline(always)]
fn emit_range(hit: &Hit, call: &Call, kind: RecordKind, length_bytes: u64) {
    let header = hit.header(kind, call.flags);
    let record = RangeRecord { header, address: call.address, length_bytes };
    emit::record(hit.config, kind, record);
}

/// Records a `free`: nothing is known better at its return.
#[inline(always)]
pub fn enter_free(ctx: &ProbeContext) -> Option<()> {
    let hit = hit(ctx, &NO_PROGRAMS)?;
    let address = arguments::placed(ctx, hit.cookie.arguments(), 0);
    let Some(calls) = in_flight::get(hit.thread) else { return emit_free(&hit, address, None) };
    if is_part_of_another(ctx, &hit, calls, address) {
        // SAFETY: a counter of this CPU's map value.
        atomic::increment(unsafe { &raw mut (*hit.counters).nested });
        return None;
    }
    // SAFETY: `calls` is a live map value that only this thread uses.
    emit_free(&hit, address, Some(unsafe { &mut (*calls).clock }))
}

/// Records a free of CPython's allocator, and remembers it for a `free` that it hands the block
/// on to.
#[inline(always)]
pub fn enter_free_of_python(ctx: &ProbeContext, address: u64) -> Option<()> {
    let hit = hit(ctx, &NO_PROGRAMS)?;
    let Some(calls) = in_flight::get_or_insert(hit.thread) else {
        count_loss(KernelLoss::InFlightFull);
        return emit_free(&hit, address, None);
    };
    if is_part_of_another(ctx, &hit, calls, 0) {
        // SAFETY: a counter of this CPU's map value.
        atomic::increment(unsafe { &raw mut (*hit.counters).nested });
        return None;
    }
    // SAFETY: `calls` is a live map value that only this thread uses.
    unsafe { (*calls).handed_on = HandedOn { sp: registers(ctx).sp, address } };
    // SAFETY: as above.
    emit_free(&hit, address, Some(unsafe { &mut (*calls).clock }))
}

/// Whether a free is made by a call that is in flight, or by an outer free, which `address` ends.
#[inline(always)]
fn is_part_of_another(ctx: &ProbeContext, hit: &Hit, calls: *mut InFlight, address: u64) -> bool {
    // SAFETY: `calls` is a live map value that only this thread uses.
    let (heap, handed_on, passed_over) =
        unsafe { (&(*calls).heap, &mut (*calls).handed_on, &mut (*calls).passed_over) };
    if handed_on.leads_to(registers(ctx).sp, address) {
        handed_on.address = 0;
        return true;
    }
    heap.is_active() && is_inside(ctx, hit.config, heap)
        || sampling::is_free_of_another(hit, registers(ctx).sp, passed_over)
}

#[inline(always)]
fn emit_free(hit: &Hit, address: u64, clock: Option<&mut Clock>) -> Option<()> {
    // SAFETY: a counter of this CPU's map value, here and below.
    atomic::increment(unsafe { &raw mut (*hit.counters).entries });
    if address == 0 {
        // SAFETY: as above.
        atomic::increment(unsafe { &raw mut (*hit.counters).void });
        return None;
    }
    if !remembered::remove(hit.config, address) {
        // SAFETY: as above.
        atomic::increment(unsafe { &raw mut (*hit.counters).passed_over });
        return None;
    }
    let flags = u64::from(hit.cookie.object_flags());
    let time_ns = clock.map_or_else(emit::now_ns, |clock| hit.time_ns(clock));
    let header = hit.header_at(RecordKind::Free, flags, time_ns);
    if !emit::record(hit.config, RecordKind::Free, FreeRecord { header, address }) {
        // SAFETY: as above.
        atomic::increment(unsafe { &raw mut (*hit.counters).lost });
    }
    Some(())
}

/// Tells that the loaded libraries change; the reader has to look at once.
#[inline(always)]
pub fn tell_code_change(ctx: &ProbeContext) -> Option<()> {
    let hit = hit(ctx, &NO_PROGRAMS)?;
    let kind = RecordKind::CodeChange;
    let header = hit.header(kind, 0);
    emit::record_now(kind, ProcessRecord { header });
    Some(())
}

/// Whether a `free` is inside a call.
#[inline(always)]
fn is_inside(ctx: &ProbeContext, config: &Config, call: &Call) -> bool {
    let sp = registers(ctx).sp;
    let from_allocator = |word| is_from_allocator(config, sp, word);
    call.contains(sp, config.trampoline, from_allocator, read_word)
}

/// Whether the function entered with this stack pointer was called by allocator code, or jumped to by
/// a function that was and has a return probe: then the return address is the trampoline, which is
/// also that of the outer call, `word`, unless that one may throw.
#[inline(always)]
fn is_from_allocator(config: &Config, sp: u64, word: u64) -> bool {
    let Some(caller) = read_word(sp) else { return false };
    let is_jump = caller == word || (caller == config.trampoline && caller != 0);
    is_jump || config.may_be_allocator_code(caller, image())
}

/// The registers at a function's entry.
#[inline(always)]
fn registers(ctx: &ProbeContext) -> Registers {
    // SAFETY: the kernel passes valid registers.
    unsafe { Registers { sp: (*ctx.regs).rsp, bp: (*ctx.regs).rbp } }
}
