//! Heaps whose blame can be counted by hand, and any heaps at all.

use proptest::prelude::*;

use super::*;
use crate::model::{
    blame::Holder,
    census::Extent,
    layout::{ArenaLayout, PieceKind, SegmentLayout},
};

const HEAP: u64 = 0x10_0000;
const PAGE: u64 = 4096;

/// Pieces from the start of a heap on, all of it in memory.
fn layout(pieces: &[(PieceKind, u64)]) -> HeapLayout {
    let (mut segment, mut end) = (SegmentLayout::at(HEAP), HEAP);
    for (kind, bytes) in pieces {
        end += bytes;
        segment.push(*kind, end);
    }
    let arena = ArenaLayout { segments: vec![segment], ..ArenaLayout::default() };
    let resident = vec![Extent { start: HEAP, end: end.next_multiple_of(PAGE) }];
    HeapLayout { page_bytes: PAGE, arenas: vec![arena], resident, ..HeapLayout::default() }
}

/// The blocks in use, of sites by turns.
fn live(layout: &HeapLayout, sites: u32) -> Vec<LiveItem> {
    let pieces = layout.arenas.iter().flat_map(|it| &it.segments).flat_map(|it| it.pieces());
    let in_use = pieces.filter(|piece| piece.kind == PieceKind::InUse).enumerate();
    let item = |(at, piece): (usize, crate::model::layout::Piece)| LiveItem {
        address: piece.extent.start + 16,
        bytes: piece.extent.bytes() - 8,
        time_ns: at as u64,
        site: at as u32 % sites.max(1),
        ..LiveItem::default()
    };
    in_use.map(item).collect()
}

fn of(layout: &HeapLayout, live: &[LiveItem]) -> Blame {
    let (before, culprits, closed_ns) = (None, &[][..], 1000);
    blame(&BlameInput { layout, before, live, culprits, is_exact: true, closed_ns })
}

fn share(blame: &Blame, culprit: Culprit) -> Share {
    *blame.shares.iter().find(|share| share.culprit == culprit).unwrap()
}

#[test]
fn a_small_block_between_holes_is_blamed_for_them() {
    use PieceKind::{Free, InUse, Top};
    let pieces = [(InUse, 0x1000), (Free, 0x800), (InUse, 0x40), (Free, 0x27c0), (InUse, 0x1000)];
    let heap = layout(&[&pieces[..], &[(Top, 0x2000)]].concat());
    let found = of(&heap, &live(&heap, 3));
    // The second page; the fourth has the end of the hole only, and is whole; so is the third.
    let small = share(&found, Culprit::Site(1));
    assert_eq!((small.trapped_bytes, small.exclusive_bytes), (0xfc0, 0));
    assert_eq!((small.chunks, small.chunk_bytes, small.resident_bytes), (1, 0x40, 0x40));
    assert_eq!((found.trapped_bytes, found.returnable_bytes), (0xfc0, 2 * PAGE));
    assert_eq!(small.drop_bytes, 0, "the header of the chunk that comes to be is on the page");
    assert_eq!((small.pins, small.median_age_ns, small.oldest_age_ns), (1, Some(999), Some(999)));
    assert_eq!(found.coverage(), 1.0);
}

#[test]
fn a_page_goes_with_the_one_who_holds_it_where_there_is_room_for_a_header_before() {
    use PieceKind::{Free, InUse};
    let heap = layout(&[
        (InUse, 0x100),
        (Free, 0x1100),
        (InUse, 0x40),
        (Free, 0x1000),
        (InUse, 0x3000),
        (Free, 0x1000 - 0x240),
    ]);
    let found = of(&heap, &live(&heap, 3));
    let middle = share(&found, Culprit::Site(1));
    assert_eq!((middle.exclusive_bytes, middle.drop_bytes), (0x1000 - 0x40, PAGE));
    let last = share(&found, Culprit::Site(2));
    assert_eq!(last.drop_bytes, 4 * PAGE);
    let sum: u64 = found.shares.iter().map(|share| share.trapped_bytes).sum();
    assert_eq!(sum, found.trapped_bytes);
}

