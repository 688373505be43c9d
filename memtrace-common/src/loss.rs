//! Every way in which the kernel side can lose data, and the counters that say how often.

use crate::{function::AllocFn, wire::RecordKind};

/// A way to lose data in the kernel. The discriminant indexes [`KernelCounters::losses`].
///
/// Records that did not fit into the ring are counted apart, by function and by kind.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KernelLoss {
    /// The table of calls in flight was full: a call was not followed to its return.
    InFlightFull = 0,
    /// A call never returned through its probe (longjmp, lost return probe).
    AbandonedCall = 1,
    /// A return had no entry: the call began before the attach.
    ReturnWithoutEntry = 2,
    /// `posix_memalign`'s result could not be read.
    UnreadableResult = 3,
    /// All stack buffers of the CPU were busy: the call has no stack.
    StackBufferBusy = 4,
    /// The table of known stacks was full: the call has no stack.
    StackTableFull = 5,
    /// Two stacks had the same hash: the call is counted under the first.
    StackCollision = 6,
    /// The place for a sampled block's address was taken: the block is not followed.
    SampledFull = 7,
}

impl KernelLoss {
    /// How many there are; discriminants are below it.
    pub const COUNT: usize = 8;

    /// Every kind, in discriminant order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::InFlightFull,
        Self::AbandonedCall,
        Self::ReturnWithoutEntry,
        Self::UnreadableResult,
        Self::StackBufferBusy,
        Self::StackTableFull,
        Self::StackCollision,
        Self::SampledFull,
    ];
}

/// Counters of one traced function.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FunctionCounters {
    /// Outermost calls entered (free and realloc of NULL included).
    pub entries: u64,
    /// Calls made inside another traced call of the same family; not recorded.
    pub nested: u64,
    /// Outermost calls that returned, without those passed over.
    pub returns: u64,
    /// Calls that failed, or did nothing (`free(NULL)`); not recorded.
    pub void: u64,
    /// Finished calls whose record did not fit into the ring.
    pub lost: u64,
    /// Outermost calls that were only counted: allocations that were not drawn, and releases of
    /// blocks that were not.
    pub passed_over: u64,
    /// What all outermost calls that lead to a block asked for, whether they were given it or not;
    /// without sizes of [`ABSURD_BYTES`] and more.
    pub requested_bytes: u64,
}

/// More than any address space: a request that fails for certain, and would make a sum useless.
pub const ABSURD_BYTES: u64 = 1 << 48;

/// Elements of [`KernelCounters::functions`]: a power of two, because the compiler makes a mask of
/// the check whether an index is below [`AllocFn::COUNT`], and the verifier sees only the mask.
pub const FUNCTION_SLOTS: usize = AllocFn::COUNT.next_power_of_two();

/// The element in which memtrace's own calls are counted, with which it measures what a hit costs: they
/// are of no function, and nobody asks for it.
pub const CALIBRATION_SLOT: u8 = FUNCTION_SLOTS as u8 - 1;

const _: () = assert!(CALIBRATION_SLOT as usize >= AllocFn::COUNT);

/// All counters; one copy per CPU, summed by the user side.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelCounters {
    /// By [`AllocFn`], and [`CALIBRATION_SLOT`]; the others are unused.
    pub functions: [FunctionCounters; FUNCTION_SLOTS],
    /// Records that did not fit into the ring, by [`RecordKind`].
    pub ring_full: [u64; RecordKind::COUNT],
    /// By [`KernelLoss`].
    pub losses: [u64; KernelLoss::COUNT],
    /// Time that calls took for their stacks, in nanoseconds; estimated from one in [`STACKS_A_TIMED`], of
    /// each of which [`LONGEST_STACK_NS`] are counted at most.
    pub stacks_ns: u64,
}

/// Of so many stacks, the time of one is taken: two time stamps take a tenth of what a stack does.
pub const STACKS_A_TIMED: u64 = 16;

/// What takes longer was interrupted.
pub const LONGEST_STACK_NS: u64 = 50_000;

impl Default for KernelCounters {
    fn default() -> Self {
        Self {
            functions: [FunctionCounters::default(); FUNCTION_SLOTS],
            ring_full: [0; RecordKind::COUNT],
            losses: [0; KernelLoss::COUNT],
            stacks_ns: 0,
        }
    }
}

impl KernelCounters {
    /// Adds another CPU's counters.
    pub fn add(&mut self, other: &Self) {
        for (sum, value) in self.functions.iter_mut().zip(&other.functions) {
            sum.entries += value.entries;
            sum.nested += value.nested;
            sum.returns += value.returns;
            sum.void += value.void;
            sum.lost += value.lost;
            sum.passed_over += value.passed_over;
            sum.requested_bytes += value.requested_bytes;
        }
        for (sum, value) in self.ring_full.iter_mut().zip(&other.ring_full) {
            *sum += value;
        }
        for (sum, value) in self.losses.iter_mut().zip(&other.losses) {
            *sum += value;
        }
        self.stacks_ns += other.stacks_ns;
    }

    /// How often this loss happened.
    pub fn loss(&self, loss: KernelLoss) -> u64 {
        self.losses[loss as usize]
    }

    /// The counters of one function.
    pub fn function(&self, function: AllocFn) -> &FunctionCounters {
        &self.functions[function as usize]
    }
}

// SAFETY: `repr(C)`, only `u64`s, no padding, any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for KernelCounters {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discriminants_index_the_list_of_all_losses() {
        for (index, loss) in KernelLoss::ALL.into_iter().enumerate() {
            assert_eq!(loss as usize, index);
        }
    }

    #[test]
    fn adding_sums_every_counter() {
        let mut one = KernelCounters::default();
        one.functions[0] = FunctionCounters {
            entries: 1,
            nested: 1,
            returns: 1,
            void: 1,
            lost: 1,
            passed_over: 1,
            requested_bytes: 1,
        };
        one.ring_full[1] = 2;
        one.losses[2] = 3;
        one.stacks_ns = 4;
        let mut sum = one;
        sum.add(&one);
        let FunctionCounters { entries, nested, returns, void, lost, passed_over, requested_bytes } =
            sum.functions[0];
        let counters = [entries, nested, returns, void, lost, passed_over, requested_bytes];
        assert_eq!((counters, sum.ring_full[1], sum.losses[2]), ([2; 7], 4, 6));
        assert_eq!(sum.stacks_ns, 8);
    }
}
