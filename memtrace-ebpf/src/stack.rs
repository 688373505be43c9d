//! The caller's stack, walked once per call, sent once per stack: events carry its hash.
//!
//! An exported function (`no_mangle`) is verified once, by itself, and what the verifier notes
//! meanwhile is freed before it goes on: kilobytes for each state, charged to whoever loads the
//! program. Inlined into its callers all of this took 50 MiB. So such functions take numbers, and
//! pointers whose length the kernel knows from the object's BTF and which may be null to it.

use aya_ebpf::{Global, helpers::generated::bpf_loop};
use aya_log_ebpf::debug;
use memtrace_common::{
    config::{Config, StackMode},
    loss::KernelLoss,
    memory::ReadMemory as _,
    opaque::Opaque,
    python::{
        MAX_PYTHON_FRAMES, PythonLayout,
        walk::{MAX_PYTHON_STEPS, PythonThread},
    },
    unwind::{
        Registers, StackWords, finish, frame_pointer,
        memo::{Memo, PLACES},
        recall::{FRAMES_TOGETHER, Recorder, Recording, Replay},
        table::{CodeMapping, CodeMappings, MAX_MAPPINGS, Row, Rule},
        walk::{Tables, Walk},
    },
    wire::{MAX_FRAMES, RecordKind, STACK_GUESSED, StackEnd, StackHeader},
};

use crate::{
    atomic, emit,
    maps::{
        EVENTS, STACKS, config, count_loss, count_ring_full, count_stack_ns, image, mappings, memo,
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

impl From {
    /// No code is there.
    const NO_PLACE: u64 = 0;

    /// As a number, for functions that the verifier looks at by themselves.
    #[inline(always)]
    fn pc(self) -> u64 {
        match self {
            Self::Entry => Self::NO_PLACE,
            Self::Place(pc) => pc,
        }
    }

    /// What [`Self::pc`] says.
    #[inline(always)]
    fn of(pc: u64) -> Self {
        if pc == Self::NO_PLACE { Self::Entry } else { Self::Place(pc) }
    }
}

/// What a walk starts with.
pub struct Start<'a> {
    pub from: From,
    pub registers: Registers,
    /// Where is kept what is known of the thread.
    pub thread: &'a mut PythonThread,
}

/// Walks the stack and returns its hash, 0 when there is none. Of those that are timed, the time is
/// counted, for all that are not: what a budget is kept by. How deep stacks are, and how cold the caches, is
/// the target's.
#[inline(always)]
pub fn capture(start: Start<'_>, is_timed: bool) -> u64 {
    let Registers { sp, bp } = start.registers;
    // SAFETY: a reference is valid.
    unsafe { capture_stack(start.from.pc(), sp, bp, start.thread, is_timed.into()) }
}

/// [`capture`], from `pc` on, or from the entry of a function.
///
/// # Safety
/// `thread` is valid for the call.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn capture_stack(
    pc: u64,
    sp: u64,
    bp: u64,
    thread: *mut PythonThread,
    is_timed: u32,
) -> u64 {
    let Some(config) = config().filter(|it| it.stacks != StackMode::Off as u32) else { return 0 };
    // SAFETY: by contract.
    let Some(thread) = (unsafe { thread.as_mut() }) else { return 0 };
    let Some(buffer) = claim() else {
        count_loss(KernelLoss::StackBufferBusy);
        return 0;
    };
    // SAFETY: the buffer lies in a map value and, being claimed, is this program's alone.
    let begun_ns = unsafe { &mut (*buffer).begun_ns };
    begun_ns.set(if is_timed != 0 { emit::now_ns() } else { 0 });
    let start = Start { from: From::of(pc), registers: Registers { sp, bp }, thread };
    let stack = walk_or_recall(config, start, buffer).unwrap_or_default();
    if begun_ns.get() != 0 {
        count_stack_ns(emit::now_ns().saturating_sub(begun_ns.get()));
    }
    // SAFETY: as above.
    atomic::release_on_this_cpu(unsafe { &raw mut (*buffer).claimed });
    stack
}

