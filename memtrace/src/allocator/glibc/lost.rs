//! Arenas that nothing leads to while the state of one before them in the ring is in swap, where it
//! is not read. Heaps lie at multiples of 64 MiB and name their arena: what can be read of them
//! tells which arenas there are besides, and what cannot is memory of which nothing is known.

use std::collections::HashSet;

use super::{
    arena::{ArenaState, RingEnd, follow},
    book::Book,
    drawing::Drawing,
    part::Part,
    segment::{Segment, Surveyor},
    shape::{ArenaShape, FASTBINS, HEAP_MAX_BYTES, align_up},
    tally::TopTrim,
    target::{Pages, PresentMemory, Target},
};
use crate::model::{census::Extent, mapping::Mapping};

/// More places than this are not looked at: 4 TiB of mappings.
const MOST_PLACES: usize = 1 << 16;

/// The arenas behind the one in swap that lead to the main one, in the order of the ring.
pub fn behind(
    target: &Target<'_>,
    memory: &PresentMemory<'_>,
    shape: ArenaShape,
    reached: &[ArenaState],
) -> Vec<ArenaState> {
    let Some(main_arena) = reached.first().map(|arena| arena.address) else { return Vec::new() };
    let mut known: HashSet<u64> = reached.iter().map(|arena| arena.address).collect();
    let mut tail: Vec<ArenaState> = Vec::new();
    for owner in places(target).filter_map(|heap| memory.word(heap.start)) {
        let joint = tail.first().map_or(main_arena, |first| first.address);
        let is_new = known.insert(owner);
        let (mut arenas, end) =
            if is_new { follow(memory, shape, owner, joint) } else { Default::default() };
        if end == RingEnd::Closed {
            known.extend(arenas.iter().map(|arena| arena.address));
            arenas.append(&mut tail);
            tail = arenas;
        }
    }
    tail
}

/// An arena of which nothing is known but where its heaps may be: they are those that name an arena
/// in swap, or one that only leads there, or are themselves in swap where they would say it.
/// `excluded` are in somebody else's hands, ascending.
pub fn part(surveyor: &Surveyor<'_>, address: u64, heaps: &[Extent]) -> Part {
    let segment = |heap: &Extent| Segment {
        start: heap.start,
        first: heap.start,
        end: heap.end,
        top: None,
        top_trim: TopTrim::Never,
        is_main: false,
    };
    let bytes = heaps.iter().map(|heap| heap.bytes()).sum();
    let state = ArenaState {
        address,
        noncontiguous: true,
        top: None,
        fastbins: [0; FASTBINS],
        next: 0,
        attached_threads: None,
        system_bytes: bytes,
        max_system_bytes: bytes,
    };
    let mut part = Part::new(state, heaps.iter().map(segment).collect());
    let mut book = Book::new(Pages::new(&surveyor.target));
    let mut drawing = Drawing::new(surveyor.target.page_bytes);
    for heap in heaps {
        part.tally.skipped(&mut book, heap.start, heap.end);
        drawing.begin(heap.start);
        drawing.draw(book.read());
        drawing.end(heap.end);
    }
    part.map = drawing.finish();
    part
}

/// Where those heaps may be, ascending.
pub fn heaps(surveyor: &Surveyor<'_>, excluded: &[Extent]) -> Vec<Extent> {
    let is_free = |heap: &Extent| {
        excluded.iter().all(|other| other.end <= heap.start || other.start >= heap.end)
    };
    let places = places(&surveyor.target).filter(is_free);
    places.filter(|heap| may_be_lost(surveyor, *heap)).collect()
}

fn may_be_lost(surveyor: &Surveyor<'_>, heap: Extent) -> bool {
    let Surveyor { memory, shape, main_arena, arenas, .. } = surveyor;
    match memory.word(heap.start) {
        Some(owner) if arenas.contains(&owner) || owner == 0 => false,
        Some(owner) => {
            let (_, end) = follow(memory, *shape, owner, *main_arena);
            matches!(end, RingEnd::InSwap(_))
        }
        None => memory.is_in_swap(heap.start, heap.start.saturating_add(8)),
    }
}

/// What looks like a heap from outside: usable memory at a multiple of 64 MiB, and what it may grow
/// into, up to the next.
fn places<'t>(target: &Target<'t>) -> impl Iterator<Item = Extent> {
    let mappings = target.mappings;
    let usable = (0..mappings.len()).filter(|at| is_usable(&mappings[*at]));
    let extents = usable.flat_map(|at| {
        let Mapping { start, end, .. } = mappings[at];
        let starts = (align_up(start, HEAP_MAX_BYTES)..end).step_by(HEAP_MAX_BYTES as usize);
        let rest = mappings.get(at + 1).filter(|next| next.start == end && is_reserve(next));
        let extent = move |from: u64| {
            let reach = from.saturating_add(HEAP_MAX_BYTES);
            let is_whole = end >= reach || rest.is_some_and(|rest| rest.end >= reach);
            is_whole.then_some(Extent { start: from, end: end.min(reach) })
        };
        starts.filter_map(extent)
    });
    extents.take(MOST_PLACES)
}

fn is_usable(mapping: &Mapping) -> bool {
    mapping.file.is_none() && mapping.permissions.write
}

fn is_reserve(mapping: &Mapping) -> bool {
    mapping.file.is_none() && !mapping.permissions.read && !mapping.permissions.write
}
