//! Where in the maps of arenas the blocks lie that keep the most free memory.

use std::{cmp::Reverse, collections::BTreeSet};

use super::{
    build::SiteInput,
    group::{GroupBy, GroupName, group_slots},
    site_function,
};
use crate::{
    capture::Capture,
    model::{
        census::GlibcHeap,
        site::{Amount, LiveItem},
    },
};

/// Groups that are looked for: a picture of more is none.
const GROUPS: usize = 16;

/// `malloc/malloc.c`, `CHUNK_HDR_SZ`: a chunk begins so far before the program's memory.
const HEADER_BYTES: u64 = 16;

/// A group's blocks in the maps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PinnedCells {
    /// What sites were taken together by.
    pub name: GroupName,
    /// Free memory that they keep.
    pub trapped: Amount,
    /// By arena, ascending.
    pub arenas: Vec<ArenaCells>,
}

/// Cells of an arena's map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArenaCells {
    /// Index of the heap in [`super::HeapReport::glibc`].
    pub heap: usize,
    /// Index of the arena in it.
    pub arena: usize,
    /// Numbers of cells, over all segments, ascending: those with trapped memory that blocks lie in.
    pub cells: Vec<u32>,
}

/// Of the groups that keep the most; those of which nothing lies in a map have no arenas.
pub(super) fn of(capture: &Capture, by: GroupBy, sites: &[SiteInput]) -> Vec<PinnedCells> {
    let Some(census) = &capture.walks.after else { return Vec::new() };
    let (slots, count) = group_slots(by, sites);
    let mut groups: Vec<(usize, Amount)> =
        trapped(sites, &slots, count).into_iter().enumerate().collect();
    groups.retain(|(_, trapped)| trapped.bytes > 0);
    groups.sort_by_key(|(slot, trapped)| (Reverse(trapped.bytes), *slot));
    groups.truncate(GROUPS);
    let mut places = vec![None; count];
    groups.iter().enumerate().for_each(|(place, (slot, _))| places[*slot] = Some(place));
    let place_of = |item: &LiveItem| places[*slots.get(item.site as usize)?];
    let mut cells = vec![BTreeSet::new(); groups.len()];
    let segments = segments(&census.glibc);
    for item in &capture.live {
        if let Some(place) = place_of(item) {
            mark(&mut cells[place], &segments, &census.glibc, item);
        }
    }
    let name = |slot: usize| {
        let site = &sites[slots.iter().position(|of_site| *of_site == slot)?];
        Some(GroupName::of(by, site_function(site.function), &site.stack))
    };
    let found = groups.into_iter().zip(cells);
    found
        .filter_map(|((slot, trapped), cells)| {
            Some(PinnedCells { name: name(slot)?, trapped, arenas: by_arena(cells) })
        })
        .collect()
}

fn trapped(sites: &[SiteInput], slots: &[usize], count: usize) -> Vec<Amount> {
    let mut of_groups = vec![Amount::default(); count];
    for (site, slot) in sites.iter().zip(slots) {
        of_groups[*slot] += site.extras.trapped.unwrap_or_default();
    }
    of_groups
}

/// A segment of a map.
struct Segment {
    start: u64,
    end: u64,
    cell_bytes: u64,
    heap: usize,
    arena: usize,
    segment: usize,
    /// How many cells those before it in the arena have.
    before: usize,
}

/// Of all maps, ascending.
fn segments(heaps: &[GlibcHeap]) -> Vec<Segment> {
    let mut all = Vec::new();
    for (heap, of_heap) in heaps.iter().enumerate() {
        for (arena, of_arena) in of_heap.arenas.iter().enumerate() {
            let (mut before, cell_bytes) = (0, of_arena.map.cell_bytes);
            for (segment, it) in of_arena.map.segments.iter().enumerate() {
                let (start, end) = (it.start, it.end);
                all.push(Segment { start, end, cell_bytes, heap, arena, segment, before });
                before += it.cells.len();
            }
        }
    }
    all.retain(|segment| segment.cell_bytes > 0);
    all.sort_by_key(|segment| segment.start);
    all
}

