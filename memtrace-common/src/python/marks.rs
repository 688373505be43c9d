//! Which native frames are runs of the interpreter loop, as the Python walk tells the native walk.

use super::MAX_PYTHON_FRAMES;
use crate::{
    config::CodeRange,
    opaque::{Opaque, OpaqueWords},
    unwind::{HASH_SEED, mix},
};

/// What [`Marks::pending`] is when no entry is left: no frame ends above it.
const NONE: u64 = u64::MAX;

/// Objects of the interpreter on the C stack, innermost first, or the interpreter loop's code.
/// Lives in map memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks {
    count: Opaque<u32>,
    /// How many were found or passed.
    done: Opaque<u32>,
    /// The next one.
    pending: Opaque<u64>,
    /// Of all entries.
    hash: Opaque<u64>,
    /// Start, end, start, end; 0 when code tells nothing.
    code: [Opaque<u64>; 4],
    entries: OpaqueWords<MAX_PYTHON_FRAMES>,
}

impl Marks {
    /// Forgets all.
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        self.count.set(0);
        self.hash.set(HASH_SEED);
        self.set_code(&[CodeRange::default(); 2]);
    }

    /// Takes the code by which runs are told.
    #[inline(always)]
    pub(super) fn set_code(&mut self, ranges: &[CodeRange; 2]) {
        self.code[0].set(ranges[0].start);
        self.code[1].set(ranges[0].end);
        self.code[2].set(ranges[1].start);
        self.code[3].set(ranges[1].end);
    }

    /// Takes the next older entry. Call it at most [`MAX_PYTHON_FRAMES`] times.
    #[inline(always)]
    pub(super) fn add(&mut self, entry: u64) {
        let count = self.count.get();
        self.entries.set(count as usize, entry);
        self.hash.set(mix(self.hash.get(), entry));
        self.count.set(count + 1);
    }

    /// What a native walk depends on, besides the interpreter loop's code.
    #[inline(always)]
    pub fn hash(&self) -> u64 {
        self.hash.get()
    }

    /// How many entries a native walk has found or passed.
    #[inline(always)]
    pub fn done(&self) -> u32 {
        self.done.get()
    }

    /// Prepares for a native walk.
    #[inline(always)]
    pub fn rewind(&mut self) {
        self.done.set(0);
        self.fetch(0);
    }

    /// Whether the instruction of a call is in the interpreter loop's code.
    #[inline(always)]
    pub fn is_in_loop(&self, call: u64) -> bool {
        let inside = |start: usize, end: usize| {
            call < self.code[end].get() && call >= self.code[start].get()
        };
        inside(0, 1) || inside(2, 3)
    }

    /// Whether the next older native frame, which occupies `[sp, cfa)`, holds the next entry. An
    /// entry that lies below was missed and is passed over.
    #[inline(always)]
    pub fn is_in_frame(&mut self, sp: u64, cfa: u64) -> bool {
        let entry = self.pending.get();
        if entry >= cfa {
            return false;
        }
        let done = self.done.get() + 1;
        self.done.set(done);
        self.fetch(done);
        entry >= sp
    }

    #[inline(always)]
    fn fetch(&mut self, index: u32) {
        let entry = if index < self.count.get() { self.entries.get(index as usize) } else { NONE };
        self.pending.set(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(entries: &[u64]) -> Marks {
        let mut marks = Marks::default();
        marks.clear();
        entries.iter().for_each(|entry| marks.add(*entry));
        marks.rewind();
        marks
    }

    #[test]
    fn a_frame_holds_an_entry_from_its_stack_pointer_to_below_its_cfa() {
        let mut marks = marks(&[0x110, 0x120, 0x12f]);
        assert!(!marks.is_in_frame(0x100, 0x110));
        assert!(marks.is_in_frame(0x110, 0x120));
        assert!(marks.is_in_frame(0x120, 0x128));
        assert!(marks.is_in_frame(0x128, 0x130));
        assert!(!marks.is_in_frame(0x130, NONE));
    }

    #[test]
    fn an_entry_that_no_frame_held_does_not_hide_those_behind_it() {
        let mut marks = marks(&[0x10, 0x130]);
        assert!(!marks.is_in_frame(0x100, 0x110), "passed over");
        assert!(!marks.is_in_frame(0x110, 0x130));
        assert!(marks.is_in_frame(0x130, 0x140));
    }

    #[test]
    fn the_loop_is_known_by_its_hot_and_its_cold_code() {
        let mut marks = marks(&[]);
        assert!(!marks.is_in_loop(0), "nothing is known");
        marks.set_code(&[CodeRange { start: 4, end: 6 }, CodeRange { start: 8, end: 9 }]);
        let inside: Vec<u64> = (0..12).filter(|call| marks.is_in_loop(*call)).collect();
        assert_eq!(inside, [4, 5, 8]);
    }
}
