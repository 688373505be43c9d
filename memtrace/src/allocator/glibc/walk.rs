//! A walk of everything that a glibc has: the ring of arenas, their segments chunk by chunk, the
//! caches, the blocks that were mapped one by one.
//!
//! Memory needed does not depend on the heap's size: chunks are added up as they come by, and only
//! those in fastbins (of one arena) and tcaches are remembered.

use thiserror::Error;

use super::{
    arena::{ArenaState, Parameters, RingEnd, ring},
    inquiry::{BlockState, Blocks},
    layout::Layout,
    lost,
    mapped::{self, MappedBlocks},
    movement::Movement,
    part::{Part, sum},
    recording::Recording,
    segment::Surveyor,
    shape::align_down,
    target::{PresentMemory, Target},
    walker::{Walker, extents},
};
use crate::model::{
    census::{Extent, GlibcHeap},
    layout::ArenaLayout,
    site::Amount,
};

/// Why there is nothing to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WalkError {
    /// The main arena is not on a page that is there.
    #[error("the state of its main arena at {address:#x} cannot be read")]
    Unreadable {
        /// Where it should be.
        address: u64,
    },
    /// The main arena is in swap, where it is not read.
    #[error(
        "the state of its main arena at {address:#x} is in swap, and reading would bring it back"
    )]
    InSwap {
        /// Where it is.
        address: u64,
    },
    /// The arenas do not lead back to the first.
    #[error("its ring of arenas does not close: the main arena is not at {address:#x}")]
    BrokenRing {
        /// Where it should be.
        address: u64,
    },
}

/// What to look at besides the heap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'r> {
    /// Memory that holds no blocks that were mapped one by one: stacks, arenas of pymalloc.
    pub excluded: &'r [Extent],
    /// Addresses of blocks, ascending, whose state is asked for.
    pub blocks: &'r [u64],
    /// Where everything lies is wanted, too, in so many bytes of code at most; see
    /// [`crate::model::layout::SegmentLayout::code_bytes`].
    pub layout_code_bytes: Option<usize>,
}

/// What a walk found.
#[derive(Clone, Debug, Default)]
pub struct Walked {
    /// The heap; `path` and `version` are for the caller to say.
    pub heap: GlibcHeap,
    /// Memory of arenas, whole pages, ascending.
    pub segments: Vec<Extent>,
    /// Blocks that were mapped one by one, ascending.
    pub mapped: Vec<Extent>,
    /// For each block that was asked for, what became of it.
    pub blocks: Vec<BlockState>,
    /// Those of them that are in use, by the sizes of their chunks.
    pub blocks_in_use: Amount,
    /// The arena whose state is in swap: the last one of `heap` stands for it, and for all that
    /// nothing else leads to. Where their memory is, is all that is known of them.
    pub lost_arena: Option<u64>,
    /// Addresses of chunks in tcaches, ascending.
    pub tcache_chunks: Vec<u64>,
    /// Where everything in the arenas lies; empty where that was not asked for.
    pub layout: Vec<ArenaLayout>,
    /// Bytes of arenas that found no room in it.
    pub layout_left_out_bytes: u64,
    /// Size of the huge pages that glibc asks the kernel for (`glibc.malloc.hugetlb=1`); 0 where it
    /// does not.
    pub asked_huge_page_bytes: u64,
}

/// Walks the heap of the glibc whose layout (as it is in the process) is given.
///
/// Errors: see [`WalkError`]. Parts that could not be walked are in the quality of each arena.
pub fn walk(
    target: &Target<'_>,
    layout: &Layout,
    request: Request<'_>,
) -> Result<Walked, WalkError> {
    let memory = PresentMemory::new(target);
    let (states, surveyor) = survey(target, &memory, layout)?;
    let lost_heaps = match surveyor.lost_arena {
        Some(_) => lost::heaps(&surveyor, request.excluded),
        None => Vec::new(),
    };
    let excluded = [request.excluded, &lost_heaps].concat();
    // Before anything else, because nobody tells of new mappings.
    let mapped = MappedBlocks::find(&surveyor, &states, layout, &excluded);
    let mut blocks = Blocks::new(request.blocks);
    let mut walker = Walker::recording(&surveyor, request.layout_code_bytes);
    let candidates = walker.arenas(&states, &mut blocks);
    walker.read_again(&candidates);
    let lost = surveyor.lost_arena.map(|address| lost::part(&surveyor, address, &lost_heaps));
    let recording = recorded(&mut walker, lost.as_ref());
    walker.parts.extend(lost);
    memory.forget();
    let segments = whole_pages(&walker.parts, target);
    let mapped = mapped.outside(&segments);
    let heap = heap(&surveyor, layout, &walker.parts, &mapped);
    blocks.settle(&walker.tcaches, &mapped.extents);
    let tcache_chunks = walker.tcaches.chunks.iter().map(|(chunk, _)| *chunk).collect();
    Ok(Walked {
        heap,
        segments,
        mapped: mapped.extents,
        blocks: blocks.states,
        blocks_in_use: blocks.in_use,
        lost_arena: surveyor.lost_arena,
        tcache_chunks,
        layout: recording.arenas,
        layout_left_out_bytes: recording.left_out_bytes,
        asked_huge_page_bytes: surveyor.parameters.transparent_huge_page_bytes,
    })
}

