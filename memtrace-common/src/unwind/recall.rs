//! Stacks that were walked before: the walk of the native frames depends on nothing but where it is,
//! the frame pointer it started from, the unwind tables, Python's frames and the words of the stack
//! that it looks at. When all of these are what they were, so is the stack, and to look at the
//! words again is much cheaper than to walk: no search, no rules, no hashing.
//!
//! Python's frames are walked each time: those of coroutines lie elsewhere in each call, although
//! they are the same. Where one line of Python makes many calls, as [`Experience`] has shown, the words
//! that tell their recordings apart become part of the key; where that does not help, because the calls'
//! frames differ in size, the innermost native frames are walked each time, too.
//!
//! A [`Recorder`] notes the words of a walk in a [`Recording`]; a [`Replay`] looks at them again.

use super::{HASH_SEED, mix, window::Window};
use crate::{
    memory::ReadMemory,
    opaque::{Opaque, OpaqueWords},
};

/// The most words that one walk may depend on. A walk with more is not kept.
pub const MAX_NOTES: usize = 128;
/// Words of a key.
pub const KEY_WORDS: usize = 4;
/// Places that are in one word.
const NOTES_A_GROUP: u32 = 4;
/// Bits of a place.
const PLACE_BITS: u32 = u64::BITS / NOTES_A_GROUP;
/// The most words of places.
const MAX_GROUPS: usize = MAX_NOTES / NOTES_A_GROUP as usize;
/// Groups that [`Replay::step`] looks at.
const GROUPS_A_STEP: u32 = 2;
/// Groups of a [`Beginning`].
const BEGINNING_GROUPS: usize = 2;
/// How many times [`Replay::step`] is to be called at most.
pub const MAX_REPLAY_STEPS: usize = MAX_GROUPS / GROUPS_A_STEP as usize;
/// Places are numbers of words from so much below where the walk was: a frame pointer that it came
/// with may have been saved there.
const BELOW_BYTES: u64 = 4096;

/// Where a walk is, without the stack and the frame pointer: equal keys and equal memory give equal
/// stacks. The first word is the stack pointer. A key of zeros is none.
pub type Key = [u64; KEY_WORDS];

/// Where the first words are that a walk depends on: the return addresses of its innermost frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beginning([u64; BEGINNING_GROUPS]);

/// A walk's notes and its outcome. Lives in map memory, and what is looked at to recall a stack in
/// two or three lines of the cache, of which all but the places are the first.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Recording {
    key: OpaqueWords<KEY_WORDS>,
    /// The stack's id; 0 while there is none.
    stack: Opaque<u64>,
    /// Of the words that the walk depends on, and of the frame pointer if it does on that.
    check: Opaque<u64>,
    /// How much of the stack the walk looked at.
    reach_bytes: Opaque<u32>,
    groups: Opaque<u16>,
    uses_frame_pointer: Opaque<u16>,
    /// Of all places.
    lowest: Opaque<u32>,
    highest: Opaque<u32>,
    /// Where the words are.
    places: OpaqueWords<MAX_GROUPS>,
    draft: Draft,
}

/// Of what is being recorded.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Draft {
    count: Opaque<u32>,
    /// 1 when the walk cannot be recalled.
    spoiled: Opaque<u32>,
    /// The last note.
    address: Opaque<u64>,
    value: Opaque<u64>,
    frame_pointer: Opaque<u64>,
    check: Check,
}

/// A hash of words in the order of their notes. Two halves, because each step waits for the one before.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Check {
    even: Opaque<u64>,
    odd: Opaque<u64>,
}

impl Check {
    #[inline(always)]
    fn begin(&mut self) {
        self.even.set(HASH_SEED);
        self.odd.set(HASH_SEED);
    }

    #[inline(always)]
    fn take(&mut self, index: u32, word: u64) {
        let half = if index & 1 == 0 { &mut self.even } else { &mut self.odd };
        half.set(mix(half.get(), word));
    }

    #[inline(always)]
    fn get(&self) -> u64 {
        together(self.even.get(), self.odd.get())
    }
}

impl Recording {
    /// Whether it is of a walk that started from the same.
    #[inline(always)]
    pub fn is_of(&self, key: &Key) -> bool {
        let mut difference = 0;
        for (index, word) in key.iter().enumerate() {
            difference |= self.key.get(index) ^ word;
        }
        difference == 0 && self.stack.get() != 0
    }

    /// The stack's id.
    #[inline(always)]
    pub fn stack(&self) -> u64 {
        self.stack.get()
    }

    /// How much of the stack above its start the walk looked at.
    #[inline(always)]
    pub fn reach_bytes(&self) -> u64 {
        self.reach_bytes.get().into()
    }

