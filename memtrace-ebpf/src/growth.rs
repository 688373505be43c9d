//! The growth mode: system calls that change the address space, so that it does not matter what made
//! them. At the kernel's own functions, of which only those listed here cost anything; where programs
//! cannot hang on functions, at the target's instructions around `syscall`; and where it is not known
//! where those are, at the tracepoints of all system calls.
//!
//! Entry points of system calls have the thread's user registers for their only argument (x86-64,
//! `SYSCALL_DEFINE` in arch/x86/include/asm/syscall_wrapper.h). Their stacks start right behind the
//! `syscall` instruction. A system call changes no register but `rax`, `rcx` and `r11`, so that probes
//! behind it see what the ends of the others see.

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext as _,
    macros::{fentry, fexit, raw_tracepoint, uprobe},
    programs::{FEntryContext, FExitContext, ProbeContext, RawTracePointContext},
};
use memtrace_common::{
    config::Config,
    function::AllocFn,
    growth::discards,
    loss::FunctionCounters,
    python::walk::PythonThread,
    unwind::Registers,
    wire::{
        BreakRecord, MapRecord, RangeRecord, RecordHeader, RecordKind, RemapRecord, UnmapRecord,
    },
};

use crate::{
    arguments::placed,
    atomic, decline_private_stack, emit,
    entry::cookie,
    maps::{NO_PROGRAMS, function_counters},
    memory::{UserRegisters, user_registers},
    process::target_config,
    stack,
};

/// System calls return error numbers as the last page of the address space.
const FIRST_ERROR: u64 = -4095i64 as u64;

const MMAP: u8 = AllocFn::Mmap as u8;
const MUNMAP: u8 = AllocFn::Munmap as u8;
const MREMAP: u8 = AllocFn::Mremap as u8;
const BRK: u8 = AllocFn::Brk as u8;
const MPROTECT: u8 = AllocFn::Mprotect as u8;
const MADVISE: u8 = AllocFn::Madvise as u8;

/// mmap
#[fexit(function = "__x64_sys_mmap")]
pub fn leave_sys_mmap(ctx: FExitContext) -> i32 {
    leave_function(&ctx, MMAP)
}

/// munmap, before anybody else can be given the range
#[fentry(function = "__x64_sys_munmap")]
pub fn enter_sys_munmap(ctx: FEntryContext) -> i32 {
    enter_function(&ctx, MUNMAP)
}

/// munmap
#[fexit(function = "__x64_sys_munmap")]
pub fn leave_sys_munmap(ctx: FExitContext) -> i32 {
    leave_function(&ctx, MUNMAP)
}

/// mremap, before anybody else can be given the range
#[fentry(function = "__x64_sys_mremap")]
pub fn enter_sys_mremap(ctx: FEntryContext) -> i32 {
    enter_function(&ctx, MREMAP)
}

/// mremap
#[fexit(function = "__x64_sys_mremap")]
pub fn leave_sys_mremap(ctx: FExitContext) -> i32 {
    leave_function(&ctx, MREMAP)
}

/// brk
#[fexit(function = "__x64_sys_brk")]
pub fn leave_sys_brk(ctx: FExitContext) -> i32 {
    leave_function(&ctx, BRK)
}

/// mprotect
#[fexit(function = "__x64_sys_mprotect")]
pub fn leave_sys_mprotect(ctx: FExitContext) -> i32 {
    leave_function(&ctx, MPROTECT)
}

/// madvise, before a page can be used anew
#[fentry(function = "__x64_sys_madvise")]
pub fn enter_sys_madvise(ctx: FEntryContext) -> i32 {
    enter_function(&ctx, MADVISE)
}

/// `sys_enter(struct pt_regs *regs, long id)`: what the programs at functions do at their start.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn sys_enter(ctx: RawTracePointContext) -> u32 {
    let function = function_of(ctx.arg(1));
    if matches!(function, MUNMAP | MREMAP | MADVISE)
        && let Some(config) = target_config()
    {
        enter_with(config, function, ctx.arg(0));
    }
    0
}

