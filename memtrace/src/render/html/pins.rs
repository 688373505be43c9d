//! Whose blocks keep free memory, and in which cells of the arenas' maps.

use serde::Serialize;

use super::column::Column;
use crate::{
    model::site::Amount,
    render::label::described,
    report::{ArenaCells, ArenaPinsReport, PinnedCells},
};

/// A row.
#[derive(Debug, Serialize)]
pub(super) struct Pins {
    /// In words.
    name: String,
    trapped: Amount,
    arenas: Vec<Cells>,
}

/// Of an arena, by its place in the report.
#[derive(Debug, Serialize)]
struct Cells {
    heap: usize,
    arena: usize,
    /// Each as the difference to the one before.
    cells: Column,
}

pub(super) fn pins(report: &[PinnedCells]) -> Vec<Pins> {
    let row = |it: &PinnedCells| Pins {
        name: described(&it.name.frame()),
        trapped: it.trapped,
        arenas: it.arenas.iter().map(cells).collect(),
    };
    report.iter().map(row).collect()
}

/// What the places that keep CPython's arenas are called, in words and in their order.
pub(super) fn arena_pin_names(report: Option<&ArenaPinsReport>) -> Vec<String> {
    let places = report.map_or(&[][..], |report| &report.places);
    places.iter().map(|place| described(&place.name.frame())).collect()
}

fn cells(of: &ArenaCells) -> Cells {
    let (mut cells, mut last) = (Column::default(), 0);
    for cell in &of.cells {
        cells.push(u64::from(cell.saturating_sub(last)));
        last = *cell;
    }
    Cells { heap: of.heap, arena: of.arena, cells }
}
