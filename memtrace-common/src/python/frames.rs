//! Frames as they are read: one read for those that lie close together, as the frames of functions
//! do in 3.11 and later, whose stack grows up; one small read for a frame that lies alone, as those
//! of generators and coroutines and all before 3.11 do.

use super::{FramePart, MAX_FRAME_BYTES};
use crate::{
    landing,
    memory::ReadMemory,
    opaque::{Opaque, OpaqueWords},
};

/// Words of all that is kept: a power of two.
const WORDS: usize = 512;
/// The most words of frames that lie together.
const TOGETHER_WORDS: usize = 240;
/// Those of a frame that lies alone come last.
const ALONE_WORDS: usize = MAX_FRAME_BYTES as usize / 8;
const ALONE_START: usize = TOGETHER_WORDS + landing::SHIFT;
const TOGETHER_BYTES: u64 = TOGETHER_WORDS as u64 * 8;
/// Of the smallest pages.
const PAGE_SIZE: u64 = 4096;
/// A part of a frame that is not longer is read by the program's stack: the kernel checks memory of
/// other kinds for longer than it takes to copy so little. It is as much as 3.11 needs.
const SHORT_WORDS: usize = 5;
/// The stack of functions' frames begins with the outermost one and is so large at first
/// (`DATA_STACK_CHUNK_SIZE` in CPython's Python/pystate.c).
const FRAME_STACK_BYTES: u64 = 16 * 1024;

/// What was read of the frames, and where the frame is that is being looked at. Lives in map memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Frames {
    /// Of the frames that lie together.
    start: Opaque<u64>,
    /// How far from there a frame may begin.
    bytes: Opaque<u64>,
    /// What leads from an address to the byte of `words` that was read from there, and room for the
    /// address of where the first would be.
    shift: Opaque<u64>,
    landing: Opaque<u64>,
    /// The frame that was looked at last; 0 when none was.
    last: Opaque<u64>,
    /// The page of the frame that the walk before ended with: the start of the stack of functions'
    /// frames.
    home: Opaque<u64>,
    /// Of the frame that was read last.
    first: Opaque<u64>,
    words: OpaqueWords<WORDS>,
}

/// Where a frame is in what was read: at which byte. Not kept in memory: each step would wait for it
/// there.
#[derive(Clone, Copy, Debug)]
pub struct FirstByte(u64);