/// Walks Python's frames and the native ones. The stack's id.
#[inline(always)]
fn walk_or_recall(config: &Config, start: Start<'_>, buffer: *mut StackBuffer) -> Option<u64> {
    let Start { from, registers, thread } = start;
    // SAFETY: the buffer lies in a map value and, being claimed, is this program's alone.
    let (walk, replay, unread) =
        unsafe { (&mut (*buffer).walk, &mut (*buffer).replay, &raw mut (*buffer).unread) };
    walk.clear_windows();
    if config.stacks != StackMode::Tables as u32 {
        take_python(walk, thread);
        // SAFETY: the walk is a reference.
        unsafe { walk_by_frame_pointers(walk, from.pc(), registers.sp, registers.bp) };
        return Some(intern(walk));
    }
    // This reads the stack, in which there are things of Python, too.
    walk.read_stack(&UserMemory, registers.sp);
    take_python(walk, thread);
    if begin(walk, from, registers) {
        let tables = KernelTables { mappings: mappings(config)?, memo: memo(config)? };
        let context = LoopContext { walk, tables, recording: unread };
        if USE_BPF_LOOP.load() != 0 {
            return finish_or_recall(config, registers, context, replay);
        }
        take_frames(&context, MAX_FRAMES as u32);
    }
    Some(intern(walk))
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
fn finish_or_recall(
    config: &Config,
    registers: Registers,
    mut context: LoopContext,
    replay: &mut Replay,
) -> Option<u64> {
    // SAFETY: the walk is claimed, and only used here while the loop does not run.
    let walk = unsafe { &mut *context.walk };
    let mut key = walk.key(config.generation);
    let mut shared = recordings::at(&key)?;
    let experience = recordings::experience(shared);
    let mut frames_left = MAX_FRAMES as u32;
    if let Some(beginning) = experience.beginning() {
        key = walk.key_with(beginning, &key);
        shared = recordings::at(&key)?;
    } else if experience.further_frames() != 0 {
        let further_frames = experience.further_frames();
        take_frames(&context, further_frames);
        if !walk.is_under_way() {
            return Some(intern(walk));
        }
        frames_left -= further_frames;
        key = walk.key(config.generation);
        shared = recordings::at(&key)?;
    }
    match recordings::recalled(shared, &key, registers, walk, replay) {
        Found::Stack(stack) => {
            experience.learn_of_recalled();
            return Some(stack);
        }
        Found::Others(beginning) => experience.learn_of_others(beginning),
        Found::Nothing => experience.learn_of_nothing(),
    }
    let Some(recording) = recordings::claim_next(shared, &key) else {
        take_frames(&context, frames_left);
        return Some(intern(walk));
    };
    // SAFETY: it is claimed.
    unsafe { (*recording).begin(&key) };
    context.recording = recording;
    take_frames(&context, frames_left);
    // SAFETY: both are valid and claimed.
    let stack = unsafe { intern_stack(walk, recording, registers.sp) };
    recordings::release(shared);
    Some(stack)
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

/// What a step of the Python walk works on.
#[repr(C)]
struct PythonLoopContext {
    walk: *mut Walk,
    layout: *const PythonLayout,
}

/// Steps of the Python walk in one call of the kernel's: mostly these are all.
const PYTHON_STEPS_AT_ONCE: usize = 3;
const _: () = assert!(MAX_PYTHON_STEPS.is_multiple_of(PYTHON_STEPS_AT_ONCE));

/// Walks Python's frames, if there are any. The thread pointer is kept for the thread's next walk.
#[inline(always)]
fn take_python(walk: &mut Walk, thread: &mut PythonThread) {
    let image = image();
    let Some(layout) = python_layout(image) else { return walk.skip_python(image) };
    if thread.pointer.get() == 0 {
        // SAFETY: the map value outlives the run.
        let offset = unsafe { (*layout).task_thread_pointer };
        thread.pointer.set(thread_pointer(offset).unwrap_or_default());
    }
    if thread.pointer.get() == 0 {
        return walk.skip_python(image);
    }
    // SAFETY: all are valid, and the walk is claimed.
    unsafe { walk_python(walk, layout, thread, image) };
}

/// [`take_python`], where there is Python. The result says nothing: the kernel wants one.
///
/// # Safety
/// All are valid for the call, and the walk is claimed.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn walk_python(
    walk: *mut Walk,
    layout: *const PythonLayout,
    thread: *mut PythonThread,
    image: u64,
) -> u32 {
    // SAFETY: by contract.
    let (Some(known), Some(known_layout), Some(thread)) =
        (unsafe { (walk.as_mut(), layout.as_ref(), thread.as_mut()) })
    else {
        return 0;
    };
    if !known.start_python(&UserMemory, known_layout, thread, image) {
        return 0;
    }
    if USE_BPF_LOOP.load() != 0 {
        let mut context = PythonLoopContext { walk, layout };
        // SAFETY: `three_python_steps` has the signature that the helper wants, and the context
        // outlives the call.
        unsafe {
            let context = (&raw mut context).cast();
            bpf_loop(
                (MAX_PYTHON_STEPS / PYTHON_STEPS_AT_ONCE) as u32,
                python_step as *mut _,
                context,
                0,
            );
        }
        return 0;
    }
    for _ in 0..MAX_PYTHON_STEPS {
        // SAFETY: both are valid, and the walk is claimed.
        if unsafe { take_python_frame(walk, layout) } == 0 {
            break;
        }
    }
    0
}

/// One Python frame, where there is no `bpf_loop`; 0 ends the walk. Exported, or the verifier would
/// follow each again.
///
/// # Safety
/// Both are valid for the call, and the walk is claimed.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn take_python_frame(walk: *mut Walk, layout: *const PythonLayout) -> u32 {
    // SAFETY: by contract.
    let (Some(walk), Some(layout)) = (unsafe { (walk.as_mut(), layout.as_ref()) }) else {
        return 0;
    };
    walk.step_python(&UserMemory, layout).into()
}

