//! Where the arguments of a call are, by its shape.

use aya_ebpf::programs::ProbeContext;
use memtrace_common::{
    call::{ArgumentPlaces, Arrival, NOTHING_BEGINS, SiteCookie, Verdict, product},
    function::CallShape,
    wire::RecordKind,
};

/// An argument register at a function's entry.
#[inline(always)]
pub fn argument(ctx: &ProbeContext, index: usize) -> u64 {
    ctx.arg(index).unwrap_or_default()
}

/// An argument, wherever the cookie says that it is.
#[inline(always)]
pub fn placed(ctx: &ProbeContext, places: ArgumentPlaces, index: usize) -> u64 {
    match places.place(index) {
        0 => argument(ctx, index),
        place => register(ctx, place),
    }
}

/// A register by its number in instructions plus one. The context can be read at constant offsets
/// only: all are read, volatile, so that no compiler computes the one that is.
#[inline(never)]
fn register(ctx: &ProbeContext, place: u16) -> u64 {
    let registers = ctx.regs;
    let mut value = 0;
    macro_rules! take {
        ($($number:literal $register:ident),*) => {$(
            // SAFETY: the kernel passes valid registers.
            let register = unsafe { (&raw const (*registers).$register).read_volatile() };
            if place == $number {
                value = register;
            }
        )*};
    }
    take!(1 rax, 2 rcx, 3 rdx, 4 rbx, 6 rbp, 7 rsi, 8 rdi, 9 r8, 10 r9);
    take!(11 r10, 12 r11, 13 r12, 14 r13, 15 r14);
    value
}

/// The first arguments.
#[derive(Clone, Copy)]
struct Arguments(u64, u64, u64);

/// Takes the arguments of a call of the cookie's shape.
#[inline(always)]
pub fn read(ctx: &ProbeContext, cookie: SiteCookie, arrival: &mut Arrival) {
    let (shape, places) = (cookie.shape(), cookie.arguments());
    let arguments =
        Arguments(placed(ctx, places, 0), placed(ctx, places, 1), placed(ctx, places, 2));
    arrival.extra.set(0);
    arrival.is_mapping.set(0);
    arrival.begin.set(NOTHING_BEGINS);
    arrival.verdict.set(Verdict::Recorded as u32);
    let known = read_block(arguments, shape, arrival)
        || read_old_block(arguments, shape, arrival)
        || read_context(arguments, shape, arrival);
    if !known {
        arrival.is_mapping.set(1);
        read_range(ctx, arguments, shape, arrival);
    }
}

#[inline(always)]
fn set(arrival: &mut Arrival, address: u64, size_bytes: u64) -> bool {
    arrival.address.set(address);
    arrival.size_bytes.set(size_bytes);
    true
}

#[inline(always)]
fn set_realloc(arrival: &mut Arrival, address: u64, size_bytes: u64) -> bool {
    arrival.begin.set(RecordKind::ReallocBegin as u32);
    set(arrival, address, size_bytes)
}

/// Functions that lead to a new block.
#[inline(always)]
fn read_block(arguments: Arguments, shape: u8, arrival: &mut Arrival) -> bool {
    if shape == CallShape::Size as u8 || shape == CallShape::Throwing as u8 {
        return set(arrival, 0, arguments.0);
    }
    if shape == CallShape::CountSize as u8 {
        return set(arrival, 0, product(arguments.0, arguments.1));
    }
    if shape == CallShape::AlignSize as u8 {
        return set(arrival, 0, arguments.1);
    }
    // The address is where the block's is to be written.
    shape == CallShape::OutAlignSize as u8 && set(arrival, arguments.0, arguments.2)
}

/// Functions that may move a block.
#[inline(always)]
fn read_old_block(arguments: Arguments, shape: u8, arrival: &mut Arrival) -> bool {
    if shape == CallShape::OldSize as u8 || shape == CallShape::InPlace as u8 {
        return set_realloc(arrival, arguments.0, arguments.1);
    }
    if shape == CallShape::OldCountSize as u8 {
        let size_bytes = product(arguments.1, arguments.2);
        return set_realloc(arrival, arguments.0, size_bytes);
    }
    false
}

/// What serves CPython's functions: a context comes first.
#[inline(always)]
fn read_context(arguments: Arguments, shape: u8, arrival: &mut Arrival) -> bool {
    if shape == CallShape::ContextSize as u8 {
        return set(arrival, 0, arguments.1);
    }
    if shape == CallShape::ContextCountSize as u8 {
        return set(arrival, 0, product(arguments.1, arguments.2));
    }
    if shape == CallShape::ContextOldSize as u8 {
        return set_realloc(arrival, arguments.1, arguments.2);
    }
    false
}

/// Functions that manage address ranges.
#[inline(always)]
fn read_range(ctx: &ProbeContext, arguments: Arguments, shape: u8, arrival: &mut Arrival) {
    if shape == CallShape::Mmap as u8 {
        let prot_and_flags = arguments.2 & 0xffff_ffff | argument(ctx, 3) << 32;
        arrival.extra.set(prot_and_flags);
        set(arrival, arguments.0, arguments.1);
    } else if shape == CallShape::Munmap as u8 {
        arrival.begin.set(RecordKind::UnmapBegin as u32);
        set(arrival, arguments.0, arguments.1);
    } else if shape == CallShape::Mremap as u8 {
        arrival.begin.set(RecordKind::RemapBegin as u32);
        arrival.extra.set(arguments.1);
        set(arrival, arguments.0, arguments.2);
    } else if shape == CallShape::Brk as u8 {
        set(arrival, arguments.0, 0);
    } else {
        // sbrk
        set(arrival, 0, arguments.0);
    }
}