impl Frames {
    /// Forgets what was read, for another walk.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.bytes.set(0);
        let outermost = self.last.get();
        if outermost != 0 {
            self.home.set(outermost & !(PAGE_SIZE - 1));
        }
        self.last.set(0);
    }

    /// Which word is the first of the frame at an address; `None` when it cannot be read.
    #[inline(always)]
    pub fn go<M: ReadMemory>(
        &mut self,
        memory: &M,
        frame: u64,
        part: FramePart,
    ) -> Option<FirstByte> {
        if let Some(first) = self.find(frame) {
            return Some(first);
        }
        self.fetch(memory, frame, part.start, part.end).then(|| FirstByte(self.first.get()))
    }

    /// The same for a frame that was read together with others.
    #[inline(always)]
    pub fn find(&mut self, frame: u64) -> Option<FirstByte> {
        let distance = frame.wrapping_sub(self.start.get());
        if distance >= self.bytes.get() || frame & 7 != 0 {
            return None;
        }
        self.last.set(frame);
        Some(FirstByte(frame.wrapping_add(self.shift.get())))
    }

    /// The word at this offset of a frame.
    #[inline(always)]
    pub fn word(&self, first: FirstByte, offset: u32) -> u64 {
        self.words.at_byte(first.0.wrapping_add(u64::from(offset)))
    }

    #[inline(always)]
    fn fetch<M: ReadMemory>(&mut self, memory: &M, frame: u64, start: u32, end: u32) -> bool {
        if frame & 7 != 0 {
            return false;
        }
        let last = self.last.get();
        self.last.set(frame);
        let home = self.home.get();
        // Others lie alone, as that of a coroutine, which may be the innermost.
        let is_near = home == 0 && last == 0
            || frame.wrapping_sub(home) < FRAME_STACK_BYTES
            || last.wrapping_sub(frame) < TOGETHER_BYTES;
        is_near && self.fetch_together(memory, frame, u64::from(end))
            || end.wrapping_sub(start) <= 8 * SHORT_WORDS as u32
                && self.fetch_short(memory, frame, start)
            || self.fetch_alone(memory, frame, end)
    }

    /// Reads the frame and what is below it, down to the start of the page: what is further may not
    /// be there, and a read that fails costs as much as ten.
    #[inline(always)]
    fn fetch_together<M: ReadMemory>(&mut self, memory: &M, frame: u64, frame_bytes: u64) -> bool {
        let page = frame & !(PAGE_SIZE - 1);
        let end = frame.wrapping_add(frame_bytes);
        let start = end.wrapping_sub(TOGETHER_BYTES).max(page);
        let bytes = end.wrapping_sub(start).min(TOGETHER_BYTES);
        self.start.set(start);
        // The last frame begins where this one does.
        self.bytes.set(frame.wrapping_sub(start).wrapping_add(1));
        let (words, together) = self.words.part_mut::<0, TOGETHER_WORDS>(start, &mut self.landing);
        let shift = (8 * together as u64).wrapping_sub(start);
        self.shift.set(shift);
        self.first.set(frame.wrapping_add(shift));
        let is_read = memory.read_part(start, bytes as u32, words);
        if !is_read {
            self.bytes.set(0);
        }
        is_read
    }

    #[inline(always)]
    fn fetch_short<M: ReadMemory>(&mut self, memory: &M, frame: u64, start: u32) -> bool {
        let address = frame.wrapping_add(u64::from(start));
        let Some(words) = memory.read_words::<SHORT_WORDS>(address) else { return false };
        self.first.set(8 * ALONE_START as u64);
        let first = ALONE_START + (start >> 3) as usize;
        for (index, word) in words.into_iter().enumerate() {
            self.words.set(first + index, word);
        }
        true
    }

    #[inline(always)]
    fn fetch_alone<M: ReadMemory>(&mut self, memory: &M, frame: u64, frame_bytes: u32) -> bool {
        let (words, first) =
            self.words.part_mut::<ALONE_START, ALONE_WORDS>(frame, &mut self.landing);
        self.first.set(8 * first as u64);
        memory.read_part(frame, frame_bytes, words)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Three pages whose words are their addresses, and what was read of them.
    #[derive(Default)]
    struct Pages(RefCell<Vec<(u64, u32)>>);

    const FIRST: u64 = 0x10_0000;
    const END: u64 = FIRST + 3 * PAGE_SIZE;
    const FRAME_BYTES: u32 = 80;

    impl ReadMemory for Pages {
        fn read_words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
            let end = address.checked_add(8 * N as u64)?;
            (address >= FIRST && end <= END)
                .then(|| core::array::from_fn(|index| address + 8 * index as u64))
        }

        fn read_part<const N: usize>(&self, from: u64, bytes: u32, window: &mut [u64; N]) -> bool {
            self.0.borrow_mut().push((from, bytes));
            let Some(end) = from.checked_add(u64::from(bytes)) else { return false };
            assert!(bytes as usize <= 8 * N);
            let words = window.iter_mut().zip((from..end).step_by(8));
            words.for_each(|(word, address)| *word = address);
            from >= FIRST && end <= END
        }
    }

    fn is_there(frames: &mut Frames, memory: &Pages, frame: u64) -> bool {
        let part = FramePart { start: 0, end: FRAME_BYTES };
        let Some(first) = frames.go(memory, frame, part) else { return false };
        for offset in (0..FRAME_BYTES).step_by(8) {
            assert_eq!(frames.word(first, offset), frame + u64::from(offset), "{frame:#x}");
        }
        true
    }

    #[test]
    fn every_frame_that_is_there_is_found_in_any_order() {
        let last = END - u64::from(FRAME_BYTES);
        let up = (FIRST..=last).step_by(40);
        let down = (FIRST..=last).rev().step_by(200).map(|frame| frame & !7);
        let (memory, mut frames) = (Pages::default(), Frames::default());
        for frame in down.chain(up) {
            assert!(is_there(&mut frames, &memory, frame), "{frame:#x}");
        }
        for frame in [FIRST - 8, last + 8, FIRST + 4, 0, END, u64::MAX - 7] {
            assert!(!is_there(&mut frames, &memory, frame), "{frame:#x}");
        }
    }

    /// As a coroutine that a function runs: its frame is in the heap, those around on a stack.
    #[test]
    fn frames_between_which_others_lie_alone_are_read_once() {
        let (memory, mut frames) = (Pages::default(), Frames::default());
        let (function, coroutine) = (FIRST + 0xc00, FIRST + 0x2800);
        for frame in [function, coroutine, coroutine + 0x300, function - 0x80, function - 0x400] {
            assert!(is_there(&mut frames, &memory, frame));
        }
        let reads: Vec<u32> = memory.0.borrow().iter().map(|(_, bytes)| *bytes).collect();
        assert_eq!(reads, [TOGETHER_BYTES as u32, FRAME_BYTES, FRAME_BYTES]);
    }

    /// As a task of asyncio: the innermost frame is that of a coroutine.
    #[test]
    fn frames_below_a_coroutine_are_known_by_the_walk_before() {
        let (memory, mut frames) = (Pages::default(), Frames::default());
        let (coroutine, stack) = (FIRST + 0x100, FIRST + 0x2000);
        for _ in 0..2 {
            frames.clear();
            memory.0.borrow_mut().clear();
            for frame in [coroutine, stack + 0x400, stack + 0x200, stack + 0x18] {
                assert!(is_there(&mut frames, &memory, frame));
            }
        }
        let together = (stack, 0x400 + FRAME_BYTES);
        assert_eq!(*memory.0.borrow(), [(coroutine, FRAME_BYTES), together]);
    }

    #[test]
    fn frames_across_pages_are_read_with_those_below() {
        let (memory, mut frames) = (Pages::default(), Frames::default());
        let frame = FIRST + PAGE_SIZE - 8;
        for frame in [frame, frame - 96, frame - 960] {
            assert!(is_there(&mut frames, &memory, frame));
        }
        assert_eq!(memory.0.borrow().len(), 1);
    }

    /// As of a coroutine: what is before the part that matters may be anything, even not there.
    #[test]
    fn of_a_frame_that_lies_alone_only_a_short_part_is_read() {
        let (memory, mut frames) = (Pages::default(), Frames::default());
        assert!(is_there(&mut frames, &memory, FIRST + 0x2000), "a function's");
        memory.0.borrow_mut().clear();
        let (frame, part) = (FIRST - 16, FramePart { start: 16, end: 56 });
        let first = frames.go(&memory, frame, part).unwrap();
        for offset in (part.start..part.end).step_by(8) {
            assert_eq!(frames.word(first, offset), frame + u64::from(offset));
        }
        assert!(memory.0.borrow().is_empty(), "no read into the place of long ones");
        assert!(frames.go(&memory, frame, FramePart { end: 64, ..part }).is_none());
    }

    #[test]
    fn cleared_frames_are_read_again() {
        let (memory, mut frames) = (Pages::default(), Frames::default());
        assert!((0..2).all(|_| is_there(&mut frames, &memory, FIRST)));
        assert_eq!(memory.0.borrow().len(), 1);
        frames.clear();
        assert!(is_there(&mut frames, &memory, FIRST));
        assert_eq!(memory.0.borrow().len(), 2);
    }
}
