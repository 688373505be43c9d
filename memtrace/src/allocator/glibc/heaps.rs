//! The heaps of arenas other than the main one: 64 MiB each at an address that is a multiple of
//! that, of which the first part can be used. Each knows its arena and the heap before it.

use std::collections::HashSet;

use super::{
    arena::ArenaState,
    segment::{Segment, Surveyor},
    shape::{ALIGNMENT_BYTES, HEAP_MAX_BYTES, align_down, align_up},
    tally::TopTrim,
};
use crate::model::mapping::Mapping;

/// More places than this are not looked at: 4 TiB of mappings.
const MOST_PLACES: usize = 1 << 16;

/// An arena's heaps, the newest (with `top`) first.
pub fn segments(surveyor: &Surveyor<'_>, arena: &ArenaState, top: u64) -> Vec<Segment> {
    let unit = unit(surveyor, arena, top);
    let mut segments = Vec::new();
    let mut heap = align_down(top, unit);
    let mut top = Some(top);
    let mut seen = HashSet::new();
    while heap != 0 && seen.insert(heap) && may_be_heap(surveyor, heap) {
        let Some((segment, previous)) = segment(surveyor, arena, heap, unit, top.take()) else {
            break;
        };
        segments.push(segment);
        heap = previous;
    }
    segments
}

/// Those that the mappings show and `known` does not have. While `top`'s heap is given back, there
/// is no way from the arena to the others.
pub fn others(surveyor: &Surveyor<'_>, arena: &ArenaState, known: &[Segment]) -> Vec<Segment> {
    let unit = unit(surveyor, arena, arena.address);
    let anonymous = surveyor.target.mappings.iter().filter(|mapping| is_anonymous(mapping));
    let starts = anonymous
        .flat_map(|mapping| (align_up(mapping.start, unit)..mapping.end).step_by(unit as usize));
    let unknown =
        starts.take(MOST_PLACES).filter(|heap| known.iter().all(|segment| segment.start != *heap));
    let found = unknown.filter_map(|heap| segment(surveyor, arena, heap, unit, None));
    found.map(|(segment, _)| segment).collect()
}

fn is_anonymous(mapping: &Mapping) -> bool {
    mapping.file.is_none() && mapping.permissions.write
}

/// It may have been mapped since the mappings were read.
fn may_be_heap(surveyor: &Surveyor<'_>, address: u64) -> bool {
    surveyor.target.mapping(address).is_none_or(|mapping| mapping.file.is_none())
}

/// Size and alignment of heaps: smaller with huge pages from 2.35 to 2.41. `inside` is an address
/// in one of them.
fn unit(surveyor: &Surveyor<'_>, arena: &ArenaState, inside: u64) -> u64 {
    let huge = surveyor.parameters.huge_page_bytes.saturating_mul(4);
    let is_heap_of =
        |unit: u64| surveyor.memory.word(align_down(inside, unit)) == Some(arena.address);
    let smaller = huge.is_power_of_two() && huge < HEAP_MAX_BYTES && huge > 4096;
    if smaller && is_heap_of(huge) { huge } else { HEAP_MAX_BYTES }
}

/// A heap and the one before it. `heap_info`: `ar_ptr, prev, size`.
fn segment(
    surveyor: &Surveyor<'_>,
    arena: &ArenaState,
    heap: u64,
    unit: u64,
    top: Option<u64>,
) -> Option<(Segment, u64)> {
    let [owner, previous, size] = surveyor.memory.words(heap)?;
    let first = first_chunk(surveyor, arena, heap, unit);
    let end = heap.checked_add(size)?;
    let is_sound = owner == arena.address
        && size <= unit
        && size % surveyor.target.page_bytes == 0
        && first < end
        && previous % unit == 0;
    let (top_trim, is_main) = (TopTrim::Never, false);
    is_sound.then_some((Segment { start: heap, first, end, top, top_trim, is_main }, previous))
}

/// The first heap holds the arena, right behind `heap_info`: from that follows how large
/// `heap_info` is.
fn first_chunk(surveyor: &Surveyor<'_>, arena: &ArenaState, heap: u64, unit: u64) -> u64 {
    if align_down(arena.address, unit) == heap {
        align_up(arena.address + surveyor.shape.size_bytes(), ALIGNMENT_BYTES)
    } else {
        heap.saturating_add(align_up(arena.address % unit, ALIGNMENT_BYTES))
    }
}
