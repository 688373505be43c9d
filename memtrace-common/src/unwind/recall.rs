//! Stacks that were walked before: the walk of the native frames depends on nothing but where it is,
//! the frame pointer it started from, the unwind tables, Python's frames and the words of the stack
//! that it looks at. When all of these are what they were, so is the stack, and to look at the
//! words again is much cheaper than to walk: no search, no rules, no hashing.
//!
//! Python's frames are walked each time: those of coroutines lie elsewhere in each call, although
//! they are the same. So are the innermost native frames where, as [`Experience`] has shown, it takes
//! them to tell the calls apart that one line of Python makes.
//!
//! A [`Recorder`] notes the words of a walk in a [`Recording`]; a [`Replay`] looks at them again.

use super::window::Window;
use crate::{
    memory::ReadMemory,
    opaque::{Opaque, OpaqueWords},
};

/// The most words that one walk may depend on. A walk with more is not kept.
pub const MAX_NOTES: usize = 128;
/// Words of a key.
pub const KEY_WORDS: usize = 8;
/// Words that [`Replay::step`] looks at.
const NOTES_A_STEP: u32 = 8;
/// How many times [`Replay::step`] is to be called at most.
pub const MAX_REPLAY_STEPS: usize = MAX_NOTES / NOTES_A_STEP as usize;

/// Where a walk is, without the stack and the frame pointer: equal keys and equal memory give equal
/// stacks. A key of zeros is none.
pub type Key = [u64; KEY_WORDS];

/// A walk's notes and its outcome. Lives in map memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Recording {
    key: OpaqueWords<KEY_WORDS>,
    /// The stack's id; 0 while there is none.
    stack: Opaque<u64>,
    /// How much of the stack the walk looked at.
    reach_bytes: Opaque<u64>,
    /// The frame pointer that the walk started with, if it depends on it.
    frame_pointer: Opaque<u64>,
    uses_frame_pointer: Opaque<u32>,
    count: Opaque<u32>,
    /// 1 when the walk cannot be recalled.
    spoiled: Opaque<u64>,
    /// An address and its word, one after the other: they are looked at together.
    notes: OpaqueWords<{ 2 * MAX_NOTES }>,
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
        self.reach_bytes.get()
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
        self.count.set(0);
        self.spoiled.set(0);
        self.uses_frame_pointer.set(0);
    }

    /// The walk has led to this stack, and may be recalled if its notes are all here.
    #[inline(always)]
    pub fn finish(&mut self, stack: u64, reach_bytes: u64) {
        // Steps look at full numbers of notes.
        let last = self.count.get().saturating_sub(1) as usize;
        for _ in 1..NOTES_A_STEP {
            if self.count.get() & (NOTES_A_STEP - 1) != 0 {
                let (address, value) = self.noted(last);
                self.note(address, value);
            }
        }
        self.reach_bytes.set(reach_bytes);
        if self.spoiled.get() == 0 {
            self.stack.set(stack);
        }
    }

    #[inline(always)]
    fn note(&mut self, address: u64, value: u64) {
        let index = self.count.get();
        if index as usize >= MAX_NOTES {
            return self.spoiled.set(1);
        }
        self.notes.set(2 * index as usize, address);
        self.notes.set(2 * index as usize + 1, value);
        self.count.set(index + 1);
    }

    #[inline(always)]
    fn noted(&self, index: usize) -> (u64, u64) {
        (self.notes.get(2 * index), self.notes.get(2 * index + 1))
    }

    #[inline(always)]
    fn note_frame_pointer(&mut self, value: u64) {
        self.frame_pointer.set(value);
        self.uses_frame_pointer.set(1);
    }

    #[inline(always)]
    fn depends_on_another(&self, frame_pointer: u64) -> bool {
        self.uses_frame_pointer.get() != 0 && self.frame_pointer.get() != frame_pointer
    }
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
    /// Rises by walks whose recordings were all looked through in vain, and falls by the others.
    doubt: Opaque<u32>,
}

/// Native frames that are walked at most before a recording is looked for.
const MOST_FRAMES: u32 = 10;
/// One walk in as many may look through recordings in vain.
const DOUBT_BY_DIFFERENCE: u32 = 32;
const MOST_DOUBT: u32 = 8 * DOUBT_BY_DIFFERENCE;

impl Experience {
    /// How many native frames to walk before a recording is looked for: so many that the calls that
    /// one line of Python makes are told apart by them. Mostly none: a frame costs two cache lines.
    #[inline(always)]
    pub fn further_frames(&self) -> u32 {
        self.further_frames.get().min(MOST_FRAMES)
    }

    /// Learns from recordings that were looked through.
    #[inline(always)]
    pub fn learn(&mut self, is_recalled: bool) {
        let doubt = self.doubt.get();
        if is_recalled {
            // Not a write that changes nothing: the cache line is shared with other CPUs.
            if doubt != 0 {
                self.doubt.set(doubt - 1);
            }
        } else if doubt < MOST_DOUBT {
            self.doubt.set(doubt + DOUBT_BY_DIFFERENCE);
        } else {
            self.doubt.set(0);
            self.further_frames.set((self.further_frames.get() + 1).min(MOST_FRAMES));
        }
    }
}

/// A recording that is looked through. Lives in map memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Replay {
    /// Not 0 when something was not as it had been.
    differs: Opaque<u64>,
    next: Opaque<u32>,
}

impl Replay {
    /// Begins, for a walk with this frame pointer; `false` when it is over already.
    #[inline(always)]
    pub fn start(&mut self, recording: &Recording, frame_pointer: u64) -> bool {
        let differs = recording.depends_on_another(frame_pointer);
        self.next.set(0);
        self.differs.set(u64::from(differs));
        !differs && recording.count.get() != 0
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
        self.next.set(first + NOTES_A_STEP);
        let notes = recording.notes.block::<{ 2 * NOTES_A_STEP as usize }>(2 * first as usize);
        for index in 0..NOTES_A_STEP as usize {
            let (address, value) = (notes.get(2 * index), notes.get(2 * index + 1));
            let Some(present) = stack.word(memory, address) else {
                self.differs.set(1);
                return false;
            };
            // Not in a variable: the compiler would keep all words for the end, and there are kernels
            // (6.1) on which the stack of the program has no room for them.
            self.differs.set(self.differs.get() | (present ^ value));
        }
        self.is_equal() && first + NOTES_A_STEP < recording.count.get()
    }

    /// Whether everything was as it had been.
    #[inline(always)]
    pub fn is_equal(&self) -> bool {
        self.differs.get() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames_after(outcomes: impl Iterator<Item = bool>) -> u32 {
        let mut experience = Experience::default();
        outcomes.for_each(|is_recalled| experience.learn(is_recalled));
        experience.further_frames()
    }

    #[test]
    fn more_frames_are_walked_only_while_many_recordings_are_looked_through_in_vain() {
        assert_eq!(frames_after([].into_iter()), 0);
        let every = |count: usize| (0..100_000).map(move |index| index % count != 0);
        assert_eq!(frames_after(every(40)), 0);
        assert_eq!(frames_after(every(20)), MOST_FRAMES);
        assert_eq!(frames_after(std::iter::repeat_n(false, 1000)), MOST_FRAMES);
        assert_eq!(frames_after(std::iter::repeat_n(false, 9)), 1);
    }
}