/// `sys_exit(struct pt_regs *regs, long ret)`: what they do at their end.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit(ctx: RawTracePointContext) -> u32 {
    let mut place = MaybeUninit::uninit();
    if let Some(config) = target_config()
        && let Some(registers) = user_registers(ctx.arg(0), &mut place)
    {
        let function = function_of(registers.orig_ax);
        if !matches!(function, NONE | MADVISE) {
            leave(config, function, registers, ctx.arg(1));
        }
    }
    0
}

/// The instruction before a `syscall` of the target's: what they do at their start.
#[uprobe]
pub fn begin_call(ctx: ProbeContext) -> u32 {
    if let Some((config, function)) = call_at(&ctx) {
        let places = cookie(&ctx).arguments();
        let argument = |index| placed(&ctx, places, index);
        enter(config, function, [argument(0), argument(1), argument(2)]);
    }
    0
}

/// An instruction behind it: what they do at their end.
#[uprobe]
pub fn end_call(ctx: ProbeContext) -> u32 {
    let mut place = MaybeUninit::uninit();
    if let Some((config, function)) = call_at(&ctx)
        && let Some(registers) = user_registers(ctx.as_ptr() as u64, &mut place)
    {
        // SAFETY: the kernel passes valid registers.
        leave(config, function, registers, unsafe { (*ctx.regs).rax });
    }
    0
}

/// Which system call the target makes at a site. A child that still runs in the target's memory
/// (vfork) is not the target.
#[inline(always)]
fn call_at(ctx: &ProbeContext) -> Option<(&'static Config, u8)> {
    let config = target_config()?;
    let function = cookie(ctx).function();
    decline_private_stack(ctx, function_counters(function)?, &NO_PROGRAMS);
    Some((config, function))
}

/// No function of these.
const NONE: u8 = u8::MAX;

/// By the number of a system call (arch/x86/entry/syscalls/syscall_64.tbl).
#[inline(always)]
fn function_of(number: u64) -> u8 {
    match number {
        9 => MMAP,
        10 => MPROTECT,
        11 => MUNMAP,
        12 => BRK,
        25 => MREMAP,
        28 => MADVISE,
        _ => NONE,
    }
}

#[inline(always)]
fn enter_function(ctx: &FEntryContext, function: u8) -> i32 {
    if let Some(config) = target_config() {
        enter_with(config, function, ctx.arg(0));
    }
    0
}

#[inline(always)]
fn leave_function(ctx: &FExitContext, function: u8) -> i32 {
    // The result comes behind the arguments, of which there is one.
    let (registers, result): (u64, u64) = (ctx.arg(0), ctx.arg(1));
    let mut place = MaybeUninit::uninit();
    if let Some(config) = target_config()
        && let Some(registers) = user_registers(registers, &mut place)
    {
        leave(config, function, registers, result);
    }
    0
}

/// A system call of the target's.
struct SystemCall {
    config: &'static Config,
    counters: *mut FunctionCounters,
    function: u8,
}

/// The arguments are in these registers of the user's.
#[inline(always)]
fn enter_with(config: &'static Config, function: u8, registers: u64) -> Option<()> {
    let mut place = MaybeUninit::uninit();
    let registers = user_registers(registers, &mut place)?;
    enter(config, function, [registers.di, registers.si, registers.dx])
}

