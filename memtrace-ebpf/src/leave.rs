//! What every return probe does: find the call that it ends, and tell the outcome.

use aya_ebpf::{
    maps::ProgramArray,
    programs::{ProbeContext, RetProbeContext},
};
use memtrace_common::{
    call::{Call, RELEASE_ONLY, SiteCookie},
    function::{AllocFn, CallShape},
    loss::KernelLoss,
    memory::ReadMemory as _,
    wire::{
        AllocRecord, BreakRecord, MapRecord, ReallocRecord, RecordKind, RemapRecord, UnmapRecord,
    },
};

use crate::{
    atomic, emit,
    entry::{Family, Hit, cookie, hit, hit_at},
    in_flight,
    maps::{NO_PROGRAMS, NO_SESSIONS, count_loss, function_counters},
    memory::UserMemory,
    remembered,
};

/// `mmap` and kin return error numbers as the last page of the address space, libc's wrappers -1.
const FIRST_ERROR: u64 = -4095i64 as u64;

/// The return of any function, in a session.
#[inline(always)]
pub fn leave_any(ctx: &RetProbeContext, cookie: SiteCookie) {
    let shape = cookie.shape();
    if shape >= CallShape::Mmap as u8 && shape <= CallShape::Sbrk as u8 {
        if let Some(outcome) = leave_at(ctx, cookie, &NO_SESSIONS, Family::Mapping) {
            outcome.mapping();
        }
    } else if let Some(outcome) = leave_at(ctx, cookie, &NO_SESSIONS, Family::Heap) {
        outcome.heap(shape);
    }
}

/// A call that ended.
pub struct Outcome {
    hit: Hit,
    call: Call,
    result: u64,
    time_ns: u64,
}

/// Takes the ended call out of its slot.
#[inline(always)]
pub fn leave(ctx: &RetProbeContext, no_programs: &ProgramArray, family: Family) -> Option<Outcome> {
    leave_at(ctx, cookie(ctx), no_programs, family)
}

#[inline(always)]
fn leave_at(
    ctx: &RetProbeContext,
    cookie: SiteCookie,
    no_programs: &ProgramArray,
    family: Family,
) -> Option<Outcome> {
    let hit = hit_at(ctx, cookie, no_programs)?;
    // SAFETY: the kernel passes valid registers.
    let (sp, result) = unsafe { ((*ctx.regs).rsp, (*ctx.regs).rax) };
    let Some(calls) = in_flight::get(hit.thread) else {
        count_loss(KernelLoss::ReturnWithoutEntry);
        return None;
    };
    // SAFETY: `calls` is a live map value that only this thread uses.
    let slot = unsafe { &mut *family.slot(calls) };
    if !slot.is_active() {
        count_loss(KernelLoss::ReturnWithoutEntry);
        return None;
    }
    if !slot.is_ended_by(sp, hit.cookie.0) {
        // A nested call's return.
        return None;
    }
    let call = *slot;
    slot.sp = 0;
    if !call.is_recorded() {
        return None;
    }
    // SAFETY: a counter of this CPU's map value.
    atomic::increment(unsafe { &raw mut (*hit.counters).returns });
    let time_ns = match family {
        // SAFETY: as above; the clock and the slot do not overlap.
        Family::Heap => hit.time_ns(unsafe { &mut (*calls).clock }),
        Family::Mapping => emit::now_ns(),
    };
    Some(Outcome { hit, call, result, time_ns })
}