/// What was written down, with how many threads each arena has in the end. Of an arena in swap
/// nothing is known.
fn recorded(walker: &mut Walker<'_>, lost: Option<&Part>) -> Recording {
    let Some(mut recording) = walker.recording.take() else { return Recording::default() };
    for (arena, part) in recording.arenas.iter_mut().zip(&walker.parts) {
        arena.attached_threads = part.after.attached_threads;
    }
    recording.left_out_bytes += lost.map_or(0, |part| part.tally.skipped_bytes);
    recording
}

fn whole_pages(parts: &[Part], target: &Target<'_>) -> Vec<Extent> {
    let segments = parts.iter().flat_map(|part| extents(&part.segments));
    let page = |it: Extent| Extent { start: align_down(it.start, target.page_bytes), ..it };
    mapped::merge(segments.map(page).collect())
}

fn heap(
    surveyor: &Surveyor<'_>,
    layout: &Layout,
    parts: &[Part],
    mapped: &MappedBlocks,
) -> GlibcHeap {
    let amount = mapped.amount();
    let trim =
        parts.iter().map(|part| part.tally.resident.returnable_bytes + part.tally.top_trim_bytes);
    GlibcHeap {
        path: String::new(),
        version: None,
        arenas: (0..).zip(parts).map(|(index, part)| part.arena(index)).collect(),
        mapped: amount,
        mapped_resident_bytes: mapped.resident_bytes(&surveyor.target),
        mapped_stated_bytes: mapped.stated.map_or(amount.bytes, |stated| stated.bytes),
        parameters: surveyor.parameters.settings,
        trim_bytes: trim.sum(),
        error_bound_bytes: sum([bound_bytes(parts), mapped.bound_bytes(surveyor, layout)]),
    }
}

/// How far the sums of all arenas can be off, at most. What an arena has lost, another may have.
fn bound_bytes(parts: &[Part]) -> u64 {
    let mut movement = Movement::default();
    parts.iter().for_each(|part| movement += part.movement);
    let standing = parts.iter().map(Part::standing_bound_bytes);
    sum(standing.chain([movement.bound_bytes()]))
}

/// The arenas, and what is needed to walk them.
pub(super) fn survey<'t>(
    target: &Target<'t>,
    memory: &'t PresentMemory<'t>,
    layout: &Layout,
) -> Result<(Vec<ArenaState>, Surveyor<'t>), WalkError> {
    let address = layout.main_arena;
    let (mut states, end) = ring(memory, layout);
    let lost_arena = match end {
        RingEnd::Closed => None,
        RingEnd::InSwap(lost) if lost != address => Some(lost),
        RingEnd::InSwap(_) => return Err(WalkError::InSwap { address }),
        RingEnd::Broken if states.is_empty() => return Err(WalkError::Unreadable { address }),
        RingEnd::Broken => return Err(WalkError::BrokenRing { address }),
    };
    if lost_arena.is_some() {
        states.extend(lost::behind(target, memory, layout.shape, &states));
    }
    let parameters = layout.parameters.as_ref();
    let parameters = parameters.and_then(|layout| Parameters::read(memory, target, layout));
    let mut parameters = parameters.unwrap_or_default();
    if layout.parameters.is_none() {
        parameters.program_break = start_of_heap(target);
    }
    let surveyor = Surveyor {
        target: *target,
        memory,
        shape: layout.shape,
        parameters,
        main_arena: address,
        arenas: states.iter().map(|state| state.address).collect(),
        lost_arena,
    };
    Ok((states, surveyor))
}

/// Where the main arena starts in programs that nobody but malloc calls `sbrk` in.
fn start_of_heap(target: &Target<'_>) -> Option<u64> {
    target.mappings.iter().find(|mapping| mapping.name == "[heap]").map(|mapping| mapping.start)
}
