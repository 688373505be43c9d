//! The caller's stack, walked once per call, sent once per stack: events carry its hash.

use aya_ebpf::{EbpfContext, Global, helpers::generated::bpf_loop};
use aya_log_ebpf::debug;
use memtrace_common::{
    config::{Config, StackMode},
    loss::KernelLoss,
    memory::ReadMemory as _,
    opaque::Opaque,
    python::{MAX_PYTHON_FRAMES, PythonLayout, walk::MAX_PYTHON_STEPS},
    unwind::{
        Registers, StackWords, finish, frame_pointer,
        memo::{Memo, PLACES},
        mix,
        recall::{Key, Recorder, Recording, Replay},
        table::{CodeMapping, CodeMappings, MAX_MAPPINGS, Row, Rule},
        walk::{Tables, Walk},
    },
    wire::{MAX_FRAMES, RecordKind, STACK_GUESSED, StackEnd, StackHeader},
};

use crate::{
    atomic, emit,
    maps::{
        EVENTS, STACKS, count_loss, count_ring_full, count_stack_ns, image, mappings, memo,
        page_word, python_layout, row_word, rule, stack_buffer,
    },
    memory::{UserMemory, thread_pointer},
    recordings::{self, Found},
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
    replay: Replay,
    /// Of what nobody wants to know.
    unread: Recording,
    /// When a walk that is timed began; 0 for the others.
    begun_ns: Opaque<u64>,
}

/// Where a walk starts.
#[derive(Clone, Copy)]
pub enum From {
    /// At the entry of a function, whose caller is the word at the stack pointer.
    Entry,
    /// In the middle of a function; see [`Walk::start_at`].
    Place(u64),
}

/// What a walk starts with.
pub struct Start<'a> {
    pub from: From,
    pub registers: Registers,
    /// Where the thread's pointer is kept, see [`memtrace_common::call::InFlight::thread_pointer`].
    pub thread_pointer: &'a mut Opaque<u64>,
}

/// Walks the stack and returns its hash, 0 when there is none. Of those that are timed, the time is
/// counted, for all that are not: what a budget is kept by. How deep stacks are, and how cold the caches, is
/// the target's.
#[inline(always)]
pub fn capture<C: EbpfContext>(ctx: &C, config: &Config, start: Start<'_>, is_timed: bool) -> u64 {
    if config.stacks == StackMode::Off as u32 {
        return 0;
    }
    let Some(buffer) = claim() else {
        count_loss(KernelLoss::StackBufferBusy);
        return 0;
    };
    // SAFETY: the buffer lies in a map value and, being claimed, is this program's alone.
    let (walk, replay, unread) =
        unsafe { (&mut (*buffer).walk, &mut (*buffer).replay, &raw mut (*buffer).unread) };
    // SAFETY: as above. In map memory, or the verifier would look at all of the walk twice.
    let begun_ns = unsafe { &mut (*buffer).begun_ns };
    begun_ns.set(if is_timed { emit::now_ns() } else { 0 });
    let stack = walk_or_recall(ctx, config, start, walk, replay, unread).unwrap_or_default();
    if begun_ns.get() != 0 {
        count_stack_ns(emit::now_ns().saturating_sub(begun_ns.get()));
    }
    // SAFETY: as above.
    atomic::release_on_this_cpu(unsafe { &raw mut (*buffer).claimed });
    stack
}

/// Walks Python's frames and the native ones. The stack's id.
#[inline(always)]
fn walk_or_recall<C: EbpfContext>(
    ctx: &C,
    config: &Config,
    start: Start<'_>,
    walk: &mut Walk,
    replay: &mut Replay,
    unread: *mut Recording,
) -> Option<u64> {
    let Start { from, registers, thread_pointer } = start;
    walk.clear_windows();
    if config.stacks != StackMode::Tables as u32 {
        walk_python(walk, thread_pointer);
        walk_by_frame_pointers(from, registers, walk);
        return Some(intern(ctx, config, walk).0);
    }
    // This reads the stack, in which there are things of Python, too.
    walk.read_stack(&UserMemory, registers.sp);
    walk_python(walk, thread_pointer);
    if begin(walk, from, registers) {
        let tables = KernelTables { mappings: mappings(config)?, memo: memo(config)? };
        let mut context = LoopContext { walk, tables, recording: unread };
        if USE_BPF_LOOP.load() == 0 {
            walk_unrolled(&mut context);
        } else {
            return finish_or_recall(ctx, config, registers, &mut context, replay);
        }
    }
    Some(intern(ctx, config, walk).0)
}

#[inline(always)]
fn begin(walk: &mut Walk, from: From, registers: Registers) -> bool {
    match from {
        From::Entry => walk.start(&UserMemory, registers),
        From::Place(pc) => {
            walk.start_at(pc, registers);
            true
        }
    }
}

