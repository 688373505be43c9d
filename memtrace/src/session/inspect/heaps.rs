//! The heaps of a process by the walkers of its allocators.

use super::{
    Inspector, Wanted, layout,
    objects::{Loaded, Object},
    pages::unwalked_break,
};
use crate::{
    allocator::{
        AllocatorId,
        glibc::{
            self,
            inquiry::BlockState,
            layout::Layout,
            walk::{Request, Walked},
        },
        musl::{self, MuslError},
        pymalloc::{self, Interpreter},
    },
    analysis::residency::{Claim, Owner},
    model::{
        census::{Extent, GlibcHeap, MuslHeap, PymallocHeap, Refusal},
        layout::HeapLayout,
        mapping::Mapping,
        site::Amount,
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
    /// What became of the blocks that were asked for.
    pub(super) blocks: BlockStates,
    /// Where everything lies, where that was asked for.
    pub(super) layout: Option<HeapLayout>,
}

/// What glibc's heaps say of blocks that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::session) struct BlockStates {
    /// In the order of the addresses.
    pub(in crate::session) states: Vec<BlockState>,
    /// Those in use, by the sizes of their chunks.
    pub(in crate::session) in_use: Amount,
}

impl BlockStates {
    /// A block is in one heap only.
    fn add(&mut self, walked: &Walked) {
        self.in_use += walked.blocks_in_use;
        let known = self.states.iter_mut().zip(&walked.blocks);
        known.filter(|(_, of_heap)| **of_heap != BlockState::Unknown).for_each(
            |(known, of_heap)| {
                *known = *of_heap;
            },
        );
    }
}

/// Walks every heap that is understood. `stacks` are in nobody's heap.
pub(super) fn walk(
    inspector: &Inspector,
    loaded: &Loaded,
    maps: &[Mapping],
    stacks: &[ThreadStack],
    Wanted { blocks, layout }: Wanted<'_>,
) -> WalkedHeaps {
    let mut heaps = WalkedHeaps { layout: layout.then(HeapLayout::default), ..Default::default() };
    heaps.blocks.states = vec![BlockState::Unknown; blocks.len()];
    let mut walk = Walk { inspector, maps, blocks, excluded: Vec::new(), heaps };
    walk.exclude(stacks.iter().map(|stack| stack.extent));
    // Arenas of pymalloc lie among the blocks that glibc maps, which are known by their headers
    // alone.
    walk.pymalloc();
    for object in &loaded.objects {
        walk.glibc(object);
        walk.musl(object, loaded.is_malloc_opaque());
    }
    walk.heaps
}

struct Walk<'a> {
    inspector: &'a Inspector,
    maps: &'a [Mapping],
    blocks: &'a [u64],
    /// What is not glibc's, ascending.
    excluded: Vec<Extent>,
    heaps: WalkedHeaps,
}

