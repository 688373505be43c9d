//! The maps that all programs share, and the accessors that the programs use. Sizes are fixed at load.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, ProgramArray, RingBuf},
};
use memtrace_common::{
    config::Config,
    loss::{
        FUNCTION_SLOTS, FunctionCounters, KernelCounters, KernelLoss, LONGEST_STACK_NS,
        STACKS_A_TIMED,
    },
    python::{PythonKind, PythonLayout},
    unwind::{
        memo::Memo,
        table::{CHUNK_WORDS, CodeMappings, MAX_RULES, Rule},
    },
    wire::RecordKind,
};

use crate::{
    atomic,
    recordings::SharedRecordings,
    stack::{STACK_BUFFERS_PER_CPU, StackBuffer},
};

/// Records for the user side. The size is a load-time option (`--ring-size`).
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

#[map]
static CONFIG: Array<Config> = Array::with_max_entries(1, 0);

/// How often the target has executed a new program; seeds stack hashes, because addresses of one
/// image mean nothing in the next.
#[map]
static IMAGE: Array<u64> = Array::with_max_entries(1, 0);

#[map]
static COUNTERS: PerCpuArray<KernelCounters> = PerCpuArray::with_max_entries(1, 0);

/// Known stacks: hash → check word. A compiler at work on templates has 100,000 within seconds, and
/// a call whose stack finds no room has none.
#[map]
pub static STACKS: HashMap<u64, u64> = HashMap::with_max_entries(1 << 18, 0);

/// Unwind rows, in chunks; the number of chunks is chosen at load.
#[map]
static ROWS: Array<Chunk> = Array::with_max_entries(1, 0);

/// First row of each page of code, likewise.
#[map]
static PAGES: Array<Chunk> = Array::with_max_entries(1, 0);

#[map]
static RULES: Array<Rule> = Array::with_max_entries(MAX_RULES, 0);

/// Executable mappings: the current version and the next, see [`Config::mappings`].
#[map]
static MAPPINGS: Array<CodeMappings> = Array::with_max_entries(2, 0);

/// The rules that were found, for each version of the mappings.
#[map]
static MEMOS: Array<Memo> = Array::with_max_entries(2, 0);

/// Stacks that were walked before, at places that their keys say. Nobody maps it: with the flag it begins
/// with a page, and so each place with a line of the cache.
#[map]
static RECORDINGS: Array<SharedRecordings> =
    Array::with_max_entries(RECORDING_PLACES, BPF_F_MMAPABLE);

/// How many places there are; a power of two. They take 1.6 MiB.
pub const RECORDING_PLACES: u32 = 1024;

/// Where the target's CPython has what, see [`python_layout`].
#[map]
static PYTHON: Array<PythonLayout> = Array::with_max_entries(1, 0);

/// An element of the maps of unwind rows and pages. One array element of many words: elements of
/// one word would be padded to two.
type Chunk = [u32; CHUNK_WORDS];

#[map]
static STACK_BUFFERS: PerCpuArray<StackBuffer> =
    PerCpuArray::with_max_entries(STACK_BUFFERS_PER_CPU, 0);

/// Never filled; see [`crate::decline_private_stack`].
#[map]
pub static NO_PROGRAMS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Likewise, for the program that may be attached as a session: programs that are attached
/// differently may not refer to the same one (Linux 6.18).
#[map]
pub static NO_SESSIONS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The configuration.
#[inline(always)]
pub fn config() -> Option<&'static Config> {
    CONFIG.get(0)
}

/// The configuration, while the window is open.
#[inline(always)]
pub fn active_config() -> Option<&'static Config> {
    config().filter(|config| config.active != 0)
}

/// The number of the target's program image.
#[inline(always)]
pub fn image() -> u64 {
    IMAGE.get(0).copied().unwrap_or_default()
}

/// The current executable mappings of the target.
#[inline(always)]
pub fn mappings(config: &Config) -> Option<*const CodeMappings> {
    MAPPINGS.get_ptr(config.mappings)
}