/// The stack of an earlier walk, if it is that of this one; else the rest is walked.
#[inline(always)]
fn finish_or_recall<C: EbpfContext>(
    ctx: &C,
    config: &Config,
    registers: Registers,
    context: &mut LoopContext,
    replay: &mut Replay,
) -> Option<u64> {
    // SAFETY: the walk is claimed, and the loop that used it is over.
    let walk = unsafe { &mut *context.walk };
    let mut key = walk.key(config.generation);
    let mut shared = recordings::at(&key)?;
    let experience = recordings::experience(shared);
    let further_frames = experience.further_frames();
    if further_frames != 0 {
        take_frames(context, further_frames);
        if !walk.is_under_way() {
            return Some(intern(ctx, config, walk).0);
        }
        key = walk.key(config.generation);
        shared = recordings::at(&key)?;
    }
    let frames_left = MAX_FRAMES as u32 - further_frames;
    match recordings::recalled(shared, &key, registers, walk, replay) {
        Found::Stack(stack) => {
            experience.learn(true);
            return Some(stack);
        }
        Found::Others => experience.learn(false),
        Found::Nothing => {}
    }
    let Some(recording) = recordings::claim_next(shared) else {
        take_frames(context, frames_left);
        return Some(intern(ctx, config, walk).0);
    };
    context.recording = recording;
    let stack = walk_and_record(ctx, config, registers, context, &key, frames_left);
    recordings::release(shared);
    Some(stack)
}