type Cell = (usize, usize, u32);

fn mark(cells: &mut BTreeSet<Cell>, segments: &[Segment], heaps: &[GlibcHeap], item: &LiveItem) {
    let after = segments.partition_point(|segment| segment.start <= item.address);
    let Some(at) = after.checked_sub(1).map(|at| &segments[at]) else { return };
    if item.address >= at.end {
        return;
    }
    let map = &heaps[at.heap].arenas[at.arena].map.segments[at.segment];
    let base = at.start / at.cell_bytes;
    let number = |address: u64| (address.max(at.start) / at.cell_bytes - base) as usize;
    let first = number(item.address.saturating_sub(HEADER_BYTES));
    let last = number(item.address.saturating_add(item.bytes.max(1) - 1).min(at.end - 1));
    for cell in first..=last {
        let is_trapping = map.cells.get(cell).is_some_and(|cell| cell.trapped_bytes > 0);
        if let Some(number) = u32::try_from(at.before + cell).ok().filter(|_| is_trapping) {
            cells.insert((at.heap, at.arena, number));
        }
    }
}

fn by_arena(cells: BTreeSet<Cell>) -> Vec<ArenaCells> {
    let mut arenas: Vec<ArenaCells> = Vec::new();
    for (heap, arena, cell) in cells {
        match arenas.last_mut().filter(|it| (it.heap, it.arena) == (heap, arena)) {
            Some(known) => known.cells.push(cell),
            None => arenas.push(ArenaCells { heap, arena, cells: vec![cell] }),
        }
    }
    arenas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        capture::CapturedSite,
        model::{
            arena_map::{ArenaCell, ArenaMap, MapSegment},
            census::{Arena, Census},
            trace::Walks,
        },
        report::{SiteExtras, sample},
    };

    fn map(starts: &[u64]) -> ArenaMap {
        let full = ArenaCell { in_use_bytes: 4096, ..ArenaCell::default() };
        let trapping = ArenaCell { in_use_bytes: 96, trapped_bytes: 4000, ..full };
        let segment = |start: &u64| MapSegment {
            start: *start,
            end: start + 0x3000,
            cells: vec![trapping, full, trapping],
        };
        ArenaMap { cell_bytes: 0x1000, segments: starts.iter().map(segment).collect() }
    }

    #[test]
    fn blocks_are_found_in_the_cells_that_trap() {
        let arena = |starts: &[u64]| Arena { map: map(starts), ..Arena::default() };
        let arenas = vec![arena(&[0x10_0000]), arena(&[0x20_0000, 0x30_0000])];
        let glibc = vec![GlibcHeap { arenas, ..GlibcHeap::default() }];
        let live = |address, bytes| LiveItem { address, bytes, ..LiveItem::default() };
        let capture = Capture {
            sites: vec![CapturedSite::default()],
            live: vec![
                live(0x10_0020, 8),
                live(0x10_1ff0, 32),
                live(0x10_1010, 8),
                live(0x30_0000, 0x3000),
                live(0x40_0000, 8),
            ],
            walks: Walks { after: Some(Census { glibc, ..Census::default() }), ..Walks::default() },
            ..Capture::default()
        };
        let trapped = Some(Amount::new(9000, 5));
        let extras = SiteExtras { trapped, ..SiteExtras::default() };
        let sites = [SiteInput { extras, ..sample::any_site() }];
        let found = of(&capture, GroupBy::Line, &sites);
        assert_eq!((found.len(), found[0].trapped.bytes), (1, 9000));
        let cells = |heap, arena, cells| ArenaCells { heap, arena, cells };
        assert_eq!(found[0].arenas, [cells(0, 0, vec![0, 2]), cells(0, 1, vec![3, 5])]);
    }

    #[test]
    fn who_traps_nothing_is_not_looked_for() {
        let capture = Capture {
            walks: Walks { after: Some(Census::default()), ..Walks::default() },
            ..Capture::default()
        };
        assert_eq!(of(&capture, GroupBy::Line, &[sample::any_site()]), []);
    }
}
