//! A walk of everything that a glibc has: the ring of arenas, their segments chunk by chunk, the
//! caches, the blocks that were mapped one by one.
//!
//! Memory needed does not depend on the heap's size: chunks are added up as they come by, and only
//! those in fastbins (of one arena) and tcaches are remembered.

use thiserror::Error;

use super::{
    arena::{ArenaState, Parameters, ring},
    chain::Chain,
    inquiry::{BlockState, Blocks, Chunk, Observer},
    layout::Layout,
    links::{ArenaMap, Follower, fastbin_chunks},
    mapped::{self, Expected},
    segment::{Segment, Surveyor},
    shape::align_down,
    tally::Tally,
    target::{Pages, PresentMemory, Target},
    tcache::{self, Candidates, Tcaches},
};
use crate::model::{
    census::{Arena, Extent, GlibcHeap, HeapResidency, WalkQuality},
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
    /// Addresses of chunks in tcaches, ascending.
    pub tcache_chunks: Vec<u64>,
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
    let mut blocks = Blocks::new(request.blocks);
    let mut walker = Walker { surveyor: &surveyor, parts: Vec::new(), tcaches: Tcaches::default() };
    walker.arenas(&states, &mut blocks);
    memory.forget();
    let mut walked = walker.result(target, layout, request.excluded);
    blocks.settle(&walker.tcaches, &walked.mapped);
    walked.blocks = blocks.states;
    walked.blocks_in_use = blocks.in_use;
    Ok(walked)
}

/// Calls `visit` with every chunk in use that is in no cache, each segment's in ascending order,
/// and the number of its arena. `tcache_chunks` is what a walk right before found.
///
/// Errors: see [`WalkError`].
pub fn visit_chunks_in_use(
    target: &Target<'_>,
    layout: &Layout,
    tcache_chunks: &[u64],
    visit: &mut dyn FnMut(u32, Chunk),
) -> Result<(), WalkError> {
    let memory = PresentMemory::new(target);
    let (states, surveyor) = survey(target, &memory, layout)?;
    let mut visitor = Visitor { arena: 0, tcache_chunks, visit };
    let mut walker = Walker { surveyor: &surveyor, parts: Vec::new(), tcaches: Tcaches::default() };
    walker.arenas(&states, &mut visitor);
    Ok(())
}

struct Visitor<'v> {
    arena: u32,
    tcache_chunks: &'v [u64],
    visit: &'v mut dyn FnMut(u32, Chunk),
}

impl Observer for Visitor<'_> {
    fn is_interested(&self) -> bool {
        true
    }

    fn chunk(&mut self, chunk: Chunk) {
        if chunk.in_use && self.tcache_chunks.binary_search(&chunk.start).is_err() {
            (self.visit)(self.arena, chunk);
        }
    }

    fn arena(&mut self, index: u32) {
        self.arena = index;
    }
}

fn survey<'t>(
    target: &Target<'t>,
    memory: &'t PresentMemory<'t>,
    layout: &Layout,
) -> Result<(Vec<ArenaState>, Surveyor<'t>), WalkError> {
    let address = layout.main_arena;
    let (states, closes) = ring(memory, layout);
    if states.is_empty() {
        return Err(WalkError::Unreadable { address });
    }
    if !closes {
        return Err(WalkError::BrokenRing { address });
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
    };
    Ok((states, surveyor))
}

/// Where the main arena starts in programs that nobody but malloc calls `sbrk` in.
fn start_of_heap(target: &Target<'_>) -> Option<u64> {
    target.mappings.iter().find(|mapping| mapping.name == "[heap]").map(|mapping| mapping.start)
}

/// An arena with what was found in it.
struct Part {
    before: ArenaState,
    after: ArenaState,
    segments: Vec<Segment>,
    tally: Tally,
    tcache: Amount,
    structures: Amount,
    retries: u64,
    resyncs: u64,
}

struct Walker<'s> {
    surveyor: &'s Surveyor<'s>,
    parts: Vec<Part>,
    tcaches: Tcaches,
}