/// Some Python frames; not 0 ends the loop.
///
/// # Safety
/// `context` and what it points to are valid for the call.
#[inline(never)]
unsafe extern "C" fn python_step(_index: u32, context: *mut PythonLoopContext) -> i64 {
    // SAFETY: by contract; the walk is claimed.
    let (walk, layout) = unsafe { (&mut *(*context).walk, &*(*context).layout) };
    for _ in 0..PYTHON_STEPS_AT_ONCE {
        if !walk.step_python(&UserMemory, layout) {
            return 1;
        }
    }
    0
}

/// What a step of the walk works on.
#[repr(C)]
struct LoopContext {
    walk: *mut Walk,
    tables: KernelTables,
    recording: *mut Recording,
}

const _: () = assert!((MAX_FRAMES as u32).is_multiple_of(FRAMES_TOGETHER));

/// Takes native frames, at most as many: a multiple of [`FRAMES_TOGETHER`].
#[inline(always)]
fn take_frames(context: &LoopContext, frames: u32) {
    let KernelTables { mappings, memo } = context.tables;
    // SAFETY: they lie in map values, and what is written is claimed.
    unsafe { take_native_frames(context.walk, mappings, memo, context.recording, frames) };
}

/// [`take_frames`]. The result says nothing: the kernel wants one.
///
/// # Safety
/// All are valid for the call; the walk and the recording are claimed.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn take_native_frames(
    walk: *mut Walk,
    mappings: *const CodeMappings,
    memo: *mut Memo,
    recording: *mut Recording,
    frames: u32,
) -> u32 {
    if walk.is_null() || mappings.is_null() || memo.is_null() || recording.is_null() {
        return 0;
    }
    if USE_BPF_LOOP.load() != 0 {
        let tables = KernelTables { mappings, memo };
        let mut context = LoopContext { walk, tables, recording };
        // SAFETY: `step` has the signature that the helper wants, and the context outlives the call.
        unsafe {
            let steps = frames / FRAMES_TOGETHER;
            bpf_loop(steps, step as *mut _, (&raw mut context).cast(), 0);
        }
        return 0;
    }
    for _ in 0..MAX_FRAMES {
        // SAFETY: all are valid; the walk and the recording are claimed.
        if unsafe { take_native_frame(walk, mappings, memo, recording) } == 0 {
            break;
        }
    }
    0
}

/// One frame, where there is no `bpf_loop`; 0 ends the walk. Exported, or the verifier would follow
/// each again.
///
/// # Safety
/// As for [`take_native_frames`].
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn take_native_frame(
    walk: *mut Walk,
    mappings: *const CodeMappings,
    memo: *mut Memo,
    recording: *mut Recording,
) -> u32 {
    // SAFETY: by contract.
    let Some(walk) = (unsafe { walk.as_mut() }) else { return 0 };
    if mappings.is_null() || memo.is_null() || recording.is_null() {
        return 0;
    }
    // SAFETY: by contract.
    let memory = unsafe { Recorder::new(&UserMemory, recording) };
    walk.step(&memory, &KernelTables { mappings, memo }).into()
}

