//! Single linked lists of chunks: fastbins and tcaches. Since 2.32 their links are mangled with
//! their own address (`PROTECT_PTR`); whether they are is seen by which reading leads on.

use super::{
    shape::{ALIGNMENT_BYTES, CHUNK_HEADER_BYTES, FLAGS, SMALLEST_CHUNK_BYTES},
    target::PresentMemory,
};
use crate::model::census::Extent;

/// The memory of all segments: nothing else is a chunk.
#[derive(Clone, Debug, Default)]
pub struct ArenaMap {
    /// Ascending, with the arena's number.
    ranges: Vec<(Extent, u32)>,
}

impl ArenaMap {
    /// Of these ranges.
    pub fn new(mut ranges: Vec<(Extent, u32)>) -> Self {
        ranges.sort_unstable();
        Self { ranges }
    }

    /// The arena that an address belongs to.
    pub fn arena_of(&self, address: u64) -> Option<u32> {
        let after = self.ranges.partition_point(|(extent, _)| extent.start <= address);
        let (extent, arena) = *self.ranges.get(after.checked_sub(1)?)?;
        (address < extent.end).then_some(arena)
    }
}

/// A list to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    /// The first chunk.
    pub head: u64,
    /// Where its link points to, from the chunk on: fastbins to chunks, tcaches to the program's
    /// part of them.
    pub link_target: u64,
    /// The size that all of them have; `None` when it is not the same.
    pub chunk_bytes: Option<u64>,
    /// No more than this.
    pub most: usize,
}

/// What a list turned out to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// The chunks and their sizes, in the list's order.
    pub chunks: Vec<(u64, u64)>,
    /// The list came to its end.
    pub complete: bool,
}

/// Follows lists, and learns on the way how links are written.
pub struct Follower<'m, 't> {
    memory: &'m PresentMemory<'t>,
    map: &'m ArenaMap,
    /// `None` until a list came to its end.
    mangled: Option<bool>,
}

impl<'m, 't> Follower<'m, 't> {
    /// Knows nothing yet.
    pub fn new(memory: &'m PresentMemory<'t>, map: &'m ArenaMap) -> Self {
        Self { memory, map, mangled: None }
    }

    /// Where lists may lead.
    pub fn map(&self) -> &'m ArenaMap {
        self.map
    }

    /// The memory that lists are read from.
    pub fn memory(&self) -> &'m PresentMemory<'t> {
        self.memory
    }

    /// Follows a list as far as it makes sense.
    pub fn follow(&mut self, list: List) -> Followed {
        if let Some(mangled) = self.mangled {
            return self.read(list, mangled);
        }
        let [mangled, plain] = [true, false].map(|mangled| self.read(list, mangled));
        let is_mangled =
            (mangled.complete, mangled.chunks.len()) >= (plain.complete, plain.chunks.len());
        // The end of a list is 0 read one way, and nonsense read the other way.
        if mangled.complete != plain.complete {
            self.mangled = Some(is_mangled);
        }
        if is_mangled { mangled } else { plain }
    }

    fn read(&self, list: List, mangled: bool) -> Followed {
        let mut followed = Followed::default();
        let mut chunk = list.head;
        while chunk != 0 && followed.chunks.len() < list.most {
            let Some((size, link)) = self.chunk(chunk, list.chunk_bytes) else { return followed };
            followed.chunks.push((chunk, size));
            let key = if mangled { (chunk + CHUNK_HEADER_BYTES) >> 12 } else { 0 };
            let target = link ^ key;
            chunk = if target == 0 { 0 } else { target.wrapping_sub(list.link_target) };
        }
        followed.complete = chunk == 0;
        followed
    }

    /// Size and link of a chunk, if it can be one.
    fn chunk(&self, chunk: u64, expected: Option<u64>) -> Option<(u64, u64)> {
        self.map.arena_of(chunk).filter(|_| chunk.is_multiple_of(ALIGNMENT_BYTES))?;
        let [header, link] = self.memory.words(chunk.checked_add(8)?)?;
        let size = header & !FLAGS;
        let fits = expected.is_none_or(|expected| size == expected);
        (fits && size >= SMALLEST_CHUNK_BYTES).then_some((size, link))
    }
}

/// Most chunks that are taken from the fastbins of an arena: their addresses are kept during its
/// walk.
const MOST_FAST: usize = 1 << 20;

/// Larger chunks are in no fastbin (`MAX_FAST_SIZE` and a header).
pub const LARGEST_FAST_CHUNK_BYTES: u64 = 0xb0;

/// The chunks in an arena's fastbins, ascending.
pub fn fastbin_chunks(follower: &mut Follower<'_, '_>, heads: &[u64]) -> Vec<u64> {
    let mut all = Vec::new();
    for (number, head) in (0..).zip(heads).filter(|(_, head)| **head != 0) {
        let list = List {
            head: *head,
            link_target: 0,
            chunk_bytes: Some(SMALLEST_CHUNK_BYTES + ALIGNMENT_BYTES * number),
            most: MOST_FAST.saturating_sub(all.len()),
        };
        all.extend(follower.follow(list).chunks.into_iter().map(|(chunk, _)| chunk));
    }
    all.sort_unstable();
    // A list that was changed while it was read can lead round.
    all.dedup();
    all
}