impl Walker<'_> {
    fn arenas(&mut self, states: &[ArenaState], observer: &mut dyn Observer) {
        let most_in_bin = self.surveyor.parameters.settings.tcache_count;
        let mut candidates = Candidates::with_most_in_bin(most_in_bin);
        for (index, state) in (0..).zip(states) {
            observer.arena(index);
            let part = self.arena(state, observer, &mut candidates);
            self.parts.push(part);
        }
        self.read_tcaches(&candidates);
    }

    fn arena(
        &self,
        state: &ArenaState,
        observer: &mut dyn Observer,
        candidates: &mut Candidates,
    ) -> Part {
        let surveyor = self.surveyor;
        surveyor.memory.forget();
        let read = || ArenaState::read(surveyor.memory, surveyor.shape, state.address);
        let before = read().unwrap_or(*state);
        let mut segments = surveyor.segments(&before);
        let map = ArenaMap::new(extents(&segments).map(|extent| (extent, 0)).collect());
        let mut follower = Follower::new(surveyor.memory, &map);
        let fast = fastbin_chunks(&mut follower, &before.fastbins);
        let mut chain = Chain::new(surveyor, observer, std::mem::take(candidates));
        let mut tally = Tally::default();
        for segment in &mut segments {
            tally = chain.walk(state.address, segment, &fast, tally);
        }
        let (retries, resyncs) = (chain.retries, chain.resyncs);
        *candidates = chain.into_candidates();
        surveyor.memory.forget();
        Part {
            before,
            after: read().unwrap_or(before),
            segments,
            tally,
            tcache: Amount::default(),
            structures: Amount::default(),
            retries,
            resyncs,
        }
    }

    fn read_tcaches(&mut self, candidates: &Candidates) {
        let numbered = (0..).zip(&self.parts);
        let ranges = numbered
            .flat_map(|(index, part)| extents(&part.segments).map(move |extent| (extent, index)));
        let map = ArenaMap::new(ranges.collect());
        self.tcaches = tcache::read(&mut Follower::new(self.surveyor.memory, &map), candidates);
        let mut pages = Pages::new(&self.surveyor.target);
        for (chunk, size) in self.tcaches.chunks.clone() {
            if let Some(part) = map.arena_of(chunk).and_then(|it| self.part(it)) {
                part.cached(&mut pages, chunk, size);
            }
        }
        for (chunk, size) in self.tcaches.structures.clone() {
            if let Some(part) = map.arena_of(chunk).and_then(|it| self.part(it)) {
                part.structure(&mut pages, chunk, size);
            }
        }
    }

    fn part(&mut self, index: u32) -> Option<&mut Part> {
        self.parts.get_mut(index as usize)
    }

    fn result(&self, target: &Target<'_>, layout: &Layout, excluded: &[Extent]) -> Walked {
        let segments = self.parts.iter().flat_map(|it| extents(&it.segments));
        let page = |it: Extent| Extent { start: align_down(it.start, target.page_bytes), ..it };
        let segments = mapped::merge(segments.map(page).collect());
        let excluded = [segments.as_slice(), excluded].concat();
        let expected = mapped::expected(self.surveyor.memory, layout.parameters.as_ref());
        let mapped = mapped::find(target, layout.shape, &mapped::merge(excluded), expected);
        let heap = self.heap(target, &mapped, expected);
        let tcache_chunks = self.tcaches.chunks.iter().map(|(chunk, _)| *chunk).collect();
        Walked { heap, segments, mapped, tcache_chunks, ..Walked::default() }
    }

    fn heap(
        &self,
        target: &Target<'_>,
        mapped: &[Extent],
        expected: Option<Expected>,
    ) -> GlibcHeap {
        let mut pages = Pages::new(target);
        let mut amount = Amount::default();
        let mut mapped_resident_bytes = 0;
        for block in mapped {
            amount += Amount::one(block.bytes());
            mapped_resident_bytes += pages.presence(block.start, block.end).resident_bytes;
        }
        let arenas: Vec<_> = (0..).zip(&self.parts).map(|(index, it)| it.arena(index)).collect();
        let trim = self
            .parts
            .iter()
            .map(|part| part.tally.resident.returnable_bytes + part.tally.top_trim_bytes);
        GlibcHeap {
            path: String::new(),
            version: None,
            mapped: amount,
            mapped_resident_bytes,
            mapped_stated_bytes: expected.map_or(amount.bytes, |expected| expected.bytes),
            parameters: self.surveyor.parameters.settings,
            trim_bytes: trim.sum(),
            arenas,
        }
    }
}

fn extents(segments: &[Segment]) -> impl Iterator<Item = Extent> {
    segments.iter().map(|segment| Extent { start: segment.start, end: segment.end })
}

impl Part {
    /// A chunk that was taken for one in use is in a tcache.
    fn cached(&mut self, pages: &mut Pages<'_>, chunk: u64, size: u64) {
        let resident = self.take(pages, chunk, size);
        self.tally.resident.cached_bytes += resident;
        self.tcache += Amount::one(size);
    }

    /// A chunk that was taken for one in use is a tcache itself.
    fn structure(&mut self, pages: &mut Pages<'_>, chunk: u64, size: u64) {
        let resident = self.take(pages, chunk, size);
        self.tally.resident.metadata_bytes += resident;
        self.structures += Amount::one(size);
    }

    /// Takes a chunk out of those in use; returns its resident bytes.
    fn take(&mut self, pages: &mut Pages<'_>, chunk: u64, size: u64) -> u64 {
        let in_use = &mut self.tally.in_use;
        in_use.bytes = in_use.bytes.saturating_sub(size);
        in_use.count = in_use.count.saturating_sub(1);
        let resident = &mut self.tally.resident;
        let bytes = pages.presence(chunk, chunk.saturating_add(size)).resident_bytes;
        let bytes = bytes.min(resident.in_use_bytes);
        resident.in_use_bytes -= bytes;
        bytes
    }

    fn arena(&self, index: u32) -> Arena {
        let tally = &self.tally;
        let system_bytes = self.after.system_bytes;
        let chunks = tally.in_use.bytes + tally.free.bytes + tally.fastbins.bytes;
        let others = chunks + tally.top_bytes + self.tcache.bytes;
        Arena {
            index,
            address: self.after.address,
            attached_threads: self.after.attached_threads,
            system_bytes,
            max_system_bytes: self.after.max_system_bytes,
            segments: self.segments.len() as u32,
            in_use: tally.in_use,
            free: tally.free,
            top_bytes: tally.top_bytes,
            fastbins: tally.fastbins,
            tcache: self.tcache,
            overhead_bytes: system_bytes.saturating_sub(others),
            resident: HeapResidency { ..tally.resident },
            quality: self.quality(),
        }
    }

    fn quality(&self) -> WalkQuality {
        let tally = &self.tally;
        let walked = tally.walked_bytes() + self.tcache.bytes + self.structures.bytes;
        let grown = self.after.system_bytes.abs_diff(self.before.system_bytes);
        let unexplained = self.after.system_bytes.abs_diff(walked);
        WalkQuality {
            skipped_bytes: tally.skipped_bytes,
            retries: self.retries,
            resyncs: self.resyncs,
            swapped_bytes: tally.swapped_bytes,
            error_bound_bytes: tally.skipped_bytes + tally.swapped_bytes + grown + unexplained,
        }
    }
}
