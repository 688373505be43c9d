//! The heaps of a process by the walkers of its allocators.

use super::{Inspector, objects::Loaded};
use crate::{
    allocator::pymalloc::{self, Interpreter},
    analysis::residency::{Claim, Owner},
    model::{
        census::{Extent, GlibcHeap, MuslHeap, PymallocHeap, Refusal},
        mapping::Mapping,
    },
    threads::ThreadStack,
};

/// What the walkers found.
#[derive(Default)]
pub(super) struct WalkedHeaps {
    pub(super) glibc: Vec<GlibcHeap>,
    pub(super) musl: Vec<MuslHeap>,
    pub(super) pymalloc: Vec<PymallocHeap>,
    /// Where the heaps are.
    pub(super) claims: Vec<Claim>,
    pub(super) refusals: Vec<Refusal>,
    /// How far their sums can be off, at most.
    pub(super) error_bound_bytes: u64,
}

/// Walks every heap that is understood. `stacks` are in nobody's heap.
pub(super) fn walk(
    inspector: &Inspector,
    _loaded: &Loaded,
    maps: &[Mapping],
    _stacks: &[ThreadStack],
) -> WalkedHeaps {
    let mut heaps = WalkedHeaps::default();
    heaps.add_pymalloc(inspector, maps);
    heaps
}

impl WalkedHeaps {
    fn refuse(&mut self, part: &str, reason: &impl ToString) {
        self.refusals.push(Refusal { part: part.to_owned(), reason: reason.to_string() });
    }

    fn claim(&mut self, extents: &[Extent]) {
        let claim = |extent| Claim { extent, owner: Owner::Walker };
        self.claims.extend(extents.iter().copied().map(claim));
    }

    fn add_pymalloc(&mut self, inspector: &Inspector, maps: &[Mapping]) {
        let Inspector { memory, pagemap, .. } = inspector;
        for interpreter in Interpreter::all_of(maps) {
            match pymalloc::walk(memory, pagemap, maps, &interpreter) {
                // Arenas in blocks of malloc are in use there, and not counted again.
                Ok(Some(walk)) if !walk.is_in_malloc => {
                    self.claim(&walk.arenas);
                    self.pymalloc.push(walk.heap);
                }
                Ok(_) => {}
                Err(error) => self.refuse("pymalloc", &error),
            }
        }
    }
}