#[test]
fn caches_and_blocks_without_a_site_are_blamed_by_name() {
    use PieceKind::{Free, InUse, Metadata, Tcache};
    let heap = layout(&[
        (Metadata, 0x40),
        (InUse, 0x40),
        (Free, 0xf80),
        (Tcache, 0x40),
        (Free, 0xfc0),
        (InUse, 0x40),
        (Free, 0xfc0),
    ]);
    let blocks = live(&heap, 1);
    let found = of(&heap, &blocks[1..]);
    assert_eq!(share(&found, Culprit::Allocator).trapped_bytes, 0xf80 / 2);
    assert_eq!(share(&found, Culprit::BeforeAttach).trapped_bytes, 0xf80 / 2);
    assert_eq!(share(&found, Culprit::AllocatorCache).exclusive_bytes, 0xfc0);
    assert_eq!(share(&found, Culprit::Site(0)).drop_bytes, PAGE);
    assert_eq!((found.live_bytes, found.traced_bytes), (0x80, 0x40));
}

#[test]
fn what_a_sampled_trace_does_not_know_is_old_only_if_it_was_there() {
    use PieceKind::{Free, InUse};
    let heap = layout(&[(InUse, 0x40), (Free, 0xfc0), (InUse, 0x40), (Free, 0xfc0)]);
    let before = layout(&[(InUse, 0x40), (Free, 0x1fc0)]);
    let input = BlameInput {
        layout: &heap,
        before: Some(&before),
        live: &[],
        culprits: &[],
        is_exact: false,
        closed_ns: 0,
    };
    let found = blame(&input);
    assert_eq!(share(&found, Culprit::BeforeAttach).chunks, 1);
    assert_eq!(share(&found, Culprit::NotSampled).chunks, 1);
    let found = blame(&BlameInput { before: None, ..input });
    assert_eq!(share(&found, Culprit::NotSampled).chunks, 2);
}

#[test]
fn the_end_of_an_arena_and_arenas_without_threads_are_named() {
    use PieceKind::{Free, InUse, Top};
    let mut heap =
        layout(&[(InUse, 0x1000), (Free, 0x3000), (InUse, 0x40), (Free, 0xfc0), (Top, 0x1000)]);
    heap.arenas[0].attached_threads = Some(0);
    let found = of(&heap, &live(&heap, 2));
    let [top] = &found.tops[..] else { panic!("{:?}", found.tops) };
    assert_eq!((top.culprit, top.chunks, top.behind_bytes), (Culprit::Site(1), 1, 0x4000));
    let [stranded] = &found.stranded[..] else { panic!("{:?}", found.stranded) };
    assert_eq!((stranded.resident_bytes, stranded.holders.len()), (6 * PAGE, 2));
    assert_eq!(stranded.holders[0], Holder { culprit: Culprit::Site(0), chunk_bytes: 0x1000 });
}

#[test]
fn one_block_holds_all_of_a_huge_page() {
    use PieceKind::{Free, InUse};
    let mut heap = layout(&[(InUse, 0x40), (Free, (1 << 20) - 0x40)]);
    heap.huge_page_bytes = 2 << 20;
    let found = of(&heap, &live(&heap, 1));
    let huge = found.huge.unwrap();
    let expected = Holder { culprit: Culprit::Site(0), chunk_bytes: (1 << 20) - 0x40 };
    assert_eq!((huge.trapped_bytes, &huge.shares[..]), ((1 << 20) - 0x40, &[expected][..]));
    assert_eq!(found.trapped_bytes, 0x1000 - 0x40);
}

#[test]
fn a_mapped_block_goes_as_a_whole() {
    let extent = Extent { start: 0x7000_0000, end: 0x7004_0000 };
    let half = Extent { end: 0x7002_0000, ..extent };
    let heap = HeapLayout {
        page_bytes: PAGE,
        mapped: vec![extent],
        resident: vec![half],
        ..HeapLayout::default()
    };
    let item = LiveItem { address: 0x7000_0010, ..LiveItem::default() };
    let share = share(&of(&heap, &[item]), Culprit::Site(0));
    assert_eq!((share.drop_bytes, share.chunk_bytes, share.trapped_bytes), (0x2_0000, 0x4_0000, 0));
}

const WITHOUT_TOP: [PieceKind; 5] =
    [PieceKind::InUse, PieceKind::Free, PieceKind::Fastbin, PieceKind::Tcache, PieceKind::Metadata];

