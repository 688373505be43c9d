//! The caller's stack, walked once per call, sent once per stack: events carry its hash.

use aya_ebpf::{Global, helpers::generated::bpf_loop, programs::ProbeContext};
use aya_log_ebpf::debug;
use memtrace_common::{
    config::{Config, StackMode},
    loss::KernelLoss,
    memory::ReadMemory as _,
    python::PythonEnd,
    unwind::{
        FrameSink, HASH_SEED, Registers, finish, frame_pointer, mix,
        table::{CodeMapping, CodeMappings, MAX_MAPPINGS, Row, Rule},
        walk::{Tables, Walk},
    },
    wire::{MAX_FRAMES, RecordKind, STACK_GUESSED, StackEnd, StackHeader},
};

use crate::{
    atomic, emit,
    maps::{
        EVENTS, STACKS, count_loss, count_ring_full, image, mappings, page_word, row_word, rule,
        stack_buffer,
    },
    memory::UserMemory,
};

/// Buffers per CPU. One is in use by each program that was preempted in the middle of a walk.
pub const STACK_BUFFERS_PER_CPU: u32 = 8;

/// 0 on kernels without `bpf_loop` (before 5.17), which then never see the call.
#[unsafe(no_mangle)]
static USE_BPF_LOOP: Global<u32> = Global::new(1);

/// A walk and its owner.
#[repr(C)]
pub struct StackBuffer {
    claimed: u64,
    walk: Walk,
}

/// Walks the stack of the function entered at `ctx` and returns its hash, 0 when there is none.
#[inline(always)]
pub fn capture(ctx: &ProbeContext, config: &Config, registers: Registers) -> u64 {
    if config.stacks == StackMode::Off as u32 {
        return 0;
    }
    let Some(buffer) = claim() else {
        count_loss(KernelLoss::StackBufferBusy);
        return 0;
    };
    // SAFETY: the buffer lies in a map value and, being claimed, is this program's alone.
    let walk = unsafe { &mut (*buffer).walk };
    if config.stacks == StackMode::Tables as u32 {
        walk_by_tables(config, registers, walk);
    } else {
        walk_by_frame_pointers(registers, walk);
    }
    let hash = intern(ctx, config, walk);
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

/// The unwind tables in their maps.
struct KernelTables {
    mappings: *const CodeMappings,
}

impl KernelTables {
    #[inline(always)]
    fn mapping_ptr(&self, index: u32) -> *const CodeMapping {
        // SAFETY: the map value outlives the run and the mask keeps the index inside.
        unsafe {
            (&raw const (*self.mappings).mappings)
                .cast::<CodeMapping>()
                .add(index as usize & (MAX_MAPPINGS - 1))
        }
    }
}

impl Tables for KernelTables {
    #[inline(always)]
    fn mapping_count(&self) -> u32 {
        // SAFETY: the map value outlives the run.
        unsafe { (&raw const (*self.mappings).count).read_volatile() as u32 }
    }

    #[inline(always)]
    fn mapping(&self, index: u32) -> CodeMapping {
        // SAFETY: as for `mapping_ptr`.
        unsafe { *self.mapping_ptr(index) }
    }

    #[inline(always)]
    fn mapping_start(&self, index: u32) -> u64 {
        // SAFETY: as for `mapping_ptr`.
        unsafe { (&raw const (*self.mapping_ptr(index)).start).read_volatile() }
    }

    #[inline(always)]
    fn first_row(&self, page: u32) -> u32 {
        page_word(page)
    }

    #[inline(always)]
    fn row(&self, index: u32) -> Row {
        Row(row_word(index))
    }

    #[inline(always)]
    fn rule(&self, index: u32) -> Rule {
        rule(index)
    }
}

/// What a step of the walk works on.
#[repr(C)]
struct LoopContext {
    walk: *mut Walk,
    mappings: *const CodeMappings,
}

#[inline(always)]
fn walk_by_tables(config: &Config, registers: Registers, walk: &mut Walk) {
    if !walk.start(&UserMemory, registers, image()) {
        return;
    }
    let Some(mappings) = mappings(config) else { return };
    let mut context = LoopContext { walk, mappings };
    if USE_BPF_LOOP.load() != 0 {
        // SAFETY: `step` has the signature that the helper wants, and the context outlives the
        // call.
        unsafe {
            bpf_loop(MAX_FRAMES as u32, step as *mut _, (&raw mut context).cast(), 0);
        }
        return;
    }
    for index in 0..MAX_FRAMES as u32 {
        // SAFETY: the context is valid.
        if unsafe { step(index, &raw mut context) } != 0 {
            break;
        }
    }
}

/// One frame; not 0 ends the loop.
///
/// # Safety
/// `context` and what it points to are valid for the call.
#[inline(never)]
unsafe extern "C" fn step(_index: u32, context: *mut LoopContext) -> i64 {
    // SAFETY: by contract; the walk is claimed.
    let (walk, mappings) = unsafe { (&mut *(*context).walk, (*context).mappings) };
    i64::from(!walk.step(&UserMemory, &KernelTables { mappings }))
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

/// The result goes through the walk's memory, which makes the verifier forget it: a walk can end
/// after any frame, and all that follows would be verified once for each of them (240,000
/// instructions instead of a few thousand).
#[inline(always)]
fn walk_by_frame_pointers(registers: Registers, walk: &mut Walk) {
    let Some(caller) = UserMemory.read_word(registers.sp) else {
        return walk.set_result(0, HASH_SEED, StackEnd::Unreadable);
    };
    let mut sink = Sink { frames: walk.frames_mut(), count: 0, hash: mix(HASH_SEED, image()) };
    let end = frame_pointer::walk_from_entry(&UserMemory, registers, caller, &mut sink);
    walk.set_result(sink.count as u32, sink.hash, end);
}

/// The id of a finished walk's stack, which is sent if it was not seen before.
#[inline(always)]
fn intern(ctx: &ProbeContext, config: &Config, walk: &mut Walk) -> u64 {
    let end = walk.end() | if walk.is_guessed() { STACK_GUESSED } else { 0 };
    let (count, unfinished) = (walk.count() as usize, walk.hash());
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
        None => publish(ctx, config, walk, hash, check, end),
    }
}

/// Sends a stack that was not seen before. It is remembered only when it was sent: one that did
/// not fit into the ring is sent with a later call.
#[inline(always)]
fn publish(
    ctx: &ProbeContext,
    config: &Config,
    walk: &mut Walk,
    hash: u64,
    check: u64,
    end: u32,
) -> u64 {
    if STACKS.insert(hash, check, 0).is_err() {
        count_loss(KernelLoss::StackTableFull);
        return 0;
    }
    let count = walk.count() as usize;
    walk.header = StackHeader {
        header: emit::plain_header(RecordKind::Stack),
        stack: hash,
        frames: count as u32,
        end,
        python_frames: 0,
        python_end: PythonEnd::Off as u32,
    };
    let frames_bytes = (count & (2 * MAX_FRAMES - 1)).min(MAX_FRAMES) * size_of::<u64>();
    let bytes = size_of::<StackHeader>() + frames_bytes;
    // SAFETY: the frames lie right behind the header (`repr(C)`, both 8-byte aligned).
    let record =
        unsafe { core::slice::from_raw_parts((&raw const walk.header).cast::<u8>(), bytes) };
    if EVENTS.output::<[u8]>(record, emit::wakeup_flags(config, bytes as u64)).is_err() {
        count_ring_full(RecordKind::Stack);
        let _ = STACKS.remove(hash);
    }
    debug!(ctx, "new stack {:x} of {} frames, end {}", hash, count, end);
    hash
}