#[inline(always)]
fn enter(config: &'static Config, function: u8, arguments: [u64; 3]) -> Option<()> {
    let counters = function_counters(function)?;
    let call = SystemCall { config, counters, function };
    let [address, length_bytes, advice] = arguments;
    // SAFETY: a counter of this CPU's map value, here and below.
    atomic::increment(unsafe { &raw mut (*counters).entries });
    if function == MUNMAP {
        call.emit_range(RecordKind::UnmapBegin, address, length_bytes);
    } else if function == MREMAP {
        call.emit_range(RecordKind::RemapBegin, address, length_bytes);
    } else {
        // Its end is of no interest.
        // SAFETY: as above.
        atomic::increment(unsafe { &raw mut (*counters).returns });
        if discards(advice) {
            call.emit_range(RecordKind::Discard, address, length_bytes);
        } else {
            call.count_void();
        }
    }
    Some(())
}

#[inline(always)]
fn leave(
    config: &'static Config,
    function: u8,
    registers: &UserRegisters,
    result: u64,
) -> Option<()> {
    let counters = function_counters(function)?;
    let call = SystemCall { config, counters, function };
    call.count_return();
    // brk returns the break as it is then, also where it could not be moved, or was only asked for.
    let failed = if function == BRK { registers.di != result } else { result >= FIRST_ERROR };
    if failed {
        call.count_void();
    }
    // Once for all functions, and nobody asks who unmapped something.
    let stack = if failed || function == MUNMAP { 0 } else { stack_of(registers) };
    if function == MUNMAP {
        call.unmap(registers, failed);
    } else if function == MREMAP {
        call.remap(registers, if failed { 0 } else { result }, stack);
    } else if !failed || function == BRK {
        call.grow(registers, result, stack);
    }
    Some(())
}

#[inline(always)]
fn stack_of(registers: &UserRegisters) -> u64 {
    let from = stack::From::Place(registers.ip);
    let registers = Registers { sp: registers.sp(), bp: registers.bp() };
    let thread = &mut PythonThread::default();
    stack::capture(stack::Start { from, registers, thread }, false)
}

impl SystemCall {
    #[inline(always)]
    fn count_return(&self) {
        // SAFETY: a counter of this CPU's map value, here and below.
        atomic::increment(unsafe { &raw mut (*self.counters).returns });
        if !matches!(self.function, MUNMAP | MREMAP) {
            // SAFETY: as above.
            atomic::increment(unsafe { &raw mut (*self.counters).entries });
        }
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
        emit::header(kind, self.function, 0)
    }

    #[inline(always)]
    fn emit_range(&self, kind: RecordKind, address: u64, length_bytes: u64) {
        self.emit(kind, RangeRecord { header: self.header(kind), address, length_bytes });
    }

    /// mmap, mprotect and brk.
    #[inline(always)]
    fn grow(&self, registers: &UserRegisters, result: u64, stack: u64) {
        if self.function == BRK {
            let header = self.header(RecordKind::Break);
            let record = BreakRecord { header, old_break: 0, new_break: result, stack };
            return self.emit(RecordKind::Break, record);
        }
        let is_map = self.function == MMAP;
        let kind = if is_map { RecordKind::Map } else { RecordKind::Protect };
        let record = MapRecord {
            header: self.header(kind),
            address: if is_map { result } else { registers.di },
            length_bytes: registers.si,
            prot: registers.dx as u32,
            map_flags: if is_map { registers.r10() as u32 } else { 0 },
            stack,
        };
        self.emit(kind, record);
    }

    #[inline(always)]
    fn unmap(&self, registers: &UserRegisters, failed: bool) {
        let record = UnmapRecord {
            header: self.header(RecordKind::UnmapEnd),
            address: registers.di,
            length_bytes: registers.si,
            failed: u64::from(failed),
        };
        self.emit(RecordKind::UnmapEnd, record);
    }

    #[inline(always)]
    fn remap(&self, registers: &UserRegisters, new_address: u64, stack: u64) {
        let record = RemapRecord {
            header: self.header(RecordKind::RemapEnd),
            old_address: registers.di,
            old_length_bytes: registers.si,
            new_address,
            new_length_bytes: registers.dx,
            stack,
        };
        self.emit(RecordKind::RemapEnd, record);
    }
}
