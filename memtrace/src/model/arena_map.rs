//! A picture of an arena: what each part of its memory holds.

use serde::{Deserialize, Serialize};

/// Resident bytes of a part of an arena by what they are. It is written as a list of numbers in
/// the order of the fields, because there are many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u64; 6]", into = "[u64; 6]")]
pub struct ArenaCell {
    /// Handed out and not freed.
    pub in_use_bytes: u64,
    /// Free, on pages that `malloc_trim(0)` gives back.
    pub returnable_bytes: u64,
    /// Free, on pages that cannot be given back.
    pub trapped_bytes: u64,
    /// In tcaches and fastbins.
    pub cached_bytes: u64,
    /// The unused end of a heap.
    pub top_bytes: u64,
    /// The allocator's own, somebody else's, or not understood.
    pub other_bytes: u64,
}

impl ArenaCell {
    /// All of it; what a cell has besides is not there.
    pub fn resident_bytes(self) -> u64 {
        <[u64; 6]>::from(self).into_iter().fold(0, u64::saturating_add)
    }
}

impl std::ops::AddAssign for ArenaCell {
    fn add_assign(&mut self, other: Self) {
        let (mut sum, other) = (<[u64; 6]>::from(*self), <[u64; 6]>::from(other));
        sum.iter_mut().zip(other).for_each(|(one, more)| *one = one.saturating_add(more));
        *self = sum.into();
    }
}

impl From<[u64; 6]> for ArenaCell {
    fn from([in_use, returnable, trapped, cached, top, other]: [u64; 6]) -> Self {
        Self {
            in_use_bytes: in_use,
            returnable_bytes: returnable,
            trapped_bytes: trapped,
            cached_bytes: cached,
            top_bytes: top,
            other_bytes: other,
        }
    }
}

impl From<ArenaCell> for [u64; 6] {
    fn from(cell: ArenaCell) -> Self {
        let ArenaCell { in_use_bytes, returnable_bytes, trapped_bytes, .. } = cell;
        let ArenaCell { cached_bytes, top_bytes, other_bytes, .. } = cell;
        [in_use_bytes, returnable_bytes, trapped_bytes, cached_bytes, top_bytes, other_bytes]
    }
}

/// A stretch of an arena's memory in cells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MapSegment {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// The first begins at the multiple of the cell's size at or before `start`.
    pub cells: Vec<ArenaCell>,
}

/// All of an arena's memory in cells of one size, ascending. The cells add up to the resident
/// bytes of the arena.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ArenaMap {
    /// Size of a cell, a power of two; 0 where there is no map.
    pub cell_bytes: u64,
    /// The stretches.
    pub segments: Vec<MapSegment>,
}

impl ArenaMap {
    /// The sum of all cells.
    pub fn total(&self) -> ArenaCell {
        let mut sum = ArenaCell::default();
        self.segments.iter().flat_map(|it| &it.cells).for_each(|cell| sum += *cell);
        sum
    }

    /// Makes cells twice as large.
    pub fn coarsen(&mut self) {
        let cell_bytes = self.cell_bytes;
        self.cell_bytes = cell_bytes.saturating_mul(2);
        for segment in &mut self.segments {
            let is_second = segment.start / cell_bytes.max(1) % 2;
            segment.cells = pairs(&segment.cells, is_second as usize);
        }
    }

    /// The stretch that an address is in, in a map that ascends.
    pub fn segment_of(&mut self, address: u64) -> Option<&mut MapSegment> {
        let after = self.segments.partition_point(|segment| segment.start <= address);
        let segment = self.segments.get_mut(after.checked_sub(1)?)?;
        (address < segment.end).then_some(segment)
    }
}

/// Sums of pairs; `alone` of the cells at the beginning are the second of theirs.
fn pairs(cells: &[ArenaCell], alone: usize) -> Vec<ArenaCell> {
    let (first, rest) = cells.split_at(alone.min(cells.len()));
    let sum = |cells: &[ArenaCell]| {
        let mut sum = ArenaCell::default();
        cells.iter().for_each(|cell| sum += *cell);
        sum
    };
    first.chunks(1).chain(rest.chunks(2)).map(sum).collect()
}

impl MapSegment {
    /// How many cells it has room for.
    pub fn room(&self, cell_bytes: u64) -> u64 {
        let cell_bytes = cell_bytes.max(1);
        self.end.div_ceil(cell_bytes).saturating_sub(self.start / cell_bytes)
    }

    /// Visits every cell that a range is in, with the part of the range in it.
    pub fn each_cell(
        &mut self,
        cell_bytes: u64,
        start: u64,
        end: u64,
        mut visit: impl FnMut(&mut ArenaCell, u64, u64),
    ) {
        let cell_bytes = cell_bytes.max(1);
        let base = self.start / cell_bytes;
        let mut at = start.max(self.start);
        let end = end.min(self.end);
        while at < end {
            let number = at / cell_bytes;
            let next = number.saturating_add(1).saturating_mul(cell_bytes).min(end);
            if let Some(cell) = self.cells.get_mut((number - base) as usize) {
                visit(cell, at, next);
            }
            at = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(in_use_bytes: u64) -> ArenaCell {
        ArenaCell { in_use_bytes, ..ArenaCell::default() }
    }

    #[test]
    fn larger_cells_begin_at_multiples_of_their_size() {
        let cells = vec![cell(1), cell(2), cell(3), cell(4)];
        let segment = MapSegment { start: 0x3010, end: 0x6800, cells };
        let mut map = ArenaMap { cell_bytes: 0x1000, segments: vec![segment] };
        map.coarsen();
        assert_eq!(map.cell_bytes, 0x2000);
        assert_eq!(map.segments[0].cells, [cell(1), cell(5), cell(4)]);
        assert_eq!(map.segments[0].room(0x2000), 3);
    }

    #[test]
    fn a_range_is_cut_at_the_borders_of_cells() {
        let cells = vec![ArenaCell::default(); 3];
        let mut segment = MapSegment { start: 0x3010, end: 0x6000, cells };
        segment.each_cell(0x1000, 0x3f00, 0x5001, |cell, from, to| cell.top_bytes += to - from);
        let tops: Vec<u64> = segment.cells.iter().map(|cell| cell.top_bytes).collect();
        assert_eq!(tops, [0x100, 0x1000, 1]);
    }

    #[test]
    fn a_cell_is_a_short_list() {
        let text = serde_json::to_string(&cell(7)).unwrap();
        assert_eq!(text, "[7,0,0,0,0,0]");
        assert_eq!(serde_json::from_str::<ArenaCell>(&text).unwrap(), cell(7));
    }
}