/// Walks the rest of the native frames, and keeps a recording of it.
#[inline(always)]
fn walk_and_record<C: EbpfContext>(
    ctx: &C,
    config: &Config,
    registers: Registers,
    context: &mut LoopContext,
    key: &Key,
    frames_left: u32,
) -> u64 {
    // SAFETY: both are claimed, and only used here while the loop does not run.
    unsafe { (*context.recording).begin(key) };
    take_frames(context, frames_left);
    // SAFETY: as above.
    let (walk, recording) = unsafe { (&mut *context.walk, &mut *context.recording) };
    let reach_bytes = walk.reach_bytes(registers.sp);
    walk.want(registers.sp, reach_bytes);
    let (stack, is_known) = intern(ctx, config, walk);
    // A stack that was just sent may have been lost; one that is not complete may become so when
    // more is known of the target.
    let is_whole = walk.end() == StackEnd::Complete as u32 && !walk.is_guessed();
    if is_known && is_whole {
        recording.finish(stack, reach_bytes);
    }
    stack
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
#[repr(C)]
struct KernelTables {
    mappings: *const CodeMappings,
    memo: *mut Memo,
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

    #[inline(always)]
    fn noted(&self, place: usize) -> u64 {
        // SAFETY: the map value outlives the run and the mask keeps the index inside.
        unsafe { self.memo.cast::<u64>().add(place & (PLACES - 1)).read_volatile() }
    }

    #[inline(always)]
    fn note(&self, place: usize, entry: u64) {
        // SAFETY: as above.
        unsafe { self.memo.cast::<u64>().add(place & (PLACES - 1)).write_volatile(entry) };
    }
}

/// Steps of the Python walk where there is no `bpf_loop`: the verifier follows each, 4,000
/// instructions a step, and a million is the most. The stacks that are deeper say that they are
/// truncated.
const UNROLLED_PYTHON_STEPS: u32 = 64;

/// What a step of the Python walk works on.
#[repr(C)]
struct PythonLoopContext {
    walk: *mut Walk,
    layout: *const PythonLayout,
}

/// Where the walk of Python's frames starts; the layout is null when there is nothing to walk.
#[inline(always)]
fn start_python(walk: &mut Walk, kept: &mut Opaque<u64>) -> *const PythonLayout {
    let image = image();
    let Some(layout) = python_layout(image) else {
        walk.skip_python(image);
        return core::ptr::null();
    };
    // SAFETY: the map value outlives the run.
    let known = unsafe { &*layout };
    if kept.get() == 0 {
        kept.set(thread_pointer(known.task_thread_pointer).unwrap_or_default());
    }
    let thread_pointer = kept.get();
    if thread_pointer == 0 {
        walk.skip_python(image);
        return core::ptr::null();
    }
    if walk.start_python(&UserMemory, known, thread_pointer, image) {
        layout
    } else {
        core::ptr::null()
    }
}

#[inline(always)]
fn walk_python(walk: &mut Walk, thread_pointer: &mut Opaque<u64>) {
    let layout = start_python(walk, thread_pointer);
    if layout.is_null() {
        return;
    }
    let mut context = PythonLoopContext { walk, layout };
    if USE_BPF_LOOP.load() != 0 {
        // SAFETY: `python_step` has the signature that the helper wants, and the context outlives
        // the call.
        unsafe {
            let context = (&raw mut context).cast();
            bpf_loop(MAX_PYTHON_STEPS as u32 / 3, three_python_steps as *mut _, context, 0);
        }
        return;
    }
    for index in 0..UNROLLED_PYTHON_STEPS {
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

/// Three Python frames; not 0 ends the loop. A call costs as much as half a frame.
///
/// # Safety
/// As for [`python_step`].
#[inline(never)]
unsafe extern "C" fn three_python_steps(_index: u32, context: *mut PythonLoopContext) -> i64 {
    // SAFETY: by contract; the walk is claimed.
    let (walk, layout) = unsafe { (&mut *(*context).walk, &*(*context).layout) };
    let mut step = || walk.step_python(&UserMemory, layout);
    let goes_on = step() && step() && step();
    i64::from(!goes_on)
}

/// What a step of the walk works on.
#[repr(C)]
struct LoopContext {
    walk: *mut Walk,
    tables: KernelTables,
    recording: *mut Recording,
}

/// Takes native frames, at most as many.
#[inline(always)]
fn take_frames(context: &mut LoopContext, frames: u32) {
    // SAFETY: `step` has the signature that the helper wants, and the context outlives the call.
    unsafe {
        bpf_loop(frames, step as *mut _, core::ptr::from_mut(context).cast(), 0);
    }
}

/// Takes all native frames, where there is no `bpf_loop`.
#[inline(always)]
fn walk_unrolled(context: &mut LoopContext) {
    for index in 0..MAX_FRAMES as u32 {
        // SAFETY: the context is valid.
        if unsafe { step(index, context) } != 0 {
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
    let (walk, tables) = unsafe { (&mut *(*context).walk, &(*context).tables) };
    // SAFETY: by contract; the recording is claimed.
    let memory = unsafe { Recorder::new(&UserMemory, (*context).recording) };
    i64::from(!walk.step(&memory, tables))
}

/// What a step of the walk by frame pointers works on.
#[repr(C)]
struct ChainContext {
    walk: *mut Walk,
    position: frame_pointer::Position,
}

/// The frames go to the walk's memory, which makes the verifier forget them: a walk can end after
/// any frame, and all that follows would be verified once for each of them (240,000 instructions
/// instead of a few thousand).
#[inline(always)]
fn walk_by_frame_pointers(from: From, registers: Registers, walk: &mut Walk) {
    walk.start_collecting();
    let (caller, registers) = match from {
        From::Entry => (UserMemory.read_word(registers.sp), registers),
        // As if the place had been called with the word before the stack pointer.
        From::Place(pc) => (Some(pc), Registers { sp: registers.sp.wrapping_sub(8), ..registers }),
    };
    let Some(caller) = caller else {
        return walk.finish_collecting(StackEnd::Unreadable);
    };
    if USE_BPF_LOOP.load() == 0 {
        let end = frame_pointer::walk_from_entry(&UserMemory, registers, caller, walk);
        return walk.finish_collecting(end);
    }
    let mut position = frame_pointer::Position::default();
    position.start(registers, caller, walk);
    walk.finish_collecting(StackEnd::Truncated);
    let mut context = ChainContext { walk, position };
    // SAFETY: `chain_step` has the signature that the helper wants, and the context outlives the
    // call.
    unsafe {
        let context = (&raw mut context).cast();
        bpf_loop(MAX_FRAMES as u32 - 1, chain_step as *mut _, context, 0);
    }
}

/// One frame by its frame pointer; not 0 ends the loop.
///
/// # Safety
/// `context` and what it points to are valid for the call.
#[inline(never)]
unsafe extern "C" fn chain_step(_index: u32, context: *mut ChainContext) -> i64 {
    // SAFETY: by contract; the walk is claimed.
    let (walk, position) = unsafe { (&mut *(*context).walk, &mut (*context).position) };
    match position.step(&UserMemory, walk) {
        Ok(()) => 0,
        Err(end) => {
            walk.finish_collecting(end);
            1
        }
    }
}

/// The id of a finished walk's stack, which is sent if it was not seen before; and whether it was.
#[inline(always)]
fn intern<C: EbpfContext>(ctx: &C, config: &Config, walk: &mut Walk) -> (u64, bool) {
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
            (hash, true)
        }
        None => (publish(ctx, config, walk, hash, check, end), false),
    }
}

/// Sends a stack that was not seen before. It is remembered only when it was sent: one that did
/// not fit into the ring is sent with a later call.
#[inline(always)]
fn publish<C: EbpfContext>(
    ctx: &C,
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
    // What a Python frame is called must be read before it is gone.
    let flags = if python == 0 {
        emit::wakeup_flags(config, bytes as u64 + emit::BLOCK_BYTES)
    } else {
        emit::WAKE_NOW
    };
    if EVENTS.output::<[u8]>(record, flags).is_err() {
        count_ring_full(RecordKind::Stack);
        let _ = STACKS.remove(hash);
    }
    debug!(ctx, "new stack {:x} of {} and {} Python frames, end {}", hash, native, python, end);
    hash
}
