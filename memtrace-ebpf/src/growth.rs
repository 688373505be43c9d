//! The growth mode: system calls that change the address space, at the kernel's own functions, so that
//! it does not matter what made them. Only the functions that are listed here cost anything.
//!
//! Entry points of system calls have the thread's user registers for their only argument (x86-64,
//! `SYSCALL_DEFINE` in arch/x86/include/asm/syscall_wrapper.h). Their stacks start right behind the
//! `syscall` instruction.

use aya_ebpf::{
    EbpfContext,
    bindings::pt_regs,
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use memtrace_common::{
    config::Config,
    function::AllocFn,
    growth::discards,
    loss::FunctionCounters,
    unwind::Registers,
    wire::{
        BreakRecord, MapRecord, RangeRecord, RecordHeader, RecordKind, RemapRecord, UnmapRecord,
    },
};

use crate::{atomic, emit, maps::function_counters, process::target_config, stack};

/// System calls return error numbers as the last page of the address space.
const FIRST_ERROR: u64 = -4095i64 as u64;

/// mmap
#[fexit(function = "__x64_sys_mmap")]
pub fn leave_sys_mmap(ctx: FExitContext) -> i32 {
    if let Some(call) = SystemCall::ended(&ctx, AllocFn::Mmap) {
        call.map(&ctx);
    }
    0
}

/// munmap, before anybody else can be given the range
#[fentry(function = "__x64_sys_munmap")]
pub fn enter_sys_munmap(ctx: FEntryContext) -> i32 {
    if let Some(call) = SystemCall::entered(&ctx, AllocFn::Munmap) {
        call.emit_range(RecordKind::UnmapBegin);
    }
    0
}

/// munmap
#[fexit(function = "__x64_sys_munmap")]
pub fn leave_sys_munmap(ctx: FExitContext) -> i32 {
    if let Some(call) = SystemCall::ended(&ctx, AllocFn::Munmap) {
        call.unmap();
    }
    0
}

/// mremap, before anybody else can be given the range
#[fentry(function = "__x64_sys_mremap")]
pub fn enter_sys_mremap(ctx: FEntryContext) -> i32 {
    if let Some(call) = SystemCall::entered(&ctx, AllocFn::Mremap) {
        call.emit_range(RecordKind::RemapBegin);
    }
    0
}

/// mremap
#[fexit(function = "__x64_sys_mremap")]
pub fn leave_sys_mremap(ctx: FExitContext) -> i32 {
    if let Some(call) = SystemCall::ended(&ctx, AllocFn::Mremap) {
        call.remap(&ctx);
    }
    0
}

/// brk
#[fexit(function = "__x64_sys_brk")]
pub fn leave_sys_brk(ctx: FExitContext) -> i32 {
    if let Some(call) = SystemCall::ended(&ctx, AllocFn::Brk) {
        call.set_break(&ctx);
    }
    0
}

/// mprotect
#[fexit(function = "__x64_sys_mprotect")]
pub fn leave_sys_mprotect(ctx: FExitContext) -> i32 {
    if let Some(call) = SystemCall::ended(&ctx, AllocFn::Mprotect) {
        call.protect(&ctx);
    }
    0
}

/// madvise, before a page can be used anew
#[fentry(function = "__x64_sys_madvise")]
pub fn enter_sys_madvise(ctx: FEntryContext) -> i32 {
    if let Some(call) = SystemCall::entered(&ctx, AllocFn::Madvise) {
        call.discard();
    }
    0
}

/// A system call of the target's.
struct SystemCall {
    config: &'static Config,
    counters: *mut FunctionCounters,
    function: AllocFn,
    /// The user's registers.
    registers: *const pt_regs,
    /// Of a call that has ended.
    result: u64,
}

/// A register of the user's. Volatile, so that the compiler makes one load of one field of it: the
/// verifier allows no other.
macro_rules! register {
    ($call:expr, $name:ident) => {
        // SAFETY: the kernel passes valid registers, which the verifier holds us to.
        unsafe { (&raw const (*$call.registers).$name).read_volatile() }
    };
}

impl SystemCall {
    #[inline(always)]
    fn entered(ctx: &FEntryContext, function: AllocFn) -> Option<Self> {
        let config = target_config()?;
        let counters = function_counters(function as u8)?;
        // SAFETY: a counter of this CPU's map value.
        atomic::increment(unsafe { &raw mut (*counters).entries });
        Some(Self { config, counters, function, registers: ctx.arg(0), result: 0 })
    }

    #[inline(always)]
    fn ended(ctx: &FExitContext, function: AllocFn) -> Option<Self> {
        let config = target_config()?;
        let counters = function_counters(function as u8)?;
        // SAFETY: a counter of this CPU's map value, here and below.
        atomic::increment(unsafe { &raw mut (*counters).returns });
        if !is_told_twice(function) {
            // SAFETY: as above.
            atomic::increment(unsafe { &raw mut (*counters).entries });
        }
        // The result comes behind the arguments, of which there is one.
        Some(Self { config, counters, function, registers: ctx.arg(0), result: ctx.arg(1) })
    }

    #[inline(always)]
    fn failed(&self) -> bool {
        self.result >= FIRST_ERROR
    }

    #[inline(always)]
    fn count_void(&self) {
        // SAFETY: a counter of this CPU's map value.
        atomic::increment(unsafe { &raw mut (*self.counters).void });
    }

    #[inline(always)]
    fn emit<T: 'static>(&self, kind: RecordKind, record: T) {
        if !emit::record(self.config, kind, record) {
            // SAFETY: a counter of this CPU's map value.
            atomic::increment(unsafe { &raw mut (*self.counters).lost });
        }
    }

    #[inline(always)]
    fn header(&self, kind: RecordKind) -> RecordHeader {
        emit::header(kind, self.function as u8, 0)
    }

    #[inline(always)]
    fn stack<C: EbpfContext>(&self, ctx: &C) -> u64 {
        let registers = Registers { sp: register!(self, rsp), bp: register!(self, rbp) };
        stack::capture(ctx, self.config, stack::From::Place(register!(self, rip)), registers)
    }

    #[inline(always)]
    fn emit_range(&self, kind: RecordKind) {
        let (address, length_bytes) = (register!(self, rdi), register!(self, rsi));
        self.emit(kind, RangeRecord { header: self.header(kind), address, length_bytes });
    }

    #[inline(always)]
    fn map(&self, ctx: &FExitContext) {
        if self.failed() {
            return self.count_void();
        }
        let record = MapRecord {
            header: self.header(RecordKind::Map),
            address: self.result,
            length_bytes: register!(self, rsi),
            prot: register!(self, rdx) as u32,
            map_flags: register!(self, r10) as u32,
            stack: self.stack(ctx),
        };
        self.emit(RecordKind::Map, record);
    }

    #[inline(always)]
    fn unmap(&self) {
        if self.failed() {
            self.count_void();
        }
        let record = UnmapRecord {
            header: self.header(RecordKind::UnmapEnd),
            address: register!(self, rdi),
            length_bytes: register!(self, rsi),
            failed: u64::from(self.failed()),
        };
        self.emit(RecordKind::UnmapEnd, record);
    }

    #[inline(always)]
    fn remap(&self, ctx: &FExitContext) {
        let failed = self.failed();
        if failed {
            self.count_void();
        }
        let record = RemapRecord {
            header: self.header(RecordKind::RemapEnd),
            old_address: register!(self, rdi),
            old_length_bytes: register!(self, rsi),
            new_address: if failed { 0 } else { self.result },
            new_length_bytes: register!(self, rdx),
            stack: self.stack(ctx),
        };
        self.emit(RecordKind::RemapEnd, record);
    }

    /// The result is the break as it is then, also where it could not be moved.
    #[inline(always)]
    fn set_break(&self, ctx: &FExitContext) {
        if register!(self, rdi) != self.result {
            return self.count_void();
        }
        let record = BreakRecord {
            header: self.header(RecordKind::Break),
            old_break: 0,
            new_break: self.result,
            stack: self.stack(ctx),
        };
        self.emit(RecordKind::Break, record);
    }

    #[inline(always)]
    fn protect(&self, ctx: &FExitContext) {
        if self.failed() {
            return self.count_void();
        }
        let record = MapRecord {
            header: self.header(RecordKind::Protect),
            address: register!(self, rdi),
            length_bytes: register!(self, rsi),
            prot: register!(self, rdx) as u32,
            map_flags: 0,
            stack: self.stack(ctx),
        };
        self.emit(RecordKind::Protect, record);
    }

    #[inline(always)]
    fn discard(&self) {
        // SAFETY: a counter of this CPU's map value.
        atomic::increment(unsafe { &raw mut (*self.counters).returns });
        if discards(register!(self, rdx)) {
            self.emit_range(RecordKind::Discard);
        } else {
            self.count_void();
        }
    }
}

/// Whether a call is seen at its entry and at its end.
#[inline(always)]
fn is_told_twice(function: AllocFn) -> bool {
    matches!(function, AllocFn::Munmap | AllocFn::Mremap)
}
