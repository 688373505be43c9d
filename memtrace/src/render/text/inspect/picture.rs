//! One line for all of an arena's memory: how much of what is resident is in use, from its lowest
//! address to its highest.

use crate::{
    model::arena_map::{ArenaCell, ArenaMap},
    render::text::page::{Page, Style},
};

/// No wider than this, and as wide as this where there is no terminal.
const MOST_COLUMNS: usize = 76;
/// The bars at both ends.
const FRAME_COLUMNS: usize = 2;

pub(super) const LEGEND: &str = "Below each arena its memory by address: \u{2588} in use, \u{2593} \
                                 mostly, \u{2592} half, \u{2591} less or free, blank not resident.";

/// The line, if there is a map.
pub(super) fn write(page: &mut Page, map: &ArenaMap) {
    let cells: Vec<ArenaCell> = map.segments.iter().flat_map(|it| &it.cells).copied().collect();
    let columns = page.room(FRAME_COLUMNS).min(MOST_COLUMNS).min(cells.len());
    if columns > 0 {
        let border = |column: usize| column * cells.len() / columns;
        let columns = (0..columns).map(|at| shade(&cells[border(at)..border(at + 1)]));
        page.line(Some(Style::Faint), &format!("|{}|", columns.collect::<String>()));
    }
}

fn shade(cells: &[ArenaCell]) -> char {
    let mut sum = ArenaCell::default();
    cells.iter().for_each(|cell| sum += *cell);
    let resident = sum.resident_bytes();
    if resident == 0 {
        return ' ';
    }
    match sum.in_use_bytes as f64 / resident as f64 {
        share if share > 0.9 => '\u{2588}',
        share if share > 0.6 => '\u{2593}',
        share if share > 0.3 => '\u{2592}',
        _ => '\u{2591}',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::arena_map::MapSegment, render::text::TextOptions};

    fn cell(in_use_bytes: u64, trapped_bytes: u64) -> ArenaCell {
        ArenaCell { in_use_bytes, trapped_bytes, ..ArenaCell::default() }
    }

    fn drawn(cells: Vec<ArenaCell>) -> String {
        let mut page = Page::new(TextOptions { width: Some(62), ..TextOptions::default() });
        let segments = vec![MapSegment { start: 0, end: 4096 * cells.len() as u64, cells }];
        write(&mut page, &ArenaMap { cell_bytes: 4096, segments });
        page.finish()
    }

    #[test]
    fn a_column_is_as_dark_as_its_memory_is_in_use() {
        let cells = vec![cell(9, 0), cell(7, 3), cell(4, 6), cell(1, 9), cell(0, 0)];
        assert_eq!(drawn(cells), "|\u{2588}\u{2593}\u{2592}\u{2591} |\n");
    }

    #[test]
    fn the_line_is_as_wide_as_the_terminal_at_most() {
        let line = drawn(vec![cell(1, 0); 500]);
        assert_eq!(line.trim_end().chars().count(), 62);
        assert_eq!(drawn(Vec::new()), "");
    }
}
