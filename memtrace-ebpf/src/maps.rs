//! The maps that all programs share, and the accessors that the programs use. Sizes are fixed at load.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, ProgramArray, RingBuf},
};
use memtrace_common::{
    config::Config,
    function::AllocFn,
    loss::{FunctionCounters, KernelCounters, KernelLoss},
    wire::RecordKind,
};

use crate::{
    atomic,
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

/// Known stacks: hash → check word.
#[map]
pub static STACKS: HashMap<u64, u64> = HashMap::with_max_entries(65_536, 0);

#[map]
static STACK_BUFFERS: PerCpuArray<StackBuffer> =
    PerCpuArray::with_max_entries(STACK_BUFFERS_PER_CPU, 0);

/// Never filled; see [`crate::decline_private_stack`].
#[map]
pub static NO_PROGRAMS: ProgramArray = ProgramArray::with_max_entries(1, 0);

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
    if index >= AllocFn::COUNT {
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