    /// Where the first words are that it is told by.
    #[inline(always)]
    pub fn beginning(&self) -> Beginning {
        Beginning(core::array::from_fn(|group| self.places.get(group)))
    }

    /// Nothing is to be recalled of it from here on.
    #[inline(always)]
    pub fn forget(&mut self) {
        self.stack.set(0);
    }

    /// Begins anew.
    #[inline(always)]
    pub fn begin(&mut self, key: &Key) {
        for (index, word) in key.iter().enumerate() {
            self.key.set(index, *word);
        }
        self.stack.set(0);
        self.lowest.set(u32::MAX);
        self.highest.set(0);
        self.uses_frame_pointer.set(0);
        self.draft.count.set(0);
        self.draft.spoiled.set(0);
        self.draft.check.begin();
    }

    /// The walk has led to this stack, and may be recalled if its notes are all here.
    #[inline(always)]
    pub fn finish(&mut self, stack: u64, reach_bytes: u64) {
        // Groups are looked at as a whole.
        for _ in 1..NOTES_A_GROUP {
            let count = self.draft.count.get();
            if count & (NOTES_A_GROUP - 1) != 0 {
                self.note(self.draft.address.get(), self.draft.value.get());
            }
        }
        self.groups.set((self.draft.count.get() / NOTES_A_GROUP) as u16);
        self.check
            .set(self.with_frame_pointer(self.draft.check.get(), self.draft.frame_pointer.get()));
        self.reach_bytes.set(reach_bytes as u32);
        if self.draft.spoiled.get() == 0 && reach_bytes <= u64::from(u32::MAX) {
            self.stack.set(stack);
        }
    }

    /// Where place 0 is.
    #[inline(always)]
    fn origin(&self) -> u64 {
        self.key.get(0).wrapping_sub(BELOW_BYTES)
    }

    #[inline(always)]
    fn note(&mut self, address: u64, value: u64) {
        let index = self.draft.count.get();
        let distance = address.wrapping_sub(self.origin());
        let place = distance >> 3;
        if index as usize >= MAX_NOTES || distance & 7 != 0 || place >> PLACE_BITS != 0 {
            return self.draft.spoiled.set(1);
        }
        let (group, shift) = ((index / NOTES_A_GROUP) as usize, index % NOTES_A_GROUP * PLACE_BITS);
        // The first of a group sweeps away what was there.
        let others = if shift == 0 { 0 } else { self.places.get(group) };
        self.places.set(group, others | place << shift);
        self.lowest.set(self.lowest.get().min(place as u32));
        self.highest.set(self.highest.get().max(place as u32));
        self.draft.check.take(index, value);
        self.draft.address.set(address);
        self.draft.value.set(value);
        self.draft.count.set(index + 1);
    }

    #[inline(always)]
    fn note_frame_pointer(&mut self, value: u64) {
        self.draft.frame_pointer.set(value);
        self.uses_frame_pointer.set(1);
    }

    #[inline(always)]
    fn with_frame_pointer(&self, check: u64, frame_pointer: u64) -> u64 {
        if self.uses_frame_pointer.get() == 0 { check } else { mix(check, frame_pointer) }
    }

    /// Whether the words that the walk depends on are what they were, for a walk that starts with this
    /// frame pointer; `None` where not all of them have been read. No loop of the kernel's: it costs as
    /// much as ten words.
    #[inline(always)]
    pub fn is_as_read(&self, stack: &Window, frame_pointer: u64) -> Option<bool> {
        let origin = self.origin();
        let at = |place: u32| origin.wrapping_add(8 * u64::from(place));
        if !stack.holds(at(self.lowest.get())) || !stack.holds(at(self.highest.get())) {
            return None;
        }
        let check = self.check_at_once(stack, stack.index_of(origin));
        Some(self.with_frame_pointer(check, frame_pointer) == self.check.get())
    }

    /// Of the words as they were read; `origin` is the index of place 0.
    #[inline(always)]
    fn check_at_once(&self, stack: &Window, origin: u64) -> u64 {
        let (mut even, mut odd) = (HASH_SEED, HASH_SEED);
        let groups = usize::from(self.groups.get());
        for group in 0..MAX_GROUPS {
            if group >= groups {
                break;
            }
            let places = self.places.get(group);
            even = mix(even, stack.at_index(origin.wrapping_add(places)));
            odd = mix(odd, stack.at_index(origin.wrapping_add(places >> PLACE_BITS)));
            even = mix(even, stack.at_index(origin.wrapping_add(places >> (2 * PLACE_BITS))));
            odd = mix(odd, stack.at_index(origin.wrapping_add(places >> (3 * PLACE_BITS))));
        }
        together(even, odd)
    }
}

