//! Recordings of walks, at places that their keys say; see [`memtrace_common::unwind::recall`].

use aya_ebpf::helpers::generated::bpf_loop;
use memtrace_common::{
    opaque::Opaque,
    unwind::{
        Registers, mix,
        recall::{Beginning, Experience, Key, MAX_REPLAY_STEPS, Recording, Replay},
        walk::Walk,
    },
};

use crate::{
    atomic,
    maps::{self, RECORDING_PLACES},
    memory::UserMemory,
};

/// Recordings at one place. Who records has claimed them; who recalls has not, because that would
/// cost as much as three frames, and looks whether the turn has changed meanwhile.
///
/// What is looked at in any case comes first, in one line of the cache.
#[repr(C, align(64))]
pub struct SharedRecordings {
    /// Of the walks that start with what leads here.
    experience: Experience,
    /// What the recordings are of, see [`tag`]: the others need not be fetched.
    tags: [Opaque<u64>; RECORDINGS_A_PLACE],
    /// Which is the next to be replaced. Passes on after that one was forgotten and before it is
    /// written. (On x86-64 others see this in the same order.)
    turn: u64,
    claimed: u64,
    recordings: [Recording; RECORDINGS_A_PLACE],
}

/// Walks that start alike often part further up: with too few recordings they would take turns in
/// them. A power of two.
const RECORDINGS_A_PLACE: usize = 4;

/// What is known of a key.
#[derive(Clone, Copy)]
pub enum Found {
    Stack(u64),
    /// Only stacks that memory is not as it was for. One of them begins so.
    Others(Beginning),
    Nothing,
}

/// What a place and a tag are made of.
#[inline(always)]
fn start(key: &Key) -> u64 {
    let [sp, pc, hash, _] = *key;
    mix(mix(hash, sp), pc)
}

/// A number that recordings with equal keys have in common.
#[inline(always)]
fn tag(key: &Key) -> u64 {
    start(key) ^ key[3]
}

/// The place of the recordings of walks with this key.
#[inline(always)]
pub fn at(key: &Key) -> Option<*mut SharedRecordings> {
    let place = start(key) >> 32;
    maps::recordings(place as u32 & (RECORDING_PLACES - 1))
}

/// What was learnt at a place.
#[inline(always)]
pub fn experience<'a>(shared: *mut SharedRecordings) -> &'a mut Experience {
    // SAFETY: it lies in a map value; what others change is read volatile.
    unsafe { &mut (*shared).experience }
}

/// The recording to replace, which is forgotten; `None` when somebody else is recording there.
/// [`release`] comes afterwards.
#[inline(always)]
pub fn claim_next(shared: *mut SharedRecordings, key: &Key) -> Option<*mut Recording> {
    // SAFETY: it lies in a map value, and the mask keeps the index inside.
    unsafe {
        if !atomic::try_claim(&raw mut (*shared).claimed) {
            return None;
        }
        let turn = (&raw const (*shared).turn).read_volatile();
        let index = turn as usize & (RECORDINGS_A_PLACE - 1);
        let next = (&raw mut (*shared).recordings).cast::<Recording>().add(index);
        (*next).forget();
        let tags = (&raw mut (*shared).tags).cast::<Opaque<u64>>();
        (*tags.add(index)).set(tag(key));
        (&raw mut (*shared).turn).write_volatile(turn + 1);
        Some(next)
    }
}

/// Lets others record there.
#[inline(always)]
pub fn release(shared: *mut SharedRecordings) {
    // SAFETY: it lies in a map value.
    atomic::release(unsafe { &raw mut (*shared).claimed });
}

/// The stack of a recording with this key, if memory has not changed.
#[inline(always)]
pub fn recalled(
    shared: *mut SharedRecordings,
    key: &Key,
    registers: Registers,
    walk: &mut Walk,
    replay: &mut Replay,
) -> Found {
    // SAFETY: it lies in a map value, here and below; what changes is read volatile.
    let turn = || unsafe { (&raw const (*shared).turn).read_volatile() };
    let before = turn();
    // SAFETY: as above.
    let ([first, second, third, fourth], tags) =
        unsafe { (&(*shared).recordings, &(*shared).tags) };
    let tag = tag(key);
    let is_tagged = |index: usize| tags[index].get() == tag;
    // Not by an iterator, whose loop the compiler may leave a loop over pointers: the verifier does
    // not see where it ends.
    let mut found = Found::Nothing;
    let _ = is_tagged(0) && recalled_by(first, key, registers, walk, replay, &mut found)
        || is_tagged(1) && recalled_by(second, key, registers, walk, replay, &mut found)
        || is_tagged(2) && recalled_by(third, key, registers, walk, replay, &mut found)
        || is_tagged(3) && recalled_by(fourth, key, registers, walk, replay, &mut found);
    match found {
        Found::Stack(stack) if stack == 0 || turn() != before => Found::Nothing,
        found => found,
    }
}

/// Whether a recording ends the search.
#[inline(always)]
fn recalled_by(
    known: &Recording,
    key: &Key,
    registers: Registers,
    walk: &mut Walk,
    replay: &mut Replay,
    found: &mut Found,
) -> bool {
    if !known.is_of(key) {
        return false;
    }
    // SAFETY: all are references.
    let is_equal = unsafe { is_as_recorded(known, walk, replay, registers.bp) } != 0;
    if !is_equal {
        *found = Found::Others(known.beginning());
        return false;
    }
    walk.want(registers.sp, known.reach_bytes());
    *found = Found::Stack(known.stack());
    true
}

/// Whether a recording is that of the walk: not 0 if memory has not changed. Exported for the
/// verifier's sake, see [`crate::stack`].
///
/// # Safety
/// All are valid for the call; walk and replay are claimed.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn is_as_recorded(
    known: *const Recording,
    walk: *mut Walk,
    replay: *mut Replay,
    frame_pointer: u64,
) -> u32 {
    // SAFETY: by contract.
    let (Some(known), Some(walk), Some(replay)) =
        (unsafe { (known.as_ref(), walk.as_mut(), replay.as_mut()) })
    else {
        return 0;
    };
    let is_equal = walk.is_as_recorded(known, frame_pointer).unwrap_or_else(|| {
        look_through(known, walk, replay);
        replay.is_equal(known, frame_pointer)
    });
    is_equal.into()
}

/// Reads what was not read yet.
#[inline(always)]
fn look_through(recording: &Recording, walk: &mut Walk, replay: &mut Replay) {
    if !replay.start(recording) {
        return;
    }
    let mut context = ReplayContext { walk, replay, recording };
    // SAFETY: `replay_step` has the signature that the helper wants, and the context outlives the
    // call.
    unsafe {
        let context = (&raw mut context).cast();
        bpf_loop(MAX_REPLAY_STEPS as u32, replay_step as *mut _, context, 0);
    }
}

/// What a step through a recording works on.
#[repr(C)]
struct ReplayContext {
    walk: *mut Walk,
    replay: *mut Replay,
    recording: *const Recording,
}

/// Some notes of a recording; not 0 ends the loop.
///
/// # Safety
/// `context` and what it points to are valid for the call.
#[inline(never)]
unsafe extern "C" fn replay_step(_index: u32, context: *mut ReplayContext) -> i64 {
    // SAFETY: by contract; all are claimed.
    let (walk, replay, recording) =
        unsafe { (&mut *(*context).walk, &mut *(*context).replay, &*(*context).recording) };
    i64::from(!walk.replay(&UserMemory, replay, recording))
}