/// Some frames; not 0 ends the loop.
///
/// # Safety
/// `context` and what it points to are valid for the call.
#[inline(never)]
unsafe extern "C" fn step(_index: u32, context: *mut LoopContext) -> i64 {
    // SAFETY: by contract; the walk is claimed.
    let (walk, tables) = unsafe { (&mut *(*context).walk, &(*context).tables) };
    // SAFETY: by contract; the recording is claimed.
    let memory = unsafe { Recorder::new(&UserMemory, (*context).recording) };
    for _ in 0..FRAMES_TOGETHER {
        if !walk.step(&memory, tables) {
            return 1;
        }
    }
    0
}

/// What a step of the walk by frame pointers works on.
#[repr(C)]
struct ChainContext {
    walk: *mut Walk,
    position: frame_pointer::Position,
}

/// Walks by frame pointers, from `pc` on or from the entry of a function. The result says nothing: the
/// kernel wants one.
///
/// The frames go to the walk's memory, which makes the verifier forget them: a walk can end after
/// any frame, and all that follows would be verified once for each of them (240,000 instructions
/// instead of a few thousand).
///
/// # Safety
/// The walk is valid for the call, and claimed.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn walk_by_frame_pointers(walk: *mut Walk, pc: u64, sp: u64, bp: u64) -> u32 {
    // SAFETY: by contract.
    let Some(walk) = (unsafe { walk.as_mut() }) else { return 0 };
    walk.start_collecting();
    let (caller, sp) = match From::of(pc) {
        From::Entry => (UserMemory.read_word(sp), sp),
        // As if the place had been called with the word before the stack pointer.
        From::Place(pc) => (Some(pc), sp.wrapping_sub(8)),
    };
    let registers = Registers { sp, bp };
    let Some(caller) = caller else {
        walk.finish_collecting(StackEnd::Unreadable);
        return 0;
    };
    if USE_BPF_LOOP.load() == 0 {
        let end = frame_pointer::walk_from_entry(&UserMemory, registers, caller, walk);
        walk.finish_collecting(end);
        return 0;
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
    0
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

/// The id of a finished walk's stack, which is sent if it was not seen before.
#[inline(always)]
fn intern(walk: &mut Walk) -> u64 {
    // SAFETY: the walk is a reference, and there is no recording.
    unsafe { intern_stack(walk, core::ptr::null_mut(), 0) }
}

/// [`intern`], and finishes the recording of the walk, which began at `sp`, if there is one.
///
/// # Safety
/// The walk is valid for the call, the recording is, too, or null, and both are claimed.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn intern_stack(walk: *mut Walk, recording: *mut Recording, sp: u64) -> u64 {
    // SAFETY: by contract.
    let (Some(walk), Some(config)) = (unsafe { walk.as_mut() }, config()) else { return 0 };
    let end = walk.end() | if walk.is_guessed() { STACK_GUESSED } else { 0 };
    let unfinished = walk.hash();
    let hash = finish(unfinished, end);
    let check = (unfinished >> 32) << 32 | u64::from(walk.word_count());
    // SAFETY: by contract.
    let recording = unsafe { recording.as_mut() };
    if recording.is_some() {
        walk.want(sp, walk.reach_bytes(sp));
    }
    let Some(known) = STACKS.get_ptr(hash) else {
        return publish(config, walk, hash, check, end);
    };
    // SAFETY: a found value stays readable for the program's run.
    if unsafe { *known } != check {
        count_loss(KernelLoss::StackCollision);
    }
    // A stack that was just sent may have been lost; one that is not complete may become so when
    // more is known of the target.
    let is_whole = walk.end() == StackEnd::Complete as u32 && !walk.is_guessed();
    if let Some(recording) = recording
        && is_whole
    {
        recording.finish(hash, walk.reach_bytes(sp));
    }
    hash
}

/// Sends a stack that was not seen before. It is remembered only when it was sent: one that did
/// not fit into the ring is sent with a later call.
#[inline(always)]
fn publish(config: &Config, walk: &mut Walk, hash: u64, check: u64, end: u32) -> u64 {
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
    debug!((), "new stack {:x} of {} and {} Python frames, end {}", hash, native, python, end);
    hash
}
