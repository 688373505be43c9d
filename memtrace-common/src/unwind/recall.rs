//! Stacks that were walked before: a walk depends on nothing but the registers it starts from, the
//! unwind tables and the words of memory that it looks at. When all of these are what they were, so
//! is the stack, and to look at the words again is much cheaper than to walk: no search, no rules,
//! no hashing.
//!
//! A [`Recorder`] notes the words of a walk in a [`Recording`]; a [`Replay`] looks at them again.

use super::window::{Direction, WINDOW_WORDS, Window};
use crate::{
    memory::ReadMemory,
    opaque::{Opaque, OpaqueWords},
};

/// The most words that one walk may depend on. A walk with more is not kept.
pub const MAX_NOTES: usize = 256;
/// Words of a key.
pub const KEY_WORDS: usize = 8;
/// How many times [`Replay::step`] is to be called at most.
pub const MAX_REPLAY_STEPS: usize = MAX_NOTES;

/// What a note is about, in the topmost bits of its first word; the address is below.
const KIND_SHIFT: u32 = 61;
/// A word of the window that looks up.
const WORD_UP: u64 = 0;
/// A word of the window that looks down.
const WORD_DOWN: u64 = 1;
/// A byte of it.
const BYTE_DOWN: u64 = 2;
/// A word that lies anywhere.
const WORD: u64 = 3;
/// The frame pointer at the walk's start.
const FRAME_POINTER: u64 = 4;

/// What a walk starts from, besides memory: equal keys and equal memory give equal stacks. A key of
/// zeros is none.
pub type Key = [u64; KEY_WORDS];

/// A walk's notes and its outcome.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Recording {
    key: OpaqueWords<KEY_WORDS>,
    /// The stack's id; 0 while there is none.
    stack: Opaque<u64>,
    count: Opaque<u32>,
    /// 1 when the walk cannot be recalled.
    spoiled: Opaque<u32>,
    first: OpaqueWords<MAX_NOTES>,
    second: OpaqueWords<MAX_NOTES>,
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

    /// Begins anew.
    #[inline(always)]
    pub fn begin(&mut self, key: &Key) {
        for (index, word) in key.iter().enumerate() {
            self.key.set(index, *word);
        }
        self.stack.set(0);
        self.count.set(0);
        self.spoiled.set(0);
    }

    /// The walk has led to this stack, and may be recalled if its notes are all here.
    #[inline(always)]
    pub fn finish(&mut self, stack: u64) {
        if self.spoiled.get() == 0 {
            self.stack.set(stack);
        }
    }

    #[inline(always)]
    fn note(&mut self, kind: u64, address: u64, value: u64) {
        let index = self.count.get();
        if index as usize >= MAX_NOTES || address >> KIND_SHIFT != 0 {
            return self.spoiled.set(1);
        }
        self.first.set(index as usize, kind << KIND_SHIFT | address);
        self.second.set(index as usize, value);
        self.count.set(index + 1);
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

    #[inline(always)]
    fn note(&self, kind: u64, address: u64, value: u64) {
        // SAFETY: by the contract of `new`; no reference to it outlives a call.
        unsafe { (*self.recording).note(kind, address, value) };
    }
}

impl<M: ReadMemory> ReadMemory for Recorder<'_, M> {
    #[inline(always)]
    fn read_words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        let words = self.memory.read_words::<N>(address)?;
        for (index, word) in words.iter().enumerate() {
            self.note(WORD, address.wrapping_add(8 * index as u64), *word);
        }
        Some(words)
    }

    #[inline(always)]
    fn read_part(&self, address: u64, bytes: u32, window: &mut [u64; WINDOW_WORDS]) -> bool {
        self.memory.read_part(address, bytes, window)
    }

    #[inline(always)]
    fn used(&self, direction: Direction, address: u64, value: u64) {
        let kind = if direction == Direction::Up { WORD_UP } else { WORD_DOWN };
        self.note(kind, address, value);
    }

    #[inline(always)]
    fn used_byte(&self, address: u64, value: u64) {
        self.note(BYTE_DOWN, address, value);
    }

    #[inline(always)]
    fn used_frame_pointer(&self, value: u64) {
        self.note(FRAME_POINTER, 0, value);
    }
}

/// A recording that is looked through.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Replay {
    next: Opaque<u32>,
    differs: Opaque<u32>,
    frame_pointer: Opaque<u64>,
}

impl Replay {
    /// Begins, for a walk with this frame pointer.
    #[inline(always)]
    pub fn start(&mut self, frame_pointer: u64) {
        self.frame_pointer.set(frame_pointer);
        self.next.set(0);
        self.differs.set(0);
    }

    /// Looks at a note; `false` when it is over. Call it at most [`MAX_REPLAY_STEPS`] times.
    #[inline(always)]
    pub fn step<M: ReadMemory>(
        &mut self,
        memory: &M,
        recording: &Recording,
        up: &mut Window,
        down: &mut Window,
    ) -> bool {
        let index = self.next.get();
        if index >= recording.count.get() {
            return false;
        }
        self.next.set(index + 1);
        let (first, value) =
            (recording.first.get(index as usize), recording.second.get(index as usize));
        let is_equal = self.present(memory, first, up, down) == Some(value);
        if !is_equal {
            self.differs.set(1);
        }
        is_equal
    }

    /// Whether everything was as it had been.
    #[inline(always)]
    pub fn is_equal(&self) -> bool {
        self.differs.get() == 0
    }

    /// What a note is about, as it is now.
    #[inline(always)]
    fn present<M: ReadMemory>(
        &self,
        memory: &M,
        first: u64,
        up: &mut Window,
        down: &mut Window,
    ) -> Option<u64> {
        let kind = first >> KIND_SHIFT;
        let address = first & ((1 << KIND_SHIFT) - 1);
        if kind == WORD_UP {
            return up.word(memory, address, Direction::Up);
        }
        if kind == WORD_DOWN {
            return down.word(memory, address, Direction::Down);
        }
        if kind == BYTE_DOWN {
            let word = down.word(memory, address & !7, Direction::Down)?;
            return Some(word >> ((address & 7) * 8) & 0xff);
        }
        if kind == FRAME_POINTER {
            return Some(self.frame_pointer.get());
        }
        memory.read_word(address)
    }
}
