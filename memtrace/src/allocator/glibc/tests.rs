//! Synthetic heaps: sound ones, whose sums are known, and hostile ones.

mod image;
mod swap;

use proptest::prelude::*;

use self::image::{ARENA, Changing, HEAP, HEAP_BYTES, Image};
use super::{
    inquiry::BlockState,
    target::Target,
    visit_chunks_in_use,
    walk::{Request, WalkError, Walked, walk},
    window::WINDOW_BYTES,
};
use crate::model::{
    arena_map::{ArenaCell, ArenaMap},
    census::{Arena, HeapResidency},
    layout::PieceKind,
    site::Amount,
};

const PAGE: u64 = 4096;

fn walked(image: &Image, blocks: &[u64]) -> Walked {
    let layout_code_bytes = Some(1 << 20);
    let request = Request { blocks, layout_code_bytes, ..Request::default() };
    let walked = walk(&image.target(), &image.layout(), request).unwrap();
    walked.heap.arenas.iter().for_each(check_map);
    check_layout(&walked);
    walked
}

/// The picture adds up to the arena, part by part, and no cell holds more than it has room for.
fn check_map(arena: &Arena) {
    let resident = arena.resident;
    let expected = ArenaCell {
        in_use_bytes: resident.in_use_bytes,
        returnable_bytes: resident.returnable_bytes,
        trapped_bytes: resident.trapped_bytes,
        cached_bytes: resident.cached_bytes,
        top_bytes: resident.top_bytes,
        other_bytes: resident.metadata_bytes + resident.unknown_bytes,
    };
    let ArenaMap { cell_bytes, segments } = &arena.map;
    assert_eq!(arena.map.total(), expected);
    assert!(segments.iter().all(|it| it.cells.len() as u64 == it.room(*cell_bytes)));
    let mut cells = segments.iter().flat_map(|segment| &segment.cells);
    assert!(cells.all(|cell| cell.resident_bytes() <= *cell_bytes));
    let count: usize = segments.iter().map(|it| it.cells.len()).sum();
    assert!(count <= 512 + segments.len(), "{count} cells");
}

/// The layout adds up to the arenas, kind by kind, and has no gaps.
fn check_layout(walked: &Walked) {
    // Of an arena in swap nothing is known.
    let lost = usize::from(walked.lost_arena.is_some());
    assert_eq!(walked.layout.len() + lost, walked.heap.arenas.len());
    let lost = walked.heap.arenas[walked.layout.len()..].iter();
    let lost_bytes: u64 = lost.map(|arena| arena.quality.skipped_bytes).sum();
    for (arena, layout) in walked.heap.arenas.iter().zip(&walked.layout) {
        let pieces = || layout.segments.iter().flat_map(|segment| segment.pieces());
        let amount = |kind: PieceKind| {
            let of_kind = pieces().filter(|piece| piece.kind == kind);
            of_kind.fold(Amount::default(), |mut sum, piece| {
                sum += Amount::one(piece.extent.bytes());
                sum
            })
        };
        assert_eq!(amount(PieceKind::InUse), arena.in_use);
        assert_eq!(arena.in_use_sizes.total(), arena.in_use.count);
        assert_eq!(amount(PieceKind::Free), arena.free);
        assert_eq!(amount(PieceKind::Fastbin), arena.fastbins);
        assert_eq!(amount(PieceKind::Tcache), arena.tcache);
        assert_eq!(amount(PieceKind::Top).bytes, arena.top_bytes);
        let bytes: u64 = layout.segments.iter().map(|it| it.end() - it.start()).sum();
        assert_eq!(bytes, pieces().map(|piece| piece.extent.bytes()).sum::<u64>());
    }
    assert_eq!(walked.layout_left_out_bytes, lost_bytes);
}

