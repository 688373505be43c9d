//! Atomic updates of map values: programs are preempted on their CPU, so that even per-CPU values
//! are shared.
//!
//! By intrinsics, because `core` hides `fetch_add` and `swap` on BPF: the target is declared
//! without compare-and-swap. The instructions exist (`BPF_ATOMIC`, Linux 5.12).

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd, atomic_xchg};

/// Adds one.
#[inline(always)]
pub fn increment(counter: *mut u64) {
    add(counter, 1);
}

/// Adds.
#[inline(always)]
pub fn add(counter: *mut u64, value: u64) {
    // SAFETY: callers pass aligned pointers into map values, which outlive the program's run.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, value) };
}

/// Puts `new` where `old` is; `false` when something else is there.
#[inline(always)]
pub fn replace(word: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: as above.
    unsafe {
        atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(word, old, new)
            .1
    }
}

/// Takes one away.
#[inline(always)]
pub fn decrement(counter: *mut u64) {
    // SAFETY: as above.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, u64::MAX) };
}

/// Takes a lock word if it is free.
#[inline(always)]
pub fn try_claim(lock: *mut u64) -> bool {
    // SAFETY: as above.
    unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(lock, 1) == 0 }
}

/// Gives a lock word back.
#[inline(always)]
pub fn release(lock: *mut u64) {
    // SAFETY: as above.
    unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(lock, 0) };
}

/// Gives a lock word back that only programs on this CPU look at: they are not moved to another one
/// while they run. An atomic instruction would wait for everything that was written before.
#[inline(always)]
pub fn release_on_this_cpu(lock: *mut u64) {
    // SAFETY: as above.
    unsafe { lock.write_volatile(0) };
}
