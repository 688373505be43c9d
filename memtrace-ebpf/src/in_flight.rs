//! Calls in flight by thread: a thread cannot be inside two probes at once, whereas a CPU can,
//! because uprobe programs are preemptible.
//!
//! A malloc and its free look their thread up three times, and a lookup in a hash map costs some
//! 50 ns. So each thread has a seat in an array, at the place that its id says or the next free
//! one, and keeps it until it ends.

use aya_ebpf::{macros::map, maps::Array};
use memtrace_common::{call::InFlight, clock::Clock};

use crate::atomic;

/// A thread's place.
#[repr(C)]
struct Seat {
    /// Lock word: who has taken it may write `thread`.
    claimed: u64,
    /// `pid_tgid` of whom it belongs to; 0 = nobody.
    thread: u64,
    calls: InFlight,
}

/// A power of two, and more than a process should have threads: ids of threads are handed out one
/// after the other, so that neighbours rarely meet.
const SEAT_COUNT: u32 = 16_384;

/// How many seats a thread may try; all taken is a counted loss.
const TRIES: u32 = 16;

#[map]
static IN_FLIGHT: Array<Seat> = Array::with_max_entries(SEAT_COUNT, 0);

/// The thread's calls in flight; `None` while it has no seat.
#[inline(always)]
pub fn get(thread: u64) -> Option<*mut InFlight> {
    let seat = find(thread)?;
    // SAFETY: an element of an array map lives as long as the map; no reference is made.
    Some(unsafe { &raw mut (*seat).calls })
}

/// The thread's calls in flight, on a seat that it takes if it has none. `None` when all that it
/// may try are taken.
#[inline(always)]
pub fn get_or_insert(thread: u64) -> Option<*mut InFlight> {
    let seat = find(thread).or_else(|| seat(thread, claim(thread)))?;
    // SAFETY: as above.
    Some(unsafe { &raw mut (*seat).calls })
}

/// Forgets the thread, which is about to end.
#[inline(always)]
pub fn remove(thread: u64) {
    let Some(seat) = find(thread) else { return };
    // SAFETY: the seat is this thread's until the release, which comes last.
    unsafe {
        (*seat).calls.heap.sp = 0;
        (*seat).calls.mapping.sp = 0;
        (*seat).calls.handed_on.address = 0;
        (*seat).calls.python.forget();
        (*seat).calls.clock = Clock::default();
        (*seat).calls.passed_over.sp = 0;
        (&raw mut (*seat).thread).write_volatile(0);
        atomic::release(&raw mut (*seat).claimed);
    }
}

/// A seat on the way; the first is where the thread belongs.
#[inline(always)]
fn seat(thread: u64, index: u32) -> Option<*mut Seat> {
    if index >= TRIES {
        return None;
    }
    IN_FLIGHT.get_ptr_mut((thread as u32).wrapping_add(index) & (SEAT_COUNT - 1))
}

/// A thread's own seat.
#[inline(always)]
fn find(thread: u64) -> Option<*mut Seat> {
    let first = seat(thread, 0)?;
    // SAFETY: as above. Others may write their own ids meanwhile, never this thread's.
    if unsafe { (&raw const (*first).thread).read_volatile() } == thread {
        return Some(first);
    }
    seat(thread, find_further(thread))
}

/// Which of the seats beyond the first is a thread's own; [`TRIES`] where none is. A free one does not
/// end the search: it may have become free since. Exported for the verifier's sake, see
/// [`crate::stack`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find_further(thread: u64) -> u32 {
    for index in 1..TRIES {
        let Some(seat) = seat(thread, index) else { break };
        // SAFETY: as above.
        if unsafe { (&raw const (*seat).thread).read_volatile() } == thread {
            return index;
        }
    }
    TRIES
}

/// Takes a seat for a thread, and says which, likewise.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn claim(thread: u64) -> u32 {
    for index in 0..TRIES {
        let Some(seat) = seat(thread, index) else { break };
        // SAFETY: as above; once claimed, the seat is this thread's alone.
        unsafe {
            if atomic::try_claim(&raw mut (*seat).claimed) {
                (&raw mut (*seat).thread).write_volatile(thread);
                return index;
            }
        }
    }
    TRIES
}
