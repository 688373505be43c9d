//! The stretches of memory that an arena consists of.

use std::collections::HashSet;

use super::{
    arena::{ArenaState, Parameters},
    heaps, noncontiguous,
    shape::{ALIGNMENT_BYTES, ArenaShape, FLAGS, HEAP_MAX_BYTES, SMALLEST_CHUNK_BYTES, align_up},
    tally::TopTrim,
    target::{PresentMemory, Target},
};

/// Chunks next to each other, from `first` to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where its memory starts: with headers of the heap and the arena.
    pub start: u64,
    /// The first chunk.
    pub first: u64,
    /// One past its last byte.
    pub end: u64,
    /// The arena's `top`, when it is in this segment.
    pub top: Option<u64>,
    /// What trimming takes of `top`.
    pub top_trim: TopTrim,
    /// It is the main arena's: its chunks never have `NON_MAIN_ARENA`.
    pub is_main: bool,
}

/// What segments are found by.
pub struct Surveyor<'t> {
    /// The process.
    pub target: Target<'t>,
    /// Its memory.
    pub memory: &'t PresentMemory<'t>,
    /// Form of `malloc_state`.
    pub shape: ArenaShape,
    /// `mp_`.
    pub parameters: Parameters,
    /// Address of the main arena.
    pub main_arena: u64,
    /// Addresses of all arenas.
    pub arenas: HashSet<u64>,
    /// The arena whose state is in swap, where the ring could not be followed.
    pub lost_arena: Option<u64>,
}

impl Surveyor<'_> {
    /// An arena as it is now, or as it is `known`, when it cannot be read.
    pub fn state(&self, known: &ArenaState) -> ArenaState {
        ArenaState::read(self.memory, self.shape, known.address).unwrap_or(*known)
    }

    /// An arena's segments, as many as can be found: together they have `system_mem`.
    pub fn segments(&self, arena: &ArenaState) -> Vec<Segment> {
        match arena.top {
            None => Vec::new(),
            Some(top) if arena.address != self.main_arena => heaps::segments(self, arena, top),
            Some(top) => self.main_segments(arena, top),
        }
    }

    fn main_segments(&self, arena: &ArenaState, top: u64) -> Vec<Segment> {
        let start = self.parameters.program_break.filter(|start| *start <= top);
        match (self.end_of_top(top), start) {
            (Some(end), Some(start)) if !arena.noncontiguous => {
                let is_possible = end <= self.furthest_end(start);
                let segment = is_possible.then(|| self.main_segment(start, end, Some(top)));
                segment.into_iter().collect()
            }
            (Some(_), _) => noncontiguous::segments(self, top),
            (None, _) => Vec::new(),
        }
    }

    /// How far memory that starts here can reach: to the end of the mappings that follow each
    /// other, and some more, because the heap may have grown since they were read.
    fn furthest_end(&self, start: u64) -> u64 {
        let after = self.target.mappings.partition_point(|mapping| mapping.end <= start);
        let mut end = start;
        for mapping in &self.target.mappings[after..] {
            if mapping.start > end || !mapping.permissions.write {
                break;
            }
            end = mapping.end;
        }
        end.saturating_add(end - start).saturating_add(HEAP_MAX_BYTES)
    }

    /// The main arena's memory from the program break on.
    pub fn main_segment(&self, start: u64, end: u64, top: Option<u64>) -> Segment {
        let top_trim = match self.target.mapping(end - 1) {
            Some(mapping) if mapping.end == end && mapping.name == "[heap]" => {
                TopTrim::By(self.parameters.transparent_huge_page_bytes.max(self.target.page_bytes))
            }
            _ => TopTrim::Never,
        };
        let first = align_up(start, ALIGNMENT_BYTES);
        Segment { start, first, end, top, top_trim, is_main: true }
    }

    /// Where `top` ends: whatever is behind it is not the arena's.
    pub fn end_of_top(&self, top: u64) -> Option<u64> {
        let size = self.memory.word(top.checked_add(8)?)? & !FLAGS;
        let end = top.checked_add(size)?;
        (size >= SMALLEST_CHUNK_BYTES && top.is_multiple_of(ALIGNMENT_BYTES)).then_some(end)
    }

    /// Reads a segment's end again, and `top`'s place: they move. `true` when they had.
    pub fn refresh(&self, arena: u64, segment: &mut Segment) -> bool {
        if segment.top.is_none() {
            return false;
        }
        self.memory.forget();
        let before = *segment;
        let top = ArenaState::read_top(self.memory, self.shape, arena).flatten();
        if let Some(top) = top.filter(|top| *top >= segment.first) {
            let end = self.end_of_top(top).filter(|end| self.may_end_at(segment, *end));
            (segment.top, segment.end) = (Some(top), end.unwrap_or(segment.end));
        }
        *segment != before
    }

    /// The segment may have grown or shrunk, but it is one mapping and has no end within a page.
    fn may_end_at(&self, segment: &Segment, end: u64) -> bool {
        let limit = if segment.is_main {
            self.furthest_end(segment.start)
        } else {
            segment.start.saturating_add(HEAP_MAX_BYTES)
        };
        end.is_multiple_of(self.target.page_bytes) && end > segment.first && end <= limit
    }
}
