//! Whether a process has more than one interpreter, where that hides frames.
//!
//! Up to 3.11 a thread that changes to another interpreter keeps the thread state that it had first
//! in its slot (`_PyThreadState_Swap` in Python/pystate.c changes `gilstate.tstate_current` alone),
//! so that the frames found there are those of the line that runs the other interpreter. From 3.12
//! on the slot changes, too.

use super::detect::Python;
use crate::model::memory::TargetMemory;

/// The first version whose slot is that of the interpreter that runs.
const VISIBLE_SINCE_MINOR: u8 = 12;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subinterpreters {
    /// Address of `_PyRuntime.interpreters.head`.
    head: u64,
    /// Offset of `next` in `PyInterpreterState`.
    next: u32,
    seen: bool,
}

impl Subinterpreters {
    /// `None` where their frames are seen like all others.
    pub fn of(python: &Python) -> Option<Self> {
        let offsets = &python.objects.offsets;
        let head = python.runtime.checked_add(offsets.runtime.interpreters_head.into())?;
        let next = offsets.interpreter.next;
        let are_hidden = python.version().minor < VISIBLE_SINCE_MINOR;
        are_hidden.then_some(Self { head, next, seen: false })
    }

    /// Looks whether there is one now: two words are read, until one was found.
    pub fn look(&mut self, memory: &impl TargetMemory) {
        self.seen = self.seen || self.is_any(memory) == Some(true);
    }

    /// Whether one was found at any time.
    pub fn were_seen(&self) -> bool {
        self.seen
    }

    /// The newest is the first of the list.
    fn is_any(&self, memory: &impl TargetMemory) -> Option<bool> {
        let newest = memory.read_u64(self.head).filter(|it| *it != 0)?;
        Some(memory.read_u64(newest.checked_add(self.next.into())?)? != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words at the addresses 0, 8, 16, ...
    struct Words(Vec<u64>);

    impl TargetMemory for Words {
        fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
            let word = self.0.get(address as usize / 8);
            word.inspect(|it| buffer.copy_from_slice(&it.to_le_bytes())).is_some()
        }
    }

    fn seen(words: &[&[u64]]) -> bool {
        let mut subinterpreters = Subinterpreters { head: 8, next: 8, seen: false };
        words.iter().for_each(|it| subinterpreters.look(&Words(it.to_vec())));
        subinterpreters.were_seen()
    }

    #[test]
    fn a_second_interpreter_is_found_and_remembered() {
        let (one, two) = ([0, 16, 0, 0], [0, 16, 0, 8]);
        assert!(!seen(&[&one]));
        assert!(seen(&[&two]));
        assert!(seen(&[&one, &two, &one]));
    }

    #[test]
    fn none_is_found_where_memory_cannot_be_read() {
        assert!(!seen(&[&[], &[0, 0], &[0, 800]]));
    }
}