impl Walk<'_> {
    fn refuse(&mut self, part: &str, reason: &impl ToString) {
        self.heaps.refusals.push(Refusal { part: part.to_owned(), reason: reason.to_string() });
    }

    fn claim(&mut self, extents: &[Extent]) {
        let claim = |extent| Claim { extent, owner: Owner::Walker };
        self.heaps.claims.extend(extents.iter().copied().map(claim));
        self.exclude(extents.iter().copied());
    }

    fn exclude(&mut self, extents: impl Iterator<Item = Extent>) {
        self.excluded.extend(extents);
        self.excluded.sort_unstable();
    }

    fn pymalloc(&mut self) {
        let Inspector { memory, pagemap, .. } = self.inspector;
        for interpreter in Interpreter::all_of(self.maps) {
            match pymalloc::walk(memory, pagemap, self.maps, &interpreter) {
                // Arenas in blocks of malloc are in use there, and not counted again.
                Ok(Some(walk)) if !walk.is_in_malloc => {
                    self.claim(&walk.arenas);
                    self.heaps.pymalloc.push(walk.heap);
                    let layout = &mut self.heaps.layout;
                    layout.iter_mut().for_each(|it| layout::add_pymalloc(it, walk.layouts.clone()));
                }
                Ok(_) => {}
                Err(error) => self.refuse("pymalloc", &error),
            }
        }
    }

    fn glibc(&mut self, object: &Object) {
        let path = &object.mapping.name;
        match object.facts.layout {
            Some(layout) => self.glibc_heap(object, &layout.at(object.bias)),
            None if object.facts.allocator == AllocatorId::Glibc => {
                let reason =
                    format!("{path}: its main arena is not laid out as any known version's");
                self.refuse_glibc(&reason);
            }
            None => {}
        }
    }

    fn glibc_heap(&mut self, object: &Object, layout: &Layout) {
        let Inspector { memory, pagemap, .. } = self.inspector;
        let page_bytes = rustix::param::page_size() as u64;
        let target =
            glibc::target::Target { memory, residency: pagemap, mappings: self.maps, page_bytes };
        let room = self.heaps.layout.as_ref().map(layout::room);
        let request =
            Request { excluded: &self.excluded, blocks: self.blocks, layout_code_bytes: room };
        let mut walked = match glibc::walk::walk(&target, layout, request) {
            Ok(walked) => walked,
            Err(error) => return self.refuse_glibc(&format!("{}: {error}", object.mapping.name)),
        };
        if is_unused(&walked.heap) {
            return;
        }
        if let Some(arena) = walked.lost_arena {
            let reason = format!(
                "{}: the state of its arena at {arena:#x} is in swap, and reading would bring it \
                 back; memory of this arena and of others that only it leads to counts as unknown",
                object.mapping.name
            );
            self.refuse("glibc", &reason);
        }
        self.heaps.blocks.add(&walked);
        let number = self.heaps.glibc.len() as u32;
        self.heaps.layout.iter_mut().for_each(|it| layout::add_glibc(it, number, &mut walked));
        self.claim(&walked.segments);
        self.claim(&walked.mapped);
        let bound = &mut self.heaps.error_bound_bytes;
        *bound = bound.saturating_add(walked.heap.error_bound_bytes);
        let version = object.facts.version.clone();
        self.heaps.glibc.push(GlibcHeap {
            path: object.mapping.name.clone(),
            version,
            ..walked.heap
        });
    }

    /// In a static program that was stripped, musl is known only by finding its heap.
    fn musl(&mut self, object: &Object, is_replaced: bool) {
        let Inspector { memory, pagemap, .. } = self.inspector;
        let (facts, mapping) = (&object.facts, &object.mapping);
        let is_musl = facts.allocator == AllocatorId::Musl;
        let may_be_musl = facts.is_static && facts.layout.is_none();
        if !is_musl && !may_be_musl {
            return;
        }
        let version = facts.version.as_deref().filter(|_| is_musl);
        match musl::walk(memory, pagemap, self.maps, mapping, version) {
            Ok(walk) => {
                self.claim(&walk.extents);
                self.heaps.musl.push(walk.heap);
            }
            Err(MuslError::NoContext) if is_replaced => {}
            Err(error) if is_musl => {
                self.refuse("musl", &format!("{}: {error}", mapping.name));
                self.heaps.claims.extend(unwalked_break(self.maps));
            }
            Err(_) => {
                let reason = format!(
                    "{} is statically linked, and no heap of a known C library was found in it",
                    mapping.name
                );
                self.refuse("heap", &reason);
            }
        }
    }

    fn refuse_glibc(&mut self, reason: &str) {
        self.refuse("glibc", &reason);
        self.heaps.claims.extend(unwalked_break(self.maps));
    }
}

/// A program whose `malloc` is another allocator's has a glibc without memory.
fn is_unused(heap: &GlibcHeap) -> bool {
    heap.mapped.count == 0 && heap.arenas.iter().all(|arena| arena.system_bytes == 0)
}