/// Takes the call out of its slot that a hit of an exit site ends, if it ends one: others pass there,
/// too. The site may be in a function that the called one went on to, and is not of its kind.
#[inline(always)]
pub fn leave_by_exit(ctx: &ProbeContext) -> Option<Outcome> {
    let hit = hit(ctx, &NO_PROGRAMS)?;
    // SAFETY: the kernel passes valid registers.
    let (sp, result) = unsafe { ((*ctx.regs).rsp, (*ctx.regs).rax) };
    let calls = in_flight::get(hit.thread)?;
    // SAFETY: `calls` is a live map value that only this thread uses.
    let slot = unsafe { &mut *Family::Heap.slot(calls) };
    if !slot.is_left_at(sp) {
        return None;
    }
    let call = *slot;
    slot.sp = 0;
    let cookie = SiteCookie(call.cookie);
    let counters = function_counters(cookie.function())?;
    // SAFETY: a counter of this CPU's map value.
    atomic::increment(unsafe { &raw mut (*counters).returns });
    // SAFETY: as above; the clock and the slot do not overlap.
    let time_ns = hit.time_ns(unsafe { &mut (*calls).clock });
    Some(Outcome { hit: Hit { cookie, counters, ..hit }, call, result, time_ns })
}

impl Outcome {
    #[inline(always)]
    fn emit<T: 'static>(&self, kind: RecordKind, record: T) -> bool {
        let fits = emit::record(self.hit.config, kind, record);
        if !fits {
            // SAFETY: a counter of this CPU's map value.
            atomic::increment(unsafe { &raw mut (*self.hit.counters).lost });
        }
        fits
    }

    #[inline(always)]
    fn header(&self, kind: RecordKind) -> memtrace_common::wire::RecordHeader {
        self.hit.header_at(kind, self.call.flags, self.time_ns)
    }

    #[inline(always)]
    fn count_void(&self) {
        // SAFETY: a counter of this CPU's map value.
        atomic::increment(unsafe { &raw mut (*self.hit.counters).void });
    }

    /// malloc and kin, by the shape of their arguments.
    #[inline(always)]
    pub fn heap(&self, shape: u8) {
        if shape == CallShape::OldSize as u8
            || shape == CallShape::OldCountSize as u8
            || shape == CallShape::ContextOldSize as u8
        {
            self.realloc();
        } else if shape == CallShape::InPlace as u8 {
            self.in_place();
        } else if shape == CallShape::OutAlignSize as u8 {
            self.out_block();
        } else {
            self.block();
        }
    }

    #[inline(always)]
    fn alloc(&self, address: u64) {
        if address == 0 {
            return self.count_void();
        }
        // Before anybody else can know of the block, and free it.
        if !remembered::insert(self.hit.config, address) {
            return;
        }
        let record = AllocRecord {
            header: self.header(RecordKind::Alloc),
            address,
            size_bytes: self.call.size_bytes,
            stack: self.call.stack,
        };
        if !self.emit(RecordKind::Alloc, record) {
            self.forget(address);
        }
    }

    /// malloc, calloc, memalign and kin: the result is the block.
    #[inline(always)]
    pub fn block(&self) {
        self.alloc(self.result);
    }

    /// posix_memalign: the result is an error number, the block is in `*out`.
    #[inline(always)]
    pub fn out_block(&self) {
        // An `int`: the upper half of the register is undefined.
        if self.result as u32 != 0 {
            return self.count_void();
        }
        match UserMemory.read_word(self.call.address) {
            Some(address) => self.alloc(address),
            None => count_loss(KernelLoss::UnreadableResult),
        }
    }

    /// realloc and reallocarray.
    #[inline(always)]
    pub fn realloc(&self) {
        if self.call.address == 0 {
            return self.alloc(self.result);
        }
        let failed = self.result == 0 && self.call.size_bytes != 0;
        if failed {
            self.count_void();
            // If there is no place any more, that is counted.
            remembered::insert(self.hit.config, self.call.address);
        }
        let is_followed = self.result != 0
            && self.call.extra != RELEASE_ONLY
            && remembered::insert(self.hit.config, self.result);
        // A new block that is not followed is as good as none, as after a realloc to nothing.
        let new_address = if is_followed { self.result } else { 0 };
        let record = ReallocRecord {
            header: self.header(RecordKind::ReallocEnd),
            old_address: self.call.address,
            new_address,
            size_bytes: if is_followed || failed { self.call.size_bytes } else { 0 },
            stack: self.call.stack,
        };
        if !self.emit(RecordKind::ReallocEnd, record) && is_followed {
            self.forget(new_address);
        }
    }

    /// Nobody was told of the block, so that its free would be one of an unknown block.
    #[inline(always)]
    fn forget(&self, address: u64) {
        if self.hit.config.remembers() {
            remembered::remove(self.hit.config, address);
        }
    }

    /// xallocx: the result is how many bytes the block has now. Of a block that is not followed
    /// nothing is told.
    #[inline(always)]
    pub fn in_place(&self) {
        let address = self.call.address;
        if address == 0 {
            return;
        }
        let is_resized = self.result >= self.call.size_bytes;
        if !is_resized {
            self.count_void();
        }
        let is_released = is_resized && self.call.extra == RELEASE_ONLY;
        let is_followed = !is_released && remembered::insert(self.hit.config, address);
        let record = ReallocRecord {
            header: self.header(RecordKind::ReallocEnd),
            old_address: address,
            new_address: if is_resized && is_followed { address } else { 0 },
            // A failure is told from a free by its size.
            size_bytes: if is_released { 0 } else { self.call.size_bytes.max(1) },
            stack: self.call.stack,
        };
        self.emit(RecordKind::ReallocEnd, record);
    }

    /// mmap, munmap, mremap, brk and sbrk.
    #[inline(always)]
    pub fn mapping(&self) {
        let function = self.hit.cookie.function();
        if function == AllocFn::Mmap as u8 {
            self.map();
        } else if function == AllocFn::Munmap as u8 {
            self.unmap();
        } else if function == AllocFn::Mremap as u8 {
            self.remap();
        } else if function == AllocFn::Brk as u8 {
            self.set_break();
        } else if function == AllocFn::Sbrk as u8 {
            self.move_break();
        }
    }

    #[inline(always)]
    fn map(&self) {
        if self.result >= FIRST_ERROR {
            return self.count_void();
        }
        let record = MapRecord {
            header: self.header(RecordKind::Map),
            address: self.result,
            length_bytes: self.call.size_bytes,
            prot: self.call.extra as u32,
            map_flags: (self.call.extra >> 32) as u32,
            stack: self.call.stack,
        };
        self.emit(RecordKind::Map, record);
    }

    #[inline(always)]
    fn unmap(&self) {
        let failed = self.result as u32 != 0;
        if failed {
            self.count_void();
        }
        let record = UnmapRecord {
            header: self.header(RecordKind::UnmapEnd),
            address: self.call.address,
            length_bytes: self.call.size_bytes,
            failed: u64::from(failed),
        };
        self.emit(RecordKind::UnmapEnd, record);
    }

    #[inline(always)]
    fn remap(&self) {
        let failed = self.result >= FIRST_ERROR;
        if failed {
            self.count_void();
        }
        let record = RemapRecord {
            header: self.header(RecordKind::RemapEnd),
            old_address: self.call.address,
            old_length_bytes: self.call.extra,
            new_address: if failed { 0 } else { self.result },
            new_length_bytes: self.call.size_bytes,
            stack: self.call.stack,
        };
        self.emit(RecordKind::RemapEnd, record);
    }

    #[inline(always)]
    fn set_break(&self) {
        if self.result as u32 != 0 {
            return self.count_void();
        }
        self.emit_break(0, self.call.address);
    }

    #[inline(always)]
    fn move_break(&self) {
        // `sbrk(0)` only asks.
        if self.result >= FIRST_ERROR || self.call.size_bytes == 0 {
            return self.count_void();
        }
        self.emit_break(self.result, self.result.wrapping_add(self.call.size_bytes));
    }

    #[inline(always)]
    fn emit_break(&self, old_break: u64, new_break: u64) {
        let record = BreakRecord {
            header: self.header(RecordKind::Break),
            old_break,
            new_break,
            stack: self.call.stack,
        };
        self.emit(RecordKind::Break, record);
    }
}
