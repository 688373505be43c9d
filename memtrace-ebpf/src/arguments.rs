//! Where the arguments of a call are, by its shape.

use aya_ebpf::programs::ProbeContext;
use memtrace_common::{
    call::{Arrival, NOTHING_BEGINS, Verdict, product},
    function::CallShape,
    wire::RecordKind,
};

/// An argument register at a function's entry.
#[inline(always)]
pub fn argument(ctx: &ProbeContext, index: usize) -> u64 {
    ctx.arg(index).unwrap_or_default()
}

/// Takes the arguments of a call of this shape.
#[inline(always)]
pub fn read(ctx: &ProbeContext, shape: u8, arrival: &mut Arrival) {
    arrival.extra.set(0);
    arrival.is_mapping.set(0);
    arrival.begin.set(NOTHING_BEGINS);
    arrival.verdict.set(Verdict::Recorded as u32);
    let known = read_block(ctx, shape, arrival)
        || read_old_block(ctx, shape, arrival)
        || read_context(ctx, shape, arrival);
    if !known {
        arrival.is_mapping.set(1);
        read_range(ctx, shape, arrival);
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
fn read_block(ctx: &ProbeContext, shape: u8, arrival: &mut Arrival) -> bool {
    if shape == CallShape::Size as u8 {
        return set(arrival, 0, argument(ctx, 0));
    }
    if shape == CallShape::CountSize as u8 {
        return set(arrival, 0, product(argument(ctx, 0), argument(ctx, 1)));
    }
    if shape == CallShape::AlignSize as u8 {
        return set(arrival, 0, argument(ctx, 1));
    }
    // The address is where the block's is to be written.
    shape == CallShape::OutAlignSize as u8 && set(arrival, argument(ctx, 0), argument(ctx, 2))
}

/// Functions that may move a block.
#[inline(always)]
fn read_old_block(ctx: &ProbeContext, shape: u8, arrival: &mut Arrival) -> bool {
    if shape == CallShape::OldSize as u8 {
        return set_realloc(arrival, argument(ctx, 0), argument(ctx, 1));
    }
    if shape == CallShape::OldCountSize as u8 {
        let size_bytes = product(argument(ctx, 1), argument(ctx, 2));
        return set_realloc(arrival, argument(ctx, 0), size_bytes);
    }
    false
}

/// What serves CPython's functions: a context comes first.
#[inline(always)]
fn read_context(ctx: &ProbeContext, shape: u8, arrival: &mut Arrival) -> bool {
    if shape == CallShape::ContextSize as u8 {
        return set(arrival, 0, argument(ctx, 1));
    }
    if shape == CallShape::ContextCountSize as u8 {
        return set(arrival, 0, product(argument(ctx, 1), argument(ctx, 2)));
    }
    if shape == CallShape::ContextOldSize as u8 {
        return set_realloc(arrival, argument(ctx, 1), argument(ctx, 2));
    }
    false
}

/// Functions that manage address ranges.
#[inline(always)]
fn read_range(ctx: &ProbeContext, shape: u8, arrival: &mut Arrival) {
    if shape == CallShape::Mmap as u8 {
        let prot_and_flags = argument(ctx, 2) & 0xffff_ffff | argument(ctx, 3) << 32;
        arrival.extra.set(prot_and_flags);
        set(arrival, argument(ctx, 0), argument(ctx, 1));
    } else if shape == CallShape::Munmap as u8 {
        arrival.begin.set(RecordKind::UnmapBegin as u32);
        set(arrival, argument(ctx, 0), argument(ctx, 1));
    } else if shape == CallShape::Mremap as u8 {
        arrival.begin.set(RecordKind::RemapBegin as u32);
        arrival.extra.set(argument(ctx, 1));
        set(arrival, argument(ctx, 0), argument(ctx, 2));
    } else if shape == CallShape::Brk as u8 {
        set(arrival, argument(ctx, 0), 0);
    } else {
        // sbrk
        set(arrival, 0, argument(ctx, 0));
    }
}