/// The rules that were found in the current mappings.
#[inline(always)]
pub fn memo(config: &Config) -> Option<*mut Memo> {
    MEMOS.get_ptr_mut(config.mappings)
}

/// The recordings at a place.
#[inline(always)]
pub fn recordings(place: u32) -> Option<*mut SharedRecordings> {
    RECORDINGS.get_ptr_mut(place)
}

/// What is needed to walk Python's frames in the program image with this number; `None` when there
/// is no Python, or none that is understood.
#[inline(always)]
pub fn python_layout(image: u64) -> Option<*const PythonLayout> {
    let layout = PYTHON.get_ptr(0)?;
    // SAFETY: the map value outlives the run.
    let (kind, of_image, thread_pointer) =
        unsafe { ((*layout).kind, (*layout).image, (*layout).task_thread_pointer) };
    let is_usable = kind != PythonKind::Off as u32 && of_image == image && thread_pointer != 0;
    is_usable.then_some(layout)
}

/// A word of the unwind rows; 0 when there is none.
#[inline(always)]
pub fn row_word(index: u32) -> u32 {
    word(&ROWS, index)
}

/// A word of the page index; 0 when there is none.
#[inline(always)]
pub fn page_word(index: u32) -> u32 {
    word(&PAGES, index)
}

#[inline(always)]
fn word(chunks: &Array<Chunk>, index: u32) -> u32 {
    match chunks.get_ptr(index / CHUNK_WORDS as u32) {
        // SAFETY: the map value is readable for the program's run, and the mask keeps inside.
        Some(chunk) => unsafe {
            chunk.cast::<u32>().add(index as usize & (CHUNK_WORDS - 1)).read_volatile()
        },
        None => 0,
    }
}

/// An unwind rule; one that says nothing when there is none.
#[inline(always)]
pub fn rule(index: u32) -> Rule {
    RULES.get(index).copied().unwrap_or_default()
}

/// Starts the next image.
#[inline(always)]
pub fn next_image() {
    if let Some(image) = IMAGE.get_ptr_mut(0) {
        atomic::increment(image);
    }
}

/// One of this CPU's buffers for stack walks. Elements and not one array value: the verifier takes
/// all elements for the same state, but follows each offset into a value apart.
#[inline(always)]
pub fn stack_buffer(index: u32) -> Option<*mut StackBuffer> {
    STACK_BUFFERS.get_ptr_mut(index)
}

/// This CPU's counters of a function.
#[inline(always)]
pub fn function_counters(function: u8) -> Option<*mut FunctionCounters> {
    let counters = COUNTERS.get_ptr_mut(0)?;
    let index = usize::from(function);
    if index >= FUNCTION_SLOTS {
        return None;
    }
    // SAFETY: the map value outlives the program's run and the index was checked. A raw pointer,
    // not a reference: a preempting program on this CPU updates the same counters.
    Some(unsafe { (&raw mut (*counters).functions).cast::<FunctionCounters>().add(index) })
}

/// Counts a loss.
#[inline(always)]
pub fn count_loss(loss: KernelLoss) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: the map value outlives the run and the discriminant indexes the array.
        atomic::increment(unsafe {
            (&raw mut (*counters).losses).cast::<u64>().add(loss as usize)
        });
    }
}

/// Counts the time that a call took for its stack, and that of those whose time was not taken.
#[inline(always)]
pub fn count_stack_ns(took_ns: u64) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: the map value outlives the run.
        let sum_ns = unsafe { &raw mut (*counters).stacks_ns };
        atomic::add(sum_ns, took_ns.min(LONGEST_STACK_NS) * STACKS_A_TIMED);
    }
}

/// Counts a record that did not fit into the ring.
#[inline(always)]
pub fn count_ring_full(kind: RecordKind) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: the map value outlives the run and the discriminant indexes the array.
        atomic::increment(unsafe {
            (&raw mut (*counters).ring_full).cast::<u64>().add(kind as usize)
        });
    }
}