impl Beginning {
    /// What is there for a walk with this key, of what was read. Words that were not may be anything.
    #[inline(always)]
    pub fn words(&self, key: &Key, stack: &Window) -> u64 {
        let origin = stack.index_of(key[0].wrapping_sub(BELOW_BYTES));
        let mut hash = HASH_SEED;
        for places in self.0 {
            for lane in 0..NOTES_A_GROUP {
                let place = places >> (lane * PLACE_BITS);
                hash = mix(hash, stack.at_index(origin.wrapping_add(place)));
            }
        }
        hash
    }
}

/// The hash of both halves. Not symmetric: words that are equal, as those that fill up a group, would
/// cancel each other out.
#[inline(always)]
fn together(even: u64, odd: u64) -> u64 {
    mix(mix(HASH_SEED, even), odd)
}

/// Memory that notes what of it a walk depends on.
pub struct Recorder<'a, M> {
    memory: &'a M,
    recording: *mut Recording,
}

impl<'a, M> Recorder<'a, M> {
    /// Notes what is used of `memory`.
    ///
    /// # Safety
    /// The recording is valid, and nobody else relies on it while the recorder is there.
    #[inline(always)]
    pub unsafe fn new(memory: &'a M, recording: *mut Recording) -> Self {
        Self { memory, recording }
    }
}

impl<M: ReadMemory> ReadMemory for Recorder<'_, M> {
    #[inline(always)]
    fn read_words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        self.memory.read_words::<N>(address)
    }

    #[inline(always)]
    fn read_part<const N: usize>(&self, address: u64, bytes: u32, window: &mut [u64; N]) -> bool {
        self.memory.read_part(address, bytes, window)
    }

    #[inline(always)]
    fn used(&self, address: u64, value: u64) {
        // SAFETY: by the contract of `new`; no reference to it outlives a call.
        unsafe { (*self.recording).note(address, value) };
    }

    #[inline(always)]
    fn used_frame_pointer(&self, value: u64) {
        // SAFETY: as above.
        unsafe { (*self.recording).note_frame_pointer(value) };
    }
}

/// What was learnt of the walks that start alike. Lives in map memory. Programs that learn at the same
/// time may lose what one of them has learnt.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Experience {
    further_frames: Opaque<u32>,
    /// Rises by walks that were not recalled, and falls by the others.
    doubt: Opaque<u32>,
    /// The places of words that tell walks apart; zeros for none.
    beginning: [Opaque<u64>; BEGINNING_GROUPS],
}

/// Native frames are walked by so many.
pub const FRAMES_TOGETHER: u32 = 2;
/// Native frames that are walked at most before a recording is looked for.
const MOST_FRAMES: u32 = 10;
/// One walk in as many may look through recordings in vain.
const DOUBT_BY_DIFFERENCE: u32 = 32;
const _: () = assert!(MOST_FRAMES.is_multiple_of(FRAMES_TOGETHER));
const MOST_DOUBT: u32 = 8 * DOUBT_BY_DIFFERENCE;
/// The same where walks are told apart by words: each of those has a first time.
const MOST_DOUBT_OF_WORDS: u32 = 4 * MOST_DOUBT;

impl Experience {
    /// How many native frames to walk before a recording is looked for: so many that the calls that
    /// one line of Python makes are told apart by them. Mostly none: a frame costs two cache lines.
    #[inline(always)]
    pub fn further_frames(&self) -> u32 {
        self.further_frames.get().min(MOST_FRAMES)
    }

    /// The words that belong to the key, if there are any.
    #[inline(always)]
    pub fn beginning(&self) -> Option<Beginning> {
        let first = self.beginning[0].get();
        (first != 0).then(|| Beginning([first, self.beginning[1].get()]))
    }

    /// Learns that a walk was recalled.
    #[inline(always)]
    pub fn learn_of_recalled(&mut self) {
        let doubt = self.doubt.get();
        // Not a write that changes nothing: the cache line is shared with other CPUs.
        if doubt != 0 {
            self.doubt.set(doubt - 1);
        }
    }

    /// Learns that recordings were looked through in vain, of which one has this beginning.
    #[inline(always)]
    pub fn learn_of_others(&mut self, other: Beginning) {
        if self.beginning[0].get() != 0 {
            return self.learn_of_nothing();
        }
        if self.is_sure(MOST_DOUBT) {
            return;
        }
        if self.further_frames.get() == 0 {
            self.set_beginning(other);
        } else {
            self.walk_further();
        }
    }

    /// Learns that there was nothing to be recalled. If it is so time and again, words that are part of
    /// the key are not the right ones for all walks.
    #[inline(always)]
    pub fn learn_of_nothing(&mut self) {
        if self.beginning[0].get() != 0 && !self.is_sure(MOST_DOUBT_OF_WORDS) {
            self.set_beginning(Beginning::default());
            self.walk_further();
        }
    }

