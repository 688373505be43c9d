//! Arenas whose state is in swap, and those behind them in the ring.

use super::{
    Image, PAGE, Request, WalkError, Walked,
    image::{ARENA, ARENA_HEAP_BYTES, HEAP_BYTES, HEAP_INFO_BYTES, heap_of},
    walk, walked,
};

const CHUNKS: [(u64, bool); 2] = [(0x100, true), (0x2000, true)];

/// A main arena and four others, of which the states of some are in swap.
fn image(swapped: &[u64]) -> Image {
    let mut image = Image::of_chunks(&CHUNKS).with_arenas(4, &CHUNKS);
    image.swapped.extend(swapped.iter().map(|number| heap_of(*number)));
    image
}

fn addresses(walked: &Walked) -> Vec<u64> {
    walked.heap.arenas.iter().map(|arena| arena.address).collect()
}

fn arena(number: u64) -> u64 {
    heap_of(number) + HEAP_INFO_BYTES
}

#[test]
fn all_arenas_are_walked_when_none_is_in_swap() {
    let walked = walked(&image(&[]), &[]);
    assert_eq!(addresses(&walked), [ARENA, arena(0), arena(1), arena(2), arena(3)]);
    assert_eq!((walked.lost_arena, walked.heap.error_bound_bytes), (None, 0));
    assert_eq!(walked.heap.in_use().bytes, 5 * 0x2100);
}

#[test]
fn an_arena_in_swap_costs_itself_and_no_other() {
    for lost in 0..4 {
        let walked = walked(&image(&[lost]), &[]);
        let others = (0..4).filter(|number| *number != lost).map(arena);
        let expected: Vec<u64> = [ARENA].into_iter().chain(others).chain([arena(lost)]).collect();
        assert_eq!(addresses(&walked), expected);
        assert_eq!(walked.lost_arena, Some(arena(lost)));
        assert_eq!(walked.heap.in_use().bytes, 4 * 0x2100);
        // All of it, and what of it is in swap.
        assert_eq!(walked.heap.error_bound_bytes, ARENA_HEAP_BYTES + PAGE);
        let unknown = walked.heap.resident().unknown_bytes;
        assert_eq!(unknown, ARENA_HEAP_BYTES - PAGE);
        let resident = HEAP_BYTES + 4 * ARENA_HEAP_BYTES - PAGE;
        assert_eq!(walked.heap.resident().total_bytes(), resident);
    }
}

#[test]
fn an_arena_between_two_in_swap_is_unknown_like_them() {
    let walked = walked(&image(&[0, 2]), &[]);
    assert_eq!(addresses(&walked), [ARENA, arena(3), arena(0)]);
    let lost = &walked.heap.arenas[2];
    assert_eq!((lost.segments, lost.in_use.count), (3, 0));
    assert_eq!(lost.system_bytes, 3 * ARENA_HEAP_BYTES);
    assert_eq!(lost.resident.unknown_bytes, 3 * ARENA_HEAP_BYTES - 2 * PAGE);
    assert_eq!(lost.quality.swapped_bytes, 2 * PAGE);
}

#[test]
fn memory_that_is_not_a_heap_is_not_counted_for_one() {
    let mut image = image(&[1]);
    // It says that it belongs to an arena that leads nowhere.
    image.write(heap_of(2), heap_of(2) + 0x4000);
    image.write(arena(3), 0);
    let walked = walked(&image, &[]);
    assert_eq!(walked.heap.error_bound_bytes, ARENA_HEAP_BYTES + PAGE);
    assert_eq!(addresses(&walked), [ARENA, arena(0), arena(3), arena(1)]);
}

#[test]
fn a_main_arena_in_swap_is_refused_for_that() {
    let mut image = image(&[]);
    image.swapped.insert(ARENA);
    let error = walk(&image.target(), &image.layout(), Request::default()).unwrap_err();
    assert_eq!(error, WalkError::InSwap { address: ARENA });
}
