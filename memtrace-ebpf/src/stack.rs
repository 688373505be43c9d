//! The caller's stack, walked once per call, sent once per stack: events carry its hash.

use aya_ebpf::programs::ProbeContext;
use aya_log_ebpf::debug;
use memtrace_common::{
    config::Config,
    loss::KernelLoss,
    unwind::{FrameSink, HASH_SEED, Registers, finish, frame_pointer, mix},
    wire::{MAX_FRAMES, RecordKind, StackHeader},
};

use crate::{
    atomic, emit,
    maps::{EVENTS, STACKS, count_loss, count_ring_full, image, stack_buffer},
    memory::UserMemory,
};

/// Buffers per CPU. One is in use by each program that was preempted in the middle of a walk.
pub const STACK_BUFFERS_PER_CPU: u32 = 8;

/// A stack record under construction.
#[repr(C)]
pub struct StackBuffer {
    claimed: u64,
    header: StackHeader,
    frames: [u64; MAX_FRAMES],
}

/// Walks the stack of the function entered at `ctx` and returns its hash, 0 when there is none.
#[inline(always)]
pub fn capture(ctx: &ProbeContext, config: &Config, registers: Registers, caller: u64) -> u64 {
    if config.stacks == 0 {
        return 0;
    }
    let Some(buffer) = claim() else {
        count_loss(KernelLoss::StackBufferBusy);
        return 0;
    };
    // SAFETY: the buffer lies in a map value and, being claimed, is this program's alone.
    let hash = unsafe { walk(ctx, config, registers, caller, buffer) };
    // SAFETY: as above.
    atomic::release(unsafe { &raw mut (*buffer).claimed });
    hash
}

#[inline(always)]
fn claim() -> Option<*mut StackBuffer> {
    for index in 0..STACK_BUFFERS_PER_CPU {
        let buffer = stack_buffer(index)?;
        // SAFETY: a live map value.
        if atomic::try_claim(unsafe { &raw mut (*buffer).claimed }) {
            return Some(buffer);
        }
    }
    None
}

/// Collects and hashes frames.
struct Sink {
    frames: *mut u64,
    count: usize,
    hash: u64,
}

impl FrameSink for Sink {
    #[inline(always)]
    fn push(&mut self, return_address: u64) -> bool {
        if self.count >= MAX_FRAMES {
            return false;
        }
        // SAFETY: `frames` has MAX_FRAMES elements; the mask repeats the check for the verifier.
        unsafe { self.frames.add(self.count & (MAX_FRAMES - 1)).write(return_address) };
        self.hash = mix(self.hash, return_address);
        self.count += 1;
        true
    }
}

/// # Safety
/// `buffer` points into a map value and is claimed.
#[inline(always)]
unsafe fn walk(
    ctx: &ProbeContext,
    config: &Config,
    registers: Registers,
    caller: u64,
    buffer: *mut StackBuffer,
) -> u64 {
    // SAFETY: by contract.
    let frames = unsafe { (&raw mut (*buffer).frames).cast::<u64>() };
    let mut sink = Sink { frames, count: 0, hash: mix(HASH_SEED, image()) };
    let end = frame_pointer::walk_from_entry(&UserMemory, registers, caller, &mut sink);
    // SAFETY: by contract.
    let (count, end, unfinished) = unsafe {
        let header = &raw mut (*buffer).header;
        (
            through_memory(&raw mut (*header).frames, sink.count as u32) as usize,
            through_memory(&raw mut (*header).end, end as u32),
            through_memory(&raw mut (*header).stack, sink.hash),
        )
    };
    let hash = finish(unfinished, end);
    let check = (unfinished >> 32) << 32 | count as u64;
    match STACKS.get_ptr(hash) {
        // SAFETY: a found value stays readable for the program's run.
        Some(known) => {
            if unsafe { *known } != check {
                count_loss(KernelLoss::StackCollision);
            }
            hash
        }
        // SAFETY: by contract.
        None => unsafe { publish(ctx, config, buffer, hash, check, count, end) },
    }
}

/// Writes a value to map memory and reads it back, which makes the verifier forget what it knows
/// of it: a walk can end after any frame, and without this all that follows is verified once for
/// each of them (240,000 instructions instead of a few thousand).
///
/// # Safety
/// `place` points into a map value.
#[inline(always)]
unsafe fn through_memory<T>(place: *mut T, value: T) -> T {
    // SAFETY: by contract.
    unsafe {
        place.write_volatile(value);
        place.read_volatile()
    }
}

/// Sends a stack that was not seen before. It is remembered only when it was sent: one that did
/// not fit into the ring is sent with a later call.
///
/// # Safety
/// As for [`walk`].
#[inline(always)]
unsafe fn publish(
    ctx: &ProbeContext,
    config: &Config,
    buffer: *mut StackBuffer,
    hash: u64,
    check: u64,
    count: usize,
    end: u32,
) -> u64 {
    if STACKS.insert(hash, check, 0).is_err() {
        count_loss(KernelLoss::StackTableFull);
        return 0;
    }
    let header = StackHeader {
        header: emit::plain_header(RecordKind::Stack),
        stack: hash,
        frames: count as u32,
        end,
    };
    let frames_bytes = (count & (2 * MAX_FRAMES - 1)).min(MAX_FRAMES) * size_of::<u64>();
    let bytes = size_of::<StackHeader>() + frames_bytes;
    // SAFETY: header and frames are adjacent (`repr(C)`, both 8-byte aligned) and claimed.
    let record = unsafe {
        (&raw mut (*buffer).header).write(header);
        core::slice::from_raw_parts((&raw const (*buffer).header).cast::<u8>(), bytes)
    };
    if EVENTS.output::<[u8]>(record, emit::wakeup_flags(config, bytes as u64)).is_err() {
        count_ring_full(RecordKind::Stack);
        let _ = STACKS.remove(hash);
    }
    debug!(ctx, "new stack {:x} of {} frames, end {}", hash, count, end);
    hash
}
