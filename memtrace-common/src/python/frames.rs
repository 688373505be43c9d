//! Frames as they are read: one read for those that lie close together, as the frames of functions
//! do in 3.11 and later, whose stack grows up; one small read for a frame that lies alone, as those
//! of generators and coroutines and all before 3.11 do.

use super::MAX_FRAME_BYTES;
use crate::{
    memory::ReadMemory,
    opaque::{Opaque, OpaqueWords},
};

/// Words of all that is kept: a power of two.
const WORDS: usize = 256;
/// Those of a frame that lies alone come last.
const ALONE_WORDS: usize = MAX_FRAME_BYTES as usize / 8;
const TOGETHER_WORDS: usize = WORDS - ALONE_WORDS;
const TOGETHER_BYTES: u64 = TOGETHER_WORDS as u64 * 8;
/// Of the smallest pages.
const PAGE_SIZE: u64 = 4096;

/// What was read of the frames, and where the frame is that is being looked at. Lives in map memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Frames {
    /// Of the frames that lie together.
    start: Opaque<u64>,
    /// How far from there a frame may begin.
    bytes: Opaque<u64>,
    /// The frame that was looked at last; 0 when none was.
    last: Opaque<u64>,
    /// The first word of the frame that is looked at.
    first: Opaque<u64>,
    words: OpaqueWords<WORDS>,
}

impl Frames {
    /// Forgets what was read.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.bytes.set(0);
        self.last.set(0);
    }

    /// Goes to the frame at an address; `false` when it cannot be read.
    #[inline(always)]
    pub fn go<M: ReadMemory>(&mut self, memory: &M, frame: u64, frame_bytes: u32) -> bool {
        let distance = frame.wrapping_sub(self.start.get());
        self.first.set(distance >> 3);
        let is_there = distance < self.bytes.get() && frame & 7 == 0;
        is_there && self.last_is(frame) || self.fetch(memory, frame, frame_bytes)
    }

    /// The word at this offset of the frame.
    #[inline(always)]
    pub fn word(&self, offset: u32) -> u64 {
        self.words.get((self.first.get() as usize).wrapping_add(offset as usize >> 3))
    }

    #[inline(always)]
    fn last_is(&mut self, frame: u64) -> bool {
        self.last.set(frame);
        true
    }

    #[inline(never)]
    fn fetch<M: ReadMemory>(&mut self, memory: &M, frame: u64, frame_bytes: u32) -> bool {
        if frame & 7 != 0 {
            return false;
        }
        let last = self.last.get();
        self.last.set(frame);
        let is_near = last == 0 || last.wrapping_sub(frame) < TOGETHER_BYTES;
        let frame_bytes = frame_bytes.min(MAX_FRAME_BYTES) & !7;
        is_near && self.fetch_together(memory, frame, u64::from(frame_bytes))
            || self.fetch_alone(memory, frame, frame_bytes)
    }

    /// Reads the frame and what is below it, down to the start of the page: what is further may not
    /// be there.
    #[inline(always)]
    fn fetch_together<M: ReadMemory>(&mut self, memory: &M, frame: u64, frame_bytes: u64) -> bool {
        let page = frame & !(PAGE_SIZE - 1);
        let end = frame.wrapping_add(frame_bytes);
        if end.wrapping_sub(page) > PAGE_SIZE {
            return false;
        }
        let start = end.wrapping_sub(TOGETHER_BYTES).max(page);
        let bytes = end.wrapping_sub(start).min(TOGETHER_BYTES);
        self.start.set(start);
        self.first.set(frame.wrapping_sub(start) >> 3);
        // The last frame begins where this one does.
        self.bytes.set(frame.wrapping_sub(start).wrapping_add(1));
        let is_read =
            memory.read_part(start, bytes as u32, self.words.first_mut::<TOGETHER_WORDS>());
        if !is_read {
            self.bytes.set(0);
        }
        is_read
    }

    #[inline(always)]
    fn fetch_alone<M: ReadMemory>(&mut self, memory: &M, frame: u64, frame_bytes: u32) -> bool {
        self.first.set(TOGETHER_WORDS as u64);
        memory.read_part(frame, frame_bytes, self.words.last_mut::<ALONE_WORDS>())
    }
}
