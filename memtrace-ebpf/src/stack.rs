//! The caller's stack, walked once per call, sent once per stack: events carry its hash.

use aya_ebpf::{Global, helpers::generated::bpf_loop, programs::ProbeContext};
use aya_log_ebpf::debug;
use memtrace_common::{
    config::{Config, StackMode},
    loss::KernelLoss,
    memory::ReadMemory as _,
    python::{MAX_PYTHON_FRAMES, PythonLayout, walk::MAX_PYTHON_STEPS},
    unwind::{
        Registers, StackWords, finish, frame_pointer,
        table::{CodeMapping, CodeMappings, MAX_MAPPINGS, Row, Rule},
        walk::{Tables, Walk},
    },
    wire::{MAX_FRAMES, RecordKind, STACK_GUESSED, StackEnd, StackHeader},
};

use crate::{
    atomic, emit,
    maps::{
        EVENTS, STACKS, count_loss, count_ring_full, image, mappings, page_word, python_layout,
        row_word, rule, stack_buffer,
    },
    memory::{UserMemory, thread_pointer},
};

/// Buffers per CPU. One is in use by each program that was preempted in the middle of a walk.
pub const STACK_BUFFERS_PER_CPU: u32 = 8;

/// The most words that a stack's frames are.
const MAX_WORDS: usize = 2 * MAX_PYTHON_FRAMES + MAX_FRAMES;
const WORDS_MASK: usize = size_of::<StackWords>() / size_of::<u64>() - 1;

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
    walk_python(walk);
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

/// What a step of the Python walk works on.
#[repr(C)]
struct PythonLoopContext {
    walk: *mut Walk,
    layout: *const PythonLayout,
}

#[inline(always)]
fn walk_python(walk: &mut Walk) {
    let image = image();
    let Some(layout) = python_layout(image) else { return walk.skip_python(image) };
    // SAFETY: the map value outlives the run.
    let start = unsafe { &*layout };
    let Some(thread_pointer) = thread_pointer(start.task_thread_pointer) else {
        return walk.skip_python(image);
    };
    if !walk.start_python(&UserMemory, start, thread_pointer, image) {
        return;
    }
    let mut context = PythonLoopContext { walk, layout };
    if USE_BPF_LOOP.load() != 0 {
        // SAFETY: `python_step` has the signature that the helper wants, and the context outlives
        // the call.
        unsafe {
            let context = (&raw mut context).cast();
            bpf_loop(MAX_PYTHON_STEPS as u32, python_step as *mut _, context, 0);
        }
        return;
    }
    for index in 0..MAX_PYTHON_STEPS as u32 {
        // SAFETY: the context is valid.
        if unsafe { python_step(index, &raw mut context) } != 0 {
            break;
        }
    }
}

/// One Python frame; not 0 ends the loop.
///
/// # Safety
/// `context` and what it points to are valid for the call.
#[inline(never)]
unsafe extern "C" fn python_step(_index: u32, context: *mut PythonLoopContext) -> i64 {
    // SAFETY: by contract; the walk is claimed.
    let (walk, layout) = unsafe { (&mut *(*context).walk, &*(*context).layout) };
    i64::from(!walk.step_python(&UserMemory, layout))
}

/// What a step of the walk works on.
#[repr(C)]
struct LoopContext {
    walk: *mut Walk,
    mappings: *const CodeMappings,
}

#[inline(always)]
fn walk_by_tables(config: &Config, registers: Registers, walk: &mut Walk) {
    if !walk.start(&UserMemory, registers) {
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

/// The frames go to the walk's memory, which makes the verifier forget them: a walk can end after
/// any frame, and all that follows would be verified once for each of them (240,000 instructions
/// instead of a few thousand).
#[inline(always)]
fn walk_by_frame_pointers(registers: Registers, walk: &mut Walk) {
    walk.start_collecting();
    let end = match UserMemory.read_word(registers.sp) {
        Some(caller) => frame_pointer::walk_from_entry(&UserMemory, registers, caller, walk),
        None => StackEnd::Unreadable,
    };
    walk.finish_collecting(end);
}

/// The id of a finished walk's stack, which is sent if it was not seen before.
#[inline(always)]
fn intern(ctx: &ProbeContext, config: &Config, walk: &mut Walk) -> u64 {
    let end = walk.end() | if walk.is_guessed() { STACK_GUESSED } else { 0 };
    let unfinished = walk.hash();
    let hash = finish(unfinished, end);
    let check = (unfinished >> 32) << 32 | u64::from(walk.word_count());
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
    let (python, native) = (walk.python().count(), walk.count());
    walk.header = StackHeader {
        header: emit::plain_header(RecordKind::Stack),
        stack: hash,
        frames: native,
        end,
        python_frames: python,
        python_end: walk.python().end(),
    };
    // The mask tells the verifier what the walks guarantee.
    let words = (walk.word_count() as usize & WORDS_MASK).min(MAX_WORDS);
    let bytes = size_of::<StackHeader>() + words * size_of::<u64>();
    // SAFETY: the words lie right behind the header (`repr(C)`, both 8-byte aligned).
    let record =
        unsafe { core::slice::from_raw_parts((&raw const walk.header).cast::<u8>(), bytes) };
    if EVENTS.output::<[u8]>(record, emit::wakeup_flags(config, bytes as u64)).is_err() {
        count_ring_full(RecordKind::Stack);
        let _ = STACKS.remove(hash);
    }
    debug!(ctx, "new stack {:x} of {} and {} Python frames, end {}", hash, native, python, end);
    hash
}