    /// Doubts more. `false` when it is too much, and there is none again.
    #[inline(always)]
    fn is_sure(&mut self, most_doubt: u32) -> bool {
        let doubt = self.doubt.get();
        let is_sure = doubt < most_doubt;
        self.doubt.set(if is_sure { doubt + DOUBT_BY_DIFFERENCE } else { 0 });
        is_sure
    }

    #[inline(always)]
    fn walk_further(&mut self) {
        let more = self.further_frames.get() + FRAMES_TOGETHER;
        self.further_frames.set(more.min(MOST_FRAMES));
    }

    #[inline(always)]
    fn set_beginning(&mut self, Beginning(groups): Beginning) {
        self.beginning[0].set(groups[0]);
        self.beginning[1].set(groups[1]);
    }
}

/// A recording that is looked through where its words have to be read. Lives in map memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Replay {
    check: Check,
    /// The next group.
    next: Opaque<u32>,
    /// 1 when a word could not be read.
    failed: Opaque<u32>,
}

impl Replay {
    /// Begins; `false` when it is over already.
    #[inline(always)]
    pub fn start(&mut self, recording: &Recording) -> bool {
        self.check.begin();
        self.next.set(0);
        self.failed.set(0);
        recording.groups.get() != 0
    }

    /// Looks at some notes; `false` when it is over. Call it at most [`MAX_REPLAY_STEPS`] times.
    #[inline(always)]
    pub fn step<M: ReadMemory>(
        &mut self,
        memory: &M,
        recording: &Recording,
        stack: &mut Window,
    ) -> bool {
        let first = self.next.get();
        self.next.set(first + GROUPS_A_STEP);
        for group in first..first + GROUPS_A_STEP {
            if group < recording.groups.get().into() && !self.take(memory, recording, stack, group)
            {
                self.failed.set(1);
                return false;
            }
        }
        first + GROUPS_A_STEP < recording.groups.get().into()
    }

    #[inline(always)]
    fn take<M: ReadMemory>(
        &mut self,
        memory: &M,
        recording: &Recording,
        stack: &mut Window,
        group: u32,
    ) -> bool {
        let places = recording.places.get(group as usize);
        for index in 0..NOTES_A_GROUP {
            let place = places >> (index * PLACE_BITS) & ((1 << PLACE_BITS) - 1);
            let Some(word) = stack.word(memory, recording.origin().wrapping_add(8 * place)) else {
                return false;
            };
            self.check.take(index, word);
        }
        true
    }

    /// Whether everything was as it had been, for a walk that starts with this frame pointer.
    #[inline(always)]
    pub fn is_equal(&self, recording: &Recording, frame_pointer: u64) -> bool {
        let check = recording.with_frame_pointer(self.check.get(), frame_pointer);
        self.failed.get() == 0 && check == recording.check.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: Beginning = Beginning([7, 8]);

    fn experience_after(outcomes: impl Iterator<Item = bool>) -> Experience {
        let mut experience = Experience::default();
        for is_recalled in outcomes {
            if is_recalled {
                experience.learn_of_recalled();
            } else {
                experience.learn_of_others(OTHER);
            }
        }
        experience
    }

    #[test]
    fn words_and_then_frames_are_used_only_while_many_walks_are_not_recalled() {
        let after = |outcomes: &mut dyn Iterator<Item = bool>| {
            let experience = experience_after(outcomes);
            (experience.beginning(), experience.further_frames())
        };
        let every = |count: usize| (0..100_000).map(move |index| index % count != 0);
        let never = |count: usize| std::iter::repeat_n(false, count);
        assert_eq!(after(&mut [].into_iter()), (None, 0));
        assert_eq!(after(&mut every(40)), (None, 0));
        assert_eq!(after(&mut every(20)), (None, MOST_FRAMES));
        assert_eq!(after(&mut never(8)), (None, 0));
        assert_eq!(after(&mut never(9)), (Some(OTHER), 0));
        assert_eq!(after(&mut never(9).chain(every(40))), (Some(OTHER), 0));
        assert_eq!(after(&mut never(9 + 33)), (None, FRAMES_TOGETHER));
        assert_eq!(after(&mut never(1000)), (None, MOST_FRAMES));
    }

    #[test]
    fn that_nothing_was_recorded_says_something_only_of_words() {
        let mut experience = Experience::default();
        (0..1000).for_each(|_| experience.learn_of_nothing());
        assert_eq!((experience.beginning(), experience.further_frames()), (None, 0));
        (0..9).for_each(|_| experience.learn_of_others(OTHER));
        assert_eq!(experience.beginning(), Some(OTHER));
        (0..33).for_each(|_| experience.learn_of_nothing());
        assert_eq!((experience.beginning(), experience.further_frames()), (None, FRAMES_TOGETHER));
    }
}
