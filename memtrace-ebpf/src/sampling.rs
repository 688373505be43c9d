//! Which heap calls are recorded: decided before a stack is walked, at the cost of a look at the
//! arguments for those that are not.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use memtrace_common::{
    call::{Arrival, NOTHING_BEGINS, PassedOver, RELEASE_ONLY, Verdict},
    config::Config,
    loss::{ABSURD_BYTES, FunctionCounters},
    memory::ReadMemory as _,
    sample::Interval,
    wire::RecordKind,
};

use crate::{atomic, entry::Hit, maps::image, memory::UserMemory, remembered};

/// Decides on a call that no recorded one makes: [`Arrival::verdict`].
#[inline(always)]
pub fn decide(hit: &Hit, sp: u64, arrival: &mut Arrival, passed_over: &mut PassedOver) {
    let is_drawn = is_drawn(arrival);
    // What CPython's call is told by its slot: their code is anywhere in the interpreter.
    let is_python = hit.cookie.is_of_python();
    if !is_python && is_made_by_another(hit, sp, arrival.interval(), is_drawn, passed_over) {
        return arrival.verdict.set(Verdict::Nested as u32);
    }
    let releases = follows_old(hit.config, arrival);
    arrival.verdict.set(match (is_drawn, releases, is_python) {
        (true, _, _) => Verdict::Recorded,
        (false, true, _) => Verdict::ReleaseOnly,
        (false, false, true) => Verdict::Followed,
        (false, false, false) => Verdict::PassedOver,
    } as u32);
    if !is_drawn {
        arrival.extra.set(RELEASE_ONLY);
    }
}

#[inline(always)]
fn is_drawn(arrival: &Arrival) -> bool {
    // SAFETY: the helper has no preconditions.
    arrival.interval().is_sampled(arrival.size_bytes.get(), unsafe { bpf_get_prandom_u32() })
}

/// Whether a call that was passed over makes this one. The return address is read only where that
/// can be or the call matters: a read costs as much as all else here.
#[inline(always)]
fn is_made_by_another(
    hit: &Hit,
    sp: u64,
    interval: Interval,
    is_drawn: bool,
    passed_over: &mut PassedOver,
) -> bool {
    let may_be_inside = passed_over.may_contain(sp);
    let is_leaf = hit.cookie.is_leaf();
    // While all calls are recorded, those that are inside of others are told before.
    let matters = !interval.is_exact() && (is_drawn || !is_leaf);
    if !matters && !may_be_inside {
        return false;
    }
    let caller = UserMemory.read_word(sp).unwrap_or_default();
    if is_inside(hit, sp, caller, passed_over) {
        return true;
    }
    passed_over.sp = 0;
    if !is_leaf && !is_drawn {
        *passed_over = PassedOver { sp, return_address: caller, cookie: hit.cookie.0 };
    }
    false
}

#[inline(always)]
fn is_inside(hit: &Hit, sp: u64, caller: u64, passed_over: &PassedOver) -> bool {
    hit.config.is_heap_code(caller, image())
        || passed_over.may_contain(sp)
            && passed_over.has_jumped_to(sp, hit.cookie.0, caller, hit.config.trampoline)
}

/// Whether a free is made by a call that was passed over.
#[inline(always)]
pub fn is_free_of_another(hit: &Hit, sp: u64, passed_over: &mut PassedOver) -> bool {
    if !passed_over.may_contain(sp) {
        return false;
    }
    let caller = UserMemory.read_word(sp).unwrap_or_default();
    let is_inside = is_inside(hit, sp, caller, passed_over);
    if !is_inside {
        passed_over.sp = 0;
    }
    is_inside
}

/// Whether the call may release a block that is followed, which it is not from here on. Of others
/// nothing is told.
#[inline(always)]
fn follows_old(config: &Config, arrival: &mut Arrival) -> bool {
    if arrival.begin.get() != RecordKind::ReallocBegin as u32 {
        return false;
    }
    let address = arrival.address.get();
    let follows = address != 0 && remembered::remove(config, address);
    if !follows {
        arrival.address.set(0);
        arrival.begin.set(NOTHING_BEGINS);
    }
    follows
}

/// Whether a mapping call made by this caller is the allocator's own, although no call is in flight
/// that would tell.
#[inline(always)]
pub fn is_mapped_by_allocator(config: &Config, sp: u64) -> bool {
    config.remembers()
        && UserMemory.read_word(sp).is_some_and(|caller| config.is_mapping_code(caller, image()))
}

/// Counts an outermost call.
#[inline(always)]
pub fn count(counters: *mut FunctionCounters, arrival: &Arrival) {
    // SAFETY: counters of this CPU's map value, here and below.
    atomic::increment(unsafe { &raw mut (*counters).entries });
    let size_bytes = arrival.size_bytes.get();
    if arrival.is_mapping.get() == 0 && size_bytes < ABSURD_BYTES {
        atomic::add(unsafe { &raw mut (*counters).requested_bytes }, size_bytes);
    }
}
