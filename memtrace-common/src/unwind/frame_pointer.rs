//! The frame-pointer walk: cheap, and complete only where every function keeps `rbp`.

use super::{FrameSink, Registers};
use crate::{
    memory::ReadMemory,
    opaque::Opaque,
    wire::{MAX_FRAMES, StackEnd},
};

/// A frame larger than this is taken for garbage in `rbp`: functions without frame pointers use
/// it as a general register.
const MAX_FRAME_BYTES: u64 = 1 << 20;

/// Where a walk is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Position {
    lower: Opaque<u64>,
    sp: Opaque<u64>,
    bp: Opaque<u64>,
}

impl Position {
    /// Starts at the entry of a function, before its prologue: `caller` is the word at `[sp]`, `bp`
    /// still belongs to the caller.
    #[inline(always)]
    pub fn start<S: FrameSink>(&mut self, registers: Registers, caller: u64, sink: &mut S) {
        sink.push(caller);
        self.lower.set(registers.sp);
        self.sp.set(registers.sp.wrapping_add(8));
        self.bp.set(registers.bp);
    }

    /// Takes a frame, or says why there is none. Call it less often than [`MAX_FRAMES`] times.
    #[inline(always)]
    pub fn step<M: ReadMemory, S: FrameSink>(
        &mut self,
        memory: &M,
        sink: &mut S,
    ) -> Result<(), StackEnd> {
        let (bp, lower) = (self.bp.get(), self.lower.get());
        if bp == 0 {
            return Err(StackEnd::Root);
        }
        if bp & 7 != 0 || bp <= lower || bp - lower > MAX_FRAME_BYTES {
            return Err(StackEnd::NoFramePointer);
        }
        let Some([next_bp, return_address]) = memory.read_words::<2>(bp) else {
            return Err(StackEnd::Unreadable);
        };
        if return_address == 0 {
            return Err(StackEnd::Root);
        }
        sink.place(self.sp.get(), bp + 16);
        if !sink.push(return_address) {
            return Err(StackEnd::Truncated);
        }
        self.lower.set(bp);
        self.sp.set(bp + 16);
        self.bp.set(next_bp);
        Ok(())
    }
}

/// Walks from the entry of a function, before its prologue; see [`Position::start`].
///
/// The caller is right whatever the code was compiled with; the frames above it are right while
/// every function on the way keeps a frame pointer, and the walk stops where the chain leaves the
/// stack.
#[inline(always)]
pub fn walk_from_entry<M: ReadMemory, S: FrameSink>(
    memory: &M,
    registers: Registers,
    caller: u64,
    sink: &mut S,
) -> StackEnd {
    let mut position = Position::default();
    position.start(registers, caller, sink);
    for _ in 1..MAX_FRAMES {
        if let Err(end) = position.step(memory, sink) {
            return end;
        }
    }
    StackEnd::Truncated
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stack whose first word is at `base`.
    struct Stack {
        base: u64,
        words: Vec<u64>,
    }

    impl ReadMemory for Stack {
        fn read_words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
            let first = usize::try_from(address.checked_sub(self.base)? / 8).ok()?;
            self.words.get(first..first + N)?.try_into().ok()
        }
    }

    struct Frames(Vec<u64>, usize, Vec<(u64, u64)>);

    impl FrameSink for Frames {
        fn push(&mut self, return_address: u64) -> bool {
            if self.0.len() == self.1 {
                return false;
            }
            self.0.push(return_address);
            true
        }

        fn place(&mut self, sp: u64, cfa: u64) {
            self.2.push((sp, cfa));
        }
    }

    fn walk(stack: &Stack, bp: u64, room: usize) -> (Vec<u64>, StackEnd) {
        let mut frames = Frames(Vec::new(), room, Vec::new());
        let registers = Registers { sp: stack.base, bp };
        let end = walk_from_entry(stack, registers, stack.words[0], &mut frames);
        (frames.0, end)
    }

    #[test]
    fn follows_the_chain_to_a_zero_frame_pointer() {
        //                                     0    8     10     18    20   28 30
        let stack = Stack { base: 0x1000, words: vec![0xa, 0x1018, 0xff, 0x1028, 0xb, 0, 0xc] };
        assert_eq!(walk(&stack, 0x1018, 8), (vec![0xa, 0xb, 0xc], StackEnd::Root));
    }

    #[test]
    fn each_frame_reaches_to_the_frame_pointer_of_its_caller() {
        let stack = Stack { base: 0x1000, words: vec![0xa, 0x1018, 0xff, 0x1028, 0xb, 0, 0xc] };
        let mut frames = Frames(Vec::new(), 8, Vec::new());
        walk_from_entry(&stack, Registers { sp: 0x1000, bp: 0x1018 }, 0xa, &mut frames);
        assert_eq!(frames.2, [(0x1008, 0x1028), (0x1028, 0x1038)]);
    }

    #[test]
    fn the_direct_caller_is_kept_when_the_frame_pointer_is_garbage() {
        let stack = Stack { base: 0x1000, words: vec![0xa, 1, 2] };
        for garbage in [1, 0x0fff_fff8, 0x1000, 0x800, 0x1000 + (2 << 20)] {
            assert_eq!(walk(&stack, garbage, 8), (vec![0xa], StackEnd::NoFramePointer));
        }
    }

    #[test]
    fn a_frame_out_of_readable_memory_is_said() {
        let stack = Stack { base: 0x1000, words: vec![0xa, 1, 2] };
        assert_eq!(walk(&stack, 0x1010, 8), (vec![0xa], StackEnd::Unreadable));
    }

    #[test]
    fn a_chain_that_does_not_ascend_ends_the_walk() {
        let stack = Stack { base: 0x1000, words: vec![0xa, 0x1008, 0xb] };
        assert_eq!(walk(&stack, 0x1008, 8), (vec![0xa, 0xb], StackEnd::NoFramePointer));
    }

    #[test]
    fn a_full_sink_truncates() {
        let stack = Stack { base: 0x1000, words: vec![0xa, 0x1018, 0xff, 0x1028, 0xb, 0, 0xc] };
        assert_eq!(walk(&stack, 0x1018, 2), (vec![0xa, 0xb], StackEnd::Truncated));
    }

    #[test]
    fn a_stack_deeper_than_the_buffer_is_truncated() {
        let words: Vec<u64> = (0..600)
            .map(|index: u64| if index % 2 == 1 { 0x1000 + (index + 2) * 8 } else { index + 1 })
            .collect();
        let (frames, end) = walk(&Stack { base: 0x1000, words }, 0x1008, 1000);
        assert_eq!((frames.len(), end), (MAX_FRAMES, StackEnd::Truncated));
    }
}
