//! What every entry probe does: find out whether the call is the outermost of its family, and
//! remember it for its return.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_attach_cookie},
    programs::ProbeContext,
};
use aya_log_ebpf::debug;
use memtrace_common::{
    call::{Call, Entry, InFlight, SiteCookie},
    config::Config,
    loss::{FunctionCounters, KernelLoss},
    memory::ReadMemory as _,
    unwind::Registers,
    wire::{FLAG_INTERNAL, FreeRecord, ProcessRecord, RangeRecord, RecordKind},
};

use crate::{
    atomic, decline_private_stack, emit, in_flight,
    maps::{active_config, count_loss, function_counters, image},
    memory::UserMemory,
    stack,
};

/// The arguments of a call, in the terms of [`Call`].
pub struct Arguments {
    pub address: u64,
    pub size_bytes: u64,
    pub extra: u64,
}

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
}

/// The hit's context, `None` while the window is closed.
#[inline(always)]
pub fn hit<C: aya_ebpf::EbpfContext>(ctx: &C) -> Option<Hit> {
    let config = active_config()?;
    // SAFETY: the context is the kernel's own.
    let cookie = SiteCookie(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) });
    let counters = function_counters(cookie.function())?;
    decline_private_stack(ctx, counters);
    Some(Hit { config, cookie, counters })
}

#[inline(always)]
fn read_word(address: u64) -> Option<u64> {
    UserMemory.read_word(address)
}

/// Records the entry of a function whose result matters. `begin` is the record that says what
/// the call may release before it returns.
#[inline(always)]
pub fn enter(
    ctx: &ProbeContext,
    family: Family,
    arguments: Arguments,
    begin: Option<RecordKind>,
) -> Option<()> {
    let hit = hit(ctx)?;
    let (registers, caller) = caller(ctx)?;
    let Some(calls) = in_flight::get_or_insert(bpf_get_current_pid_tgid()) else {
        count_loss(KernelLoss::InFlightFull);
        return None;
    };
    // SAFETY: `calls` is a live map value that only this thread uses.
    let slot = unsafe { &mut *family.slot(calls) };
    let from_allocator = || is_from_allocator(hit.config, caller);
    match slot.classify_entry(registers.sp, hit.config.trampoline, from_allocator, read_word) {
        Entry::Outermost => {}
        Entry::AfterAbandoned => {
            debug!(ctx, "call of site {:x} at sp {:x} was abandoned", slot.cookie, slot.sp);
            count_loss(KernelLoss::AbandonedCall);
        }
        Entry::Nested => {
            // SAFETY: a counter of this CPU's map value.
            atomic::increment(unsafe { &raw mut (*hit.counters).nested });
            return None;
        }
    }
    // SAFETY: a counter of this CPU's map value.
    atomic::increment(unsafe { &raw mut (*hit.counters).entries });
    slot.sp = registers.sp;
    slot.return_address = caller;
    slot.cookie = hit.cookie.0;
    slot.address = arguments.address;
    slot.size_bytes = arguments.size_bytes;
    slot.extra = arguments.extra;
    // SAFETY: as for `slot`; the two slots do not overlap.
    let heap = unsafe { &*Family::Heap.slot(calls) };
    let internal = family == Family::Mapping
        && heap.contains(registers.sp, hit.config.trampoline, from_allocator, read_word);
    slot.flags = if internal { u64::from(FLAG_INTERNAL) } else { 0 };
    slot.stack = 0;
    if !internal {
        slot.stack = stack::capture(ctx, hit.config, registers, caller);
    }
    emit_begin(&hit, slot, begin)
}

#[inline(always)]
fn emit_begin(hit: &Hit, call: &Call, begin: Option<RecordKind>) -> Option<()> {
    let kind = begin?;
    let header = emit::header(kind, hit.cookie.function(), call.flags);
    match kind {
        RecordKind::ReallocBegin if call.address != 0 => {
            emit::record(hit.config, kind, FreeRecord { header, address: call.address });
        }
        RecordKind::UnmapBegin | RecordKind::RemapBegin => {
            let length_bytes =
                if kind == RecordKind::UnmapBegin { call.size_bytes } else { call.extra };
            let address = call.address;
            emit::record(hit.config, kind, RangeRecord { header, address, length_bytes });
        }
        _ => {}
    }
    Some(())
}

/// Records a `free`: nothing is known better at its return.
#[inline(always)]
pub fn enter_free(ctx: &ProbeContext, address: u64) -> Option<()> {
    let hit = hit(ctx)?;
    if let Some(calls) = in_flight::get(bpf_get_current_pid_tgid()) {
        // SAFETY: `calls` is a live map value that only this thread uses.
        let heap = unsafe { &*Family::Heap.slot(calls) };
        if heap.is_active() && is_inside(ctx, hit.config, heap) {
            // SAFETY: a counter of this CPU's map value.
            atomic::increment(unsafe { &raw mut (*hit.counters).nested });
            return None;
        }
    }
    // SAFETY: a counter of this CPU's map value, here and below.
    atomic::increment(unsafe { &raw mut (*hit.counters).entries });
    if address == 0 {
        // SAFETY: as above.
        atomic::increment(unsafe { &raw mut (*hit.counters).void });
        return None;
    }
    let header = emit::header(RecordKind::Free, hit.cookie.function(), 0);
    if !emit::record(hit.config, RecordKind::Free, FreeRecord { header, address }) {
        // SAFETY: as above.
        atomic::increment(unsafe { &raw mut (*hit.counters).lost });
    }
    Some(())
}

/// Tells that the loaded libraries change; the reader has to look at once.
#[inline(always)]
pub fn tell_code_change(ctx: &ProbeContext) -> Option<()> {
    let hit = hit(ctx)?;
    let kind = RecordKind::CodeChange;
    let header = emit::header(kind, hit.cookie.function(), 0);
    emit::record_now(kind, ProcessRecord { header });
    Some(())
}

/// Whether a `free` is inside a call.
#[inline(always)]
fn is_inside(ctx: &ProbeContext, config: &Config, call: &Call) -> bool {
    let Some((registers, caller)) = caller(ctx) else { return false };
    let from_allocator = || is_from_allocator(config, caller);
    call.contains(registers.sp, config.trampoline, from_allocator, read_word)
}

#[inline(always)]
fn is_from_allocator(config: &Config, caller: u64) -> bool {
    config.may_be_allocator_code(caller, image())
}

#[inline(always)]
fn stack_pointer(ctx: &ProbeContext) -> u64 {
    // SAFETY: the kernel passes valid registers.
    unsafe { (*ctx.regs).rsp }
}

/// The registers at a function's entry, and its return address.
#[inline(always)]
fn caller(ctx: &ProbeContext) -> Option<(Registers, u64)> {
    // SAFETY: the kernel passes valid registers.
    let bp = unsafe { (*ctx.regs).rbp };
    let registers = Registers { sp: stack_pointer(ctx), bp };
    Some((registers, read_word(registers.sp)?))
}
