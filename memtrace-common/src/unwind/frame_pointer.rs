//! The frame-pointer walk: cheap, and complete only where every function keeps `rbp`.

use super::{FrameSink, Registers};
use crate::{
    memory::ReadMemory,
    wire::{MAX_FRAMES, StackEnd},
};

/// A frame larger than this is taken for garbage in `rbp`: functions without frame pointers use
/// it as a general register.
const MAX_FRAME_BYTES: u64 = 1 << 20;

/// Walks from the entry of a function, before its prologue: `caller` is the word at `[sp]`, `bp`
/// still belongs to the caller.
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
    sink.push(caller);
    let mut lower = registers.sp;
    let mut sp = registers.sp.wrapping_add(8);
    let mut bp = registers.bp;
    for _ in 1..MAX_FRAMES {
        if bp == 0 {
            return StackEnd::Root;
        }
        if bp & 7 != 0 || bp <= lower || bp - lower > MAX_FRAME_BYTES {
            return StackEnd::NoFramePointer;
        }
        let Some([next_bp, return_address]) = memory.read_words::<2>(bp) else {
            return StackEnd::Unreadable;
        };
        if return_address == 0 {
            return StackEnd::Root;
        }
        sink.place(sp, bp + 16);
        if !sink.push(return_address) {
            return StackEnd::Truncated;
        }
        lower = bp;
        sp = bp + 16;
        bp = next_bp;
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