#[test]
fn a_layout_without_room_says_what_it_lacks() {
    let image = Image::of_chunks(&[(0x100, true), (0x200, false), (0x40, true)]);
    let request = Request { layout_code_bytes: Some(2), ..Request::default() };
    let walked = walk(&image.target(), &image.layout(), request).unwrap();
    let pieces: Vec<_> = walked.layout[0].segments[0].pieces().collect();
    assert_eq!(pieces.len(), 1, "{pieces:?}");
    assert_eq!(walked.layout_left_out_bytes, HEAP_BYTES - 0x100);
}

#[test]
fn the_picture_shows_what_is_where() {
    let mut image = Image::of_chunks(&[(0x100, true), (3 * PAGE, false), (0x40, true)]);
    image.absent.insert(HEAP + PAGE);
    let map = &walked(&image, &[]).heap.arenas[0].map;
    assert_eq!((map.cell_bytes, map.segments.len()), (PAGE, 1));
    assert_eq!((map.segments[0].start, map.segments[0].end), (HEAP, HEAP + HEAP_BYTES));
    let cells: Vec<[u64; 6]> = map.segments[0].cells.iter().map(|cell| (*cell).into()).collect();
    assert_eq!(cells[0], [0x100, 0, PAGE - 0x100, 0, 0, 0]);
    assert_eq!(cells[1], [0; 6]);
    assert_eq!(cells[2], [0, PAGE, 0, 0, 0, 0]);
    assert_eq!(cells[3], [0x40, 0, 0x100, 0, PAGE - 0x140, 0]);
    assert!(cells[4..].iter().all(|cell| *cell == [0, 0, 0, 0, PAGE, 0]));
}

#[test]
fn chunks_are_in_use_when_the_next_one_says_so() {
    // In use, free, in use, top.
    let image = Image::of_chunks(&[(0x100, true), (0x200, false), (0x40, true)]);
    let arena = &walked(&image, &[]).heap.arenas[0];
    assert_eq!((arena.in_use.count, arena.in_use.bytes), (2, 0x140));
    assert_eq!((arena.free.count, arena.free.bytes), (1, 0x200));
    assert_eq!(arena.top_bytes, HEAP_BYTES - 0x340);
    assert_eq!(arena.overhead_bytes, 0);
    assert_eq!(arena.quality.error_bound_bytes, 0);
}

#[test]
fn the_whole_pages_of_a_free_chunk_can_be_given_back() {
    let image = Image::of_chunks(&[(0x100, true), (3 * PAGE, false), (0x40, true)]);
    let resident = walked(&image, &[]).heap.arenas[0].resident;
    let expected = HeapResidency {
        in_use_bytes: 0x140,
        returnable_bytes: 2 * PAGE,
        trapped_bytes: PAGE,
        top_bytes: HEAP_BYTES - 0x140 - 3 * PAGE,
        ..HeapResidency::default()
    };
    assert_eq!(resident, expected);
}

#[test]
fn pages_that_are_not_there_count_for_nothing() {
    let mut image = Image::of_chunks(&[(0x100, true), (3 * PAGE, false), (0x40, true)]);
    image.absent.insert(HEAP + PAGE);
    let walked = walked(&image, &[]);
    assert_eq!(walked.heap.arenas[0].free.bytes, 3 * PAGE);
    assert_eq!(walked.heap.arenas[0].resident.returnable_bytes, PAGE);
    assert_eq!(walked.heap.arenas[0].resident.total_bytes(), HEAP_BYTES - PAGE);
}

#[test]
fn a_fastbin_next_to_a_free_chunk_is_given_back_with_it() {
    // The chunk in the fastbin completes a page.
    let free = 2 * PAGE - 0x50;
    let image = Image::of_chunks(&[(0x20, true), (free, false), (0x30, true), (0x20, true)]);
    let alone = walked(&image, &[]).heap;
    let image = image.with_fastbin(HEAP + 0x20 + free, 0x30);
    let merged = walked(&image, &[]).heap;
    assert_eq!((merged.arenas[0].fastbins.count, merged.arenas[0].fastbins.bytes), (1, 0x30));
    assert_eq!(alone.arenas[0].resident.returnable_bytes, 0);
    assert_eq!(merged.arenas[0].resident.returnable_bytes, PAGE);
    assert_eq!(merged.trim_bytes, alone.trim_bytes + PAGE);
}

