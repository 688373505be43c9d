//! A picture of an arena, drawn while it is walked: never more than so many cells, which become
//! larger with the arena.

use super::{
    book::{Note, RangeKind},
    target::Pages,
};
use crate::model::arena_map::{ArenaCell, ArenaMap, MapSegment};

/// Most cells of an arena, besides one for each of its segments.
const MOST_CELLS: u64 = 512;

/// A part of a cell.
type Part = fn(&mut ArenaCell) -> &mut u64;

/// The picture as far as it was drawn.
#[derive(Clone, Debug)]
pub struct Drawing {
    map: ArenaMap,
    /// Cells of the segments that are finished.
    finished_cells: u64,
    /// Ranges of the run of free chunks that is not over: (in a fastbin, start, end).
    run: Vec<(bool, u64, u64)>,
}

impl Drawing {
    /// Nothing yet; the smallest cell is a page.
    pub fn new(page_bytes: u64) -> Self {
        let map = ArenaMap { cell_bytes: page_bytes, segments: Vec::new() };
        Self { map, finished_cells: 0, run: Vec::new() }
    }

    /// The picture.
    pub fn finish(mut self) -> ArenaMap {
        self.map.segments.sort_by_key(|segment| segment.start);
        self.map
    }

    /// What is noted from now on is in the segment that starts here.
    pub fn begin(&mut self, start: u64) {
        self.finished_cells = self.cells();
        self.map.segments.push(MapSegment { start, end: start, cells: Vec::new() });
    }

    /// That segment ends here.
    pub fn end(&mut self, end: u64) {
        self.reach(end);
    }

    /// Draws what was noted.
    pub fn draw(&mut self, notes: impl Iterator<Item = Note>) {
        for note in notes {
            match note {
                Note::Range { kind, start, end } => self.range(kind, start, end),
                Note::RunEnd { from, until } => self.end_run(from, until),
            }
        }
    }

    fn range(&mut self, kind: RangeKind, start: u64, end: u64) {
        match kind {
            RangeKind::Free => self.run.push((false, start, end)),
            RangeKind::Fast => self.run.push((true, start, end)),
            RangeKind::InUse => self.add(start, end, |cell| &mut cell.in_use_bytes),
            RangeKind::Top => self.add(start, end, |cell| &mut cell.top_bytes),
            RangeKind::Other => self.add(start, end, |cell| &mut cell.other_bytes),
        }
    }

    fn end_run(&mut self, from: u64, until: u64) {
        let mut run = std::mem::take(&mut self.run);
        for (is_fast, start, end) in run.drain(..) {
            let kept: Part = if is_fast {
                |cell| &mut cell.cached_bytes
            } else {
                |cell| &mut cell.trapped_bytes
            };
            let first = from.clamp(start, end);
            let last = until.clamp(first, end);
            self.add(start, first, kept);
            self.add(first, last, |cell| &mut cell.returnable_bytes);
            self.add(last, end, kept);
        }
        self.run = run;
    }

    fn add(&mut self, start: u64, end: u64, part: Part) {
        if start >= end {
            return;
        }
        self.reach(end);
        let cell_bytes = self.map.cell_bytes;
        if let Some(segment) = self.map.segments.last_mut() {
            segment.each_cell(cell_bytes, start, end, |cell, from, to| *part(cell) += to - from);
        }
    }

    /// Makes room up to an address.
    fn reach(&mut self, end: u64) {
        let Some(last) = self.map.segments.last_mut().filter(|it| it.end < end) else { return };
        last.end = end;
        while self.cells() > MOST_CELLS + self.map.segments.len() as u64 {
            self.map.coarsen();
            let finished = self.map.segments.split_last().map_or(&[][..], |(_, rest)| rest);
            self.finished_cells = finished.iter().map(|it| it.cells.len() as u64).sum();
        }
        let cell_bytes = self.map.cell_bytes;
        if let Some(last) = self.map.segments.last_mut() {
            last.cells.resize(last.room(cell_bytes) as usize, ArenaCell::default());
        }
    }

    fn cells(&self) -> u64 {
        let last = self.map.segments.last().map_or(0, |last| last.room(self.map.cell_bytes));
        self.finished_cells + last
    }
}

/// Takes what is in use in a range for something else, as much of it as is there and drawn as in
/// use; returns how much.
pub fn redraw(
    map: &mut ArenaMap,
    pages: &mut Pages<'_>,
    (start, end): (u64, u64),
    part: fn(&mut ArenaCell) -> &mut u64,
) -> u64 {
    let cell_bytes = map.cell_bytes;
    let mut sum = 0;
    if let Some(segment) = map.segment_of(start) {
        segment.each_cell(cell_bytes, start, end, |cell, from, to| {
            let bytes = pages.presence(from, to).resident_bytes.min(cell.in_use_bytes);
            cell.in_use_bytes -= bytes;
            *part(cell) += bytes;
            sum += bytes;
        });
    }
    sum
}
