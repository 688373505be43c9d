//! glibc's heaps that are obtained inside of `free`.
//!
//! A thread whose first call of the allocator is a `free` gets an arena then (`tcache_init` in
//! malloc/malloc.c), and the arena's first heap with it. `free` is recorded at its entry alone, so
//! that no call is in flight that would tell whose mapping it is: 64 MiB that nobody uses would be
//! the largest thing that the program itself mapped.
//!
//! Source: `alloc_new_heap` in malloc/arena.c: `MMAP (0, max_size << 1, PROT_NONE, MAP_NORESERVE)`,
//! where `max_size` is `HEAP_MAX_SIZE`, or the same of only `max_size`.

use std::collections::HashSet;

use crate::model::{
    census::Extent,
    event::{Action, Event},
    mapping::Mapping,
    stack::{ENTRY_MARK, RawStack, StackId},
};

/// `2 * DEFAULT_MMAP_THRESHOLD_MAX` on 64-bit machines.
const HEAP_MAX_BYTES: u64 = 64 << 20;

const PROT_NONE: u32 = 0;

/// `MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE`. Stacks of threads are `MAP_STACK`, too.
const RESERVED: u32 = 0x02 | 0x20 | 0x4000;

/// Knows the stacks that end in glibc, and tells heaps from other mappings.
#[derive(Debug, Default)]
pub struct LateHeaps {
    glibc: Vec<Extent>,
    /// Stacks whose direct caller is glibc itself.
    callers: HashSet<StackId>,
}

impl LateHeaps {
    /// Learns where glibc is now.
    pub fn learn(&mut self, mappings: &[Mapping]) {
        let of_glibc =
            |mapping: &&Mapping| mapping.permissions.execute && is_glibc(mapping.base_name());
        let extent = |mapping: &Mapping| Extent { start: mapping.start, end: mapping.end };
        self.glibc = mappings.iter().filter(of_glibc).map(extent).collect();
    }

    /// Remembers a new stack if glibc is its direct caller.
    pub fn observe(&mut self, id: StackId, stack: &RawStack) {
        let Some(caller) = stack.frames.first().map(|address| address & !ENTRY_MARK) else {
            return;
        };
        if self.glibc.iter().any(|extent| (extent.start..extent.end).contains(&caller)) {
            self.callers.insert(id);
        }
    }

    /// The event, as the allocator's own where it is a heap.
    pub fn attribute(&self, event: Event) -> Event {
        let internal = event.internal || self.is_heap(&event);
        Event { internal, ..event }
    }

    fn is_heap(&self, event: &Event) -> bool {
        let Action::Map { length_bytes, prot, map_flags, stack, .. } = event.action else {
            return false;
        };
        [HEAP_MAX_BYTES, 2 * HEAP_MAX_BYTES].contains(&length_bytes)
            && (prot, map_flags) == (PROT_NONE, RESERVED)
            && self.callers.contains(&stack)
    }
}

/// `libc.so.6`, and `libc-2.31.so` before 2.34.
fn is_glibc(name: &str) -> bool {
    name == "libc.so.6" || name.starts_with("libc-2.")
}

#[cfg(test)]
mod tests {
    use memtrace_common::wire::StackEnd;

    use super::*;
    use crate::{allocator::image::writable, model::AllocFn};

    fn heaps(library: &str) -> LateHeaps {
        let mut mapping = writable(0x1000, 4096, library);
        mapping.permissions.execute = true;
        let mut heaps = LateHeaps::default();
        heaps.learn(&[mapping]);
        for (id, caller) in [(1, 0x1800), (2, 0x2800)] {
            heaps.observe(StackId(id), &RawStack::native(vec![caller, 0x1900], StackEnd::Root));
        }
        heaps
    }

    fn map(stack: u64, length_bytes: u64, prot: u32, map_flags: u32) -> Event {
        let stack = StackId(stack);
        let action = Action::Map { address: 0x7000_0000, length_bytes, prot, map_flags, stack };
        Event::of(AllocFn::Mmap, 1, 0, action)
    }

    #[test]
    fn a_reservation_of_a_heaps_size_by_glibc_is_the_allocators() {
        for (library, bytes) in [("/lib/libc.so.6", 128 << 20), ("/lib/libc-2.31.so", 64 << 20)] {
            let event = map(1, bytes, PROT_NONE, RESERVED);
            assert!(heaps(library).attribute(event).internal, "{library}");
        }
    }

    #[test]
    fn other_mappings_are_the_programs() {
        let heaps = heaps("/lib/libc.so.6");
        let by_the_program = map(2, 128 << 20, PROT_NONE, RESERVED);
        let stack_of_a_thread = map(1, 8 << 20, PROT_NONE, 0x2_0022);
        let buffer = map(1, 128 << 20, 3, 0x22);
        let another_size = map(1, 32 << 20, PROT_NONE, RESERVED);
        for event in [by_the_program, stack_of_a_thread, buffer, another_size] {
            assert_eq!(heaps.attribute(event.clone()), event);
        }
    }

    #[test]
    fn what_is_the_allocators_already_stays_so() {
        let event = Event { internal: true, ..map(2, 4096, 3, 0x22) };
        assert!(heaps("/lib/libc.so.6").attribute(event).internal);
    }
}