fn any_heap(kinds: &[PieceKind]) -> impl Strategy<Value = HeapLayout> + use<> {
    let kinds = prop::sample::select(kinds.to_vec());
    let bytes = prop_oneof![3 => 2..20_u64, 2 => 2..1200_u64].prop_map(|units| units * 16);
    let pieces = prop::collection::vec((kinds, bytes), 1..60);
    let gone = prop::collection::vec(any::<bool>(), 0..40);
    (pieces, gone).prop_map(|(pieces, gone)| {
        let mut heap = layout(&pieces);
        let Extent { start, end } = heap.resident[0];
        let pages = (start..end).step_by(PAGE as usize);
        let there = pages.zip(gone.into_iter().chain(std::iter::repeat(false)));
        let mut resident: Vec<Extent> = Vec::new();
        for (page, _) in there.filter(|(_, is_gone)| !is_gone) {
            match resident.last_mut() {
                Some(last) if last.end == page => last.end += PAGE,
                _ => resident.push(Extent { start: page, end: page + PAGE }),
            }
        }
        heap.resident = resident;
        heap.huge_page_bytes = 4 * PAGE;
        heap
    })
}

/// The same heap when the blocks of these are gone, as `malloc_trim` sees it.
fn without(heap: &HeapLayout, live: &[LiveItem], site: u32) -> HeapLayout {
    let mut segment = SegmentLayout::at(HEAP);
    let mut free_end = None;
    for piece in heap.arenas[0].segments[0].pieces() {
        let address = piece.extent.start + 16;
        let is_gone = live.iter().any(|item| item.address == address && item.site == site);
        let is_free = is_gone || matches!(piece.kind, PieceKind::Free | PieceKind::Fastbin);
        match (is_free, free_end.take()) {
            (true, _) => free_end = Some(piece.extent.end),
            (false, Some(end)) => {
                segment.push(PieceKind::Free, end);
                segment.push(piece.kind, piece.extent.end);
            }
            (false, None) => segment.push(piece.kind, piece.extent.end),
        }
    }
    segment.push(PieceKind::Free, free_end.unwrap_or(0));
    let mut heap = heap.clone();
    heap.arenas[0].segments = vec![segment];
    heap
}

proptest! {
    #[test]
    fn the_parts_add_up_and_hold_each_other(heap in any_heap(&PieceKind::ALL), sites in 1..5_u32) {
        let found = of(&heap, &live(&heap, sites));
        let trapped: u64 = found.shares.iter().map(|share| share.trapped_bytes).sum();
        prop_assert_eq!(trapped, found.trapped_bytes);
        for share in &found.shares {
            prop_assert!(share.exclusive_bytes <= share.trapped_bytes, "{:?}", share);
            prop_assert!(share.exclusive_bytes <= share.drop_bytes, "{:?}", share);
            prop_assert!(share.resident_bytes <= share.chunk_bytes, "{:?}", share);
        }
        let pieces = || heap.arenas[0].segments[0].pieces();
        let free = pieces().filter(|piece| piece.kind == PieceKind::Free);
        let free: u64 = free.map(|piece| heap.resident_bytes(piece.extent)).sum();
        prop_assert!(found.trapped_bytes <= free);
        let joins = pieces().filter(|piece| piece.kind == PieceKind::Fastbin);
        let joins: u64 = joins.map(|piece| heap.resident_bytes(piece.extent)).sum();
        let known = found.trapped_bytes + found.returnable_bytes;
        prop_assert!((free..=free + joins).contains(&known), "{} {} {}", known, free, joins);
        let huge = found.huge.unwrap();
        let shares: u64 = huge.shares.iter().map(|share| share.chunk_bytes).sum();
        prop_assert_eq!(shares, huge.trapped_bytes);
    }

    #[test]
    fn what_drops_is_what_can_be_given_back_when_a_site_is_gone(
        // What becomes part of `top` is given back in another way.
        heap in any_heap(&WITHOUT_TOP), sites in 1..5_u32,
    ) {
        let blocks = live(&heap, sites);
        let found = of(&heap, &blocks);
        for site in 0..sites {
            let after = of(&without(&heap, &blocks, site), &blocks);
            let drop = found.shares.iter().find(|share| share.culprit == Culprit::Site(site));
            let expected = after.returnable_bytes - found.returnable_bytes;
            prop_assert_eq!(drop.map_or(0, |share| share.drop_bytes), expected, "site {}", site);
        }
    }
}