#[test]
fn blocks_are_told_by_their_chunks() {
    let image = Image::of_chunks(&[(0x100, true), (0x200, false), (0x40, true)]);
    let blocks = [0x10, HEAP + 0x10, HEAP + 0x80, HEAP + 0x110, HEAP + 0x310, HEAP + 0x350];
    let walked = walked(&image, &blocks);
    use BlockState::{Freed, InUse, Unknown};
    assert_eq!(walked.blocks, [Unknown, InUse, Freed, Freed, InUse, Freed]);
    assert_eq!((walked.blocks_in_use.bytes, walked.blocks_in_use.count), (0x140, 2));
}

#[test]
fn every_chunk_in_use_is_visited_once() {
    let image = Image::of_chunks(&[(0x100, true), (0x200, false), (0x40, true)]);
    let mut seen = Vec::new();
    let mut visit = |arena, chunk: super::inquiry::Chunk| seen.push((arena, chunk.start));
    visit_chunks_in_use(&image.target(), &image.layout(), &[], &mut visit).unwrap();
    assert_eq!(seen, [(0, HEAP), (0, HEAP + 0x300)]);
}

#[test]
fn a_broken_header_costs_its_neighbourhood_and_no_more() {
    let mut image = Image::of_chunks(&[(0x40, true); 100]);
    image.write(HEAP + 50 * 0x40 + 8, 0xdead_beef);
    let walked = walked(&image, &[]);
    let quality = walked.heap.arenas[0].quality;
    assert_eq!(quality.resyncs, 1);
    // The broken one, and the one before, of which it does not tell whether it is in use.
    assert_eq!(quality.skipped_bytes, 0x80);
    assert_eq!(walked.heap.arenas[0].in_use.count, 98);
    assert!(quality.error_bound_bytes >= 0x80);
    assert_eq!(walked.heap.arenas[0].resident.total_bytes(), HEAP_BYTES);
}

/// A chunk starts where the first window ends. Before the second is read, it becomes part of the
/// one before, and its header anything at all.
#[test]
fn what_was_a_chunk_at_the_end_of_a_window_leads_nowhere() {
    let before = Image::of_chunks(&[(0x100, true); 8000]);
    let mut after = before.clone();
    let border = HEAP + WINDOW_BYTES;
    after.write(border - 0x100 + 8, 0x201);
    after.write(border + 8, 0xf_0001);
    let changing = Changing::new(&before, &after, border - PAGE);
    let target = Target { memory: &changing, ..before.target() };
    let arena = &walk(&target, &before.layout(), Request::default()).unwrap().heap.arenas[0];
    check_map(arena);
    assert_eq!((arena.in_use.count, arena.in_use.bytes), (7999, 8000 * 0x100));
    assert_eq!(arena.quality.skipped_bytes, 0);
}

/// The same, but the free chunk that it becomes part of starts before it, and its header leads to a
/// chunk far behind.
#[test]
fn what_a_chunk_has_left_behind_is_none() {
    let chunks: Vec<_> = (0..8000).map(|number| (0x100, number % 2 == 0)).collect();
    let before = Image::of_chunks(&chunks);
    let mut after = before.clone();
    let border = HEAP + WINDOW_BYTES;
    after.write(border - 0x500 + 8, 0x701);
    after.write(border + 0x200, 0x700);
    after.write(border - 0x100 + 8, 0x8_0001);
    let changing = Changing::new(&before, &after, border - PAGE);
    let target = Target { memory: &changing, ..before.target() };
    let arena = &walk(&target, &before.layout(), Request::default()).unwrap().heap.arenas[0];
    check_map(arena);
    // What was at the border is in it now; what was before has been counted.
    assert_eq!((arena.in_use.bytes, arena.free.bytes), (3999 * 0x100, 4001 * 0x100));
    assert_eq!((arena.quality.skipped_bytes, arena.quality.resyncs), (0, 0));
    assert!(arena.quality.retries > 0);
}

