//! Which calls of mmap obtain arenas.
//!
//! `_PyObject_ArenaMmap` asks for private anonymous memory of exactly an arena's size, and hardly
//! anything else in an interpreter calls mmap itself: its `mmap` module maps shared memory unless it
//! is told otherwise, and 3.12 takes memory for frames in much smaller pieces.

use std::collections::HashSet;

use super::Interpreter;
use crate::model::{
    census::Extent,
    event::{Action, Event},
    mapping::Mapping,
    stack::{ENTRY_MARK, RawStack, StackId},
};

/// `PROT_READ | PROT_WRITE`.
const PROT_DATA: u32 = 1 | 2;

/// `MAP_PRIVATE | MAP_ANONYMOUS`.
const PRIVATE_ANONYMOUS: u32 = 0x02 | 0x20;

/// An arena up to 3.9, and later.
const ARENA_BYTES: [u64; 2] = [256 << 10, 1 << 20];

/// The first minor version with large arenas.
const FIRST_LARGE: u8 = 10;

/// Knows the stacks that end in an interpreter, and tells arenas from other mappings.
#[derive(Debug, Default)]
pub struct ArenaCalls {
    code: Vec<(Extent, u64)>,
    /// Stacks whose direct caller is an interpreter, with the bytes of its arenas.
    callers: HashSet<(StackId, u64)>,
    /// The functions of the interpreter that ask for arenas are traced themselves.
    within_calls: bool,
}

impl ArenaCalls {
    /// `within_calls`: CPython's own functions are traced, so that an arena is obtained inside of a
    /// call that is, and has no stack. Then its size and kind have to do.
    pub fn new(within_calls: bool) -> Self {
        Self { within_calls, ..Self::default() }
    }

    /// Learns where interpreters are now.
    pub fn learn(&mut self, mappings: &[Mapping]) {
        let code = |mapping: &Mapping| {
            let interpreter = Interpreter::of(mapping).filter(|it| it.check().is_ok())?;
            let extent = Extent { start: mapping.start, end: mapping.end };
            mapping.permissions.execute.then_some((extent, arena_bytes(interpreter)))
        };
        self.code = mappings.iter().filter_map(code).collect();
    }

    /// Remembers a new stack if an interpreter is its direct caller.
    pub fn observe(&mut self, id: StackId, stack: &RawStack) {
        let caller = stack.frames.first().map(|address| address & !ENTRY_MARK);
        let inside = |extent: &Extent, at| (extent.start..extent.end).contains(&at);
        let found =
            self.code.iter().find(|(extent, _)| caller.is_some_and(|at| inside(extent, at)));
        if let Some((_, arena_bytes)) = found {
            self.callers.insert((id, *arena_bytes));
        }
    }

    /// Whether an event is an arena that was obtained. An allocator's own mapping is none.
    pub fn is_arena(&self, event: &Event) -> bool {
        let Action::Map { length_bytes, prot, map_flags, stack, .. } = event.action else {
            return false;
        };
        let is_asked_for = match event.internal {
            false => self.callers.contains(&(stack, length_bytes)),
            true => self.within_calls && self.code.iter().any(|(_, bytes)| *bytes == length_bytes),
        };
        is_asked_for && (prot, map_flags) == (PROT_DATA, PRIVATE_ANONYMOUS)
    }

    /// The target executes another program.
    pub fn forget(&mut self) {
        *self = Self::new(self.within_calls);
    }
}

fn arena_bytes(interpreter: Interpreter) -> u64 {
    ARENA_BYTES[usize::from(interpreter.minor >= FIRST_LARGE)]
}

#[cfg(test)]
mod tests {
    use memtrace_common::wire::StackEnd;

    use super::*;
    use crate::{allocator::image::writable, model::AllocFn};

    fn calls(name: &str) -> ArenaCalls {
        let mut mapping = writable(0x1000, 4096, name);
        mapping.permissions.execute = true;
        let mut calls = ArenaCalls::default();
        calls.learn(&[mapping]);
        for (id, caller) in [(1, 0x1800 | ENTRY_MARK), (2, 0x2800)] {
            let stack = RawStack::native(vec![caller, 0x1900], StackEnd::Root);
            calls.observe(StackId(id), &stack);
        }
        calls
    }

    fn map(stack: u64, length_bytes: u64, prot: u32, map_flags: u32) -> Event {
        let (address, stack) = (0x7000_0000, StackId(stack));
        let action = Action::Map { address, length_bytes, prot, map_flags, stack };
        Event::of(AllocFn::Mmap, 1, 0, action)
    }

    #[test]
    fn an_arena_is_asked_for_by_the_interpreter_in_one_size() {
        let calls = calls("/usr/bin/python3.11");
        assert!(calls.is_arena(&map(1, 1 << 20, 3, 0x22)));
        let others = [
            map(2, 1 << 20, 3, 0x22),
            map(1, 256 << 10, 3, 0x22),
            map(1, 1 << 20, 1, 0x22),
            map(1, 1 << 20, 3, 0x21),
            Event { internal: true, ..map(1, 1 << 20, 3, 0x22) },
        ];
        assert_eq!(others.iter().find(|other| calls.is_arena(other)), None);
    }

    #[test]
    fn inside_of_traced_calls_size_and_kind_tell_an_arena() {
        let inside = Event { internal: true, ..map(0, 1 << 20, 3, 0x22) };
        let mut calls = calls("/usr/bin/python3.11");
        assert!(!calls.is_arena(&inside));
        calls.within_calls = true;
        assert!(calls.is_arena(&inside) && calls.is_arena(&map(1, 1 << 20, 3, 0x22)));
        assert!(!calls.is_arena(&Event { internal: true, ..map(0, 1 << 18, 3, 0x22) }));
    }

    #[test]
    fn arenas_are_smaller_in_older_versions() {
        let calls = calls("/usr/lib/libpython3.9.so.1.0");
        assert!(calls.is_arena(&map(1, 256 << 10, 3, 0x22)));
        assert!(!calls.is_arena(&map(1, 1 << 20, 3, 0x22)));
    }

    #[test]
    fn a_build_without_pymalloc_has_no_arenas() {
        assert!(!calls("/usr/bin/python3.13t").is_arena(&map(1, 1 << 20, 3, 0x22)));
    }
}