#[test]
fn a_size_that_leads_far_astray_costs_no_more_than_what_is_near() {
    let mut image = Image::of_chunks(&[(0x100, true); 8000]);
    // Neither of them leads to a chunk.
    image.write(HEAP + 0x5008, 0x10_0011);
    image.write(HEAP + 0x9_5008, 0x9_0031);
    let arena = &walked(&image, &[]).heap.arenas[0];
    assert_eq!(arena.quality.skipped_bytes, 2 * 0x100);
    assert_eq!(arena.in_use.count, 7998);
}

#[test]
fn a_ring_that_does_not_close_is_refused() {
    let mut image = Image::of_chunks(&[(0x40, true)]);
    image.write(ARENA + 0x870, HEAP);
    let error = walk(&image.target(), &image.layout(), Request::default()).unwrap_err();
    assert_eq!(error, WalkError::BrokenRing { address: ARENA });
}

/// The words that a libc states of itself can be anything, and their sums too large.
#[test]
fn what_the_target_says_of_itself_bounds_at_most_everything() {
    let mut image = Image::of_chunks(&[(0x40, true)]);
    image.write(ARENA + image::SHAPE.system_mem(), u64::MAX);
    image.write(image::PARAMETERS + 0x50, u64::MAX);
    let heap = walked(&image, &[]).heap;
    assert_eq!(heap.mapped_stated_bytes, u64::MAX);
    assert_eq!(heap.arenas[0].quality.error_bound_bytes, u64::MAX - HEAP_BYTES);
    assert_eq!(heap.error_bound_bytes, u64::MAX);
}

proptest! {
    #[test]
    fn any_heap_adds_up(chunks in prop::collection::vec((2u64..600, any::<bool>()), 1..200)) {
        // Free chunks never touch.
        let mut free = false;
        let chunks: Vec<_> = chunks
            .into_iter()
            .map(|(units, in_use)| { free = !free && !in_use; (units * 16, !free) })
            .chain([(0x20, true)])
            .collect();
        let image = Image::of_chunks(&chunks);
        let walked = walked(&image, &[]);
        let arena = &walked.heap.arenas[0];
        let sum = |wanted| chunks.iter().filter(|it| it.1 == wanted).map(|it| it.0).sum::<u64>();
        prop_assert_eq!((arena.in_use.bytes, arena.free.bytes), (sum(true), sum(false)));
        prop_assert_eq!(arena.resident.total_bytes(), HEAP_BYTES);
        prop_assert_eq!(arena.quality.error_bound_bytes, 0);
    }

    #[test]
    fn hostile_memory_ends_in_a_result(
        sizes in prop::collection::vec(2u64..600, 1..200),
        writes in prop::collection::vec((0u64..0x900, any::<u64>()), 0..8),
        heap_writes in prop::collection::vec((0u64..HEAP_BYTES / 8, word()), 0..64),
    ) {
        let chunks: Vec<_> = sizes.into_iter().map(|units| (units * 16, true)).collect();
        let mut image = Image::of_chunks(&chunks);
        for (at, value) in writes {
            image.write(ARENA + at / 8 * 8, value);
        }
        for (at, value) in heap_writes {
            image.write(HEAP + at * 8, value);
        }
        let blocks = [HEAP + 0x10, HEAP + 0x210];
        let layout_code_bytes = Some(1 << 20);
        let request = Request { blocks: &blocks, layout_code_bytes, ..Request::default() };
        if let Ok(walked) = walk(&image.target(), &image.layout(), request) {
            walked.heap.arenas.iter().for_each(check_map);
            prop_assert_eq!(walked.blocks.len(), 2);
        }
    }
}

/// Words that mean something to the walk.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..0x1000,
        (0..HEAP_BYTES).prop_map(|at| HEAP + at / 16 * 16),
        (0..HEAP_BYTES).prop_map(|at| at / 16 * 16 + 1),
    ]
}
