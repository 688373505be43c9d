use proptest::prelude::*;

use super::*;
use crate::model::census::Extent;

const ARENA: u64 = 256 << 10;
const POOL: u64 = 4096;
const START: u64 = 0x7000_0000;

/// A pool of an arena with so many blocks of a size in use.
fn pool(arena: u64, number: u64, block_bytes: u64, in_use: u64) -> PoolLayout {
    let start = START + arena * ARENA + number * POOL;
    PoolLayout::used(start, block_bytes, in_use, (POOL - 48) / block_bytes)
}

/// Arenas next to each other, with these pools, all in memory.
fn layout(arenas: Vec<Vec<PoolLayout>>) -> HeapLayout {
    let end = START + arenas.len() as u64 * ARENA;
    let pymalloc = (0..).zip(arenas).map(|(number, pools)| {
        let start = START + number * ARENA;
        PymallocArenaLayout {
            extent: Extent { start, end: start + ARENA },
            pool_bytes: POOL,
            pools,
        }
    });
    HeapLayout {
        page_bytes: 4096,
        pymalloc: pymalloc.collect(),
        resident: vec![Extent { start: START, end }],
        ..HeapLayout::default()
    }
}

fn block(pool: &PoolLayout, number: u64, owner: u32) -> OwnedBlock {
    let address = pool.start + 48 + number * u64::from(pool.block_bytes);
    OwnedBlock { address, owner }
}

#[test]
fn one_block_keeps_an_arena_and_all_of_it_would_be_given_back() {
    let small = pool(0, 5, 64, 1);
    let layout = layout(vec![vec![small]]);
    let pins = pinned(&layout, &[block(&small, 3, 0)], 1).owners[0];
    assert_eq!((pins.live, pins.arenas, pins.pools), (Amount::one(64), 1, 1));
    // 63 blocks fit, and 16 bytes are left over.
    let trapped = 63 * POOL + 62 * 64;
    assert_eq!((pins.trapped_bytes, pins.exclusive_bytes), (trapped, trapped));
    assert_eq!(pins.drop_bytes, ARENA);
}

#[test]
fn free_pools_are_shared_by_all_in_the_arena_and_free_blocks_by_all_in_the_pool() {
    let (alone, shared) = (pool(0, 0, 64, 1), pool(0, 1, 64, 2));
    let blocks = [block(&alone, 0, 0), block(&shared, 0, 0), block(&shared, 1, 1)];
    let pinned = pinned(&layout(vec![vec![alone, shared]]), &blocks, 2);
    let [one, two] = pinned.owners[..] else { panic!("{pinned:?}") };
    assert_eq!(one.trapped_bytes, 31 * POOL + 62 * 64 + 61 * 32);
    assert_eq!(two.trapped_bytes, 31 * POOL + 61 * 32);
    assert_eq!((one.exclusive_bytes, one.drop_bytes), (0, 0));
    assert_eq!(pinned.unowned, ArenaPins::default());
}

#[test]
fn what_is_not_traced_is_told_by_size() {
    let (large, small) = (pool(0, 0, 512, 3), pool(0, 1, 32, 5));
    let pinned = pinned(&layout(vec![vec![large, small]]), &[block(&large, 0, 0)], 1);
    let sizes: Vec<_> =
        pinned.classes.iter().map(|it| (it.block_bytes, it.live.count, it.pools)).collect();
    assert_eq!(sizes, [(32, 5, 1), (512, 2, 1)]);
    let sum: u64 = pinned.classes.iter().map(|class| class.trapped_bytes).sum();
    assert_eq!(sum, pinned.unowned.trapped_bytes);
    assert_eq!(pinned.unowned.live, Amount::new(5 * 32 + 2 * 512, 7));
}

#[test]
fn an_arena_without_blocks_is_kept_by_nobody() {
    let pinned = pinned(&layout(vec![vec![]]), &[], 0);
    assert_eq!(pinned, Pinned::default());
}

#[test]
fn a_pool_that_was_not_understood_keeps_its_arena_and_traps_nothing_itself() {
    let unknown = PoolLayout { start: START, ..PoolLayout::default() };
    let pinned = pinned(&layout(vec![vec![unknown]]), &[], 0);
    assert_eq!(pinned.unowned.trapped_bytes, 63 * POOL);
    assert_eq!(pinned.classes[0].block_bytes, 0);
}

#[test]
fn only_what_is_in_memory_is_trapped() {
    let used = pool(0, 0, 64, 1);
    let mut layout = layout(vec![vec![used]]);
    layout.resident = vec![Extent { start: START, end: START + 3 * POOL }];
    let pins = pinned(&layout, &[block(&used, 0, 0)], 1).owners[0];
    assert_eq!((pins.drop_bytes, pins.trapped_bytes), (3 * POOL, 2 * POOL + 62 * 64));
}

/// Up to three arenas of up to six pools; of each pool's blocks, who owns them (3: nobody).
fn heaps() -> impl Strategy<Value = (HeapLayout, Vec<OwnedBlock>)> {
    let pool = (
        0..64_u64,
        prop::sample::select(vec![16_u64, 64, 512]),
        prop::collection::vec(0..4_u32, 1..7),
    );
    let arena = prop::collection::btree_map(0..64_u64, pool, 0..6);
    let pages = prop::collection::vec((0..200_u64, 1..40_u64), 1..5);
    (prop::collection::vec(arena, 1..4), pages).prop_map(|(arenas, pages)| {
        let mut blocks = Vec::new();
        let mut of_arenas = Vec::new();
        for (arena, pools) in (0..).zip(arenas) {
            let pools = pools.into_iter().map(|(number, (_, block_bytes, owners))| {
                let pool = super::tests::pool(arena, number, block_bytes, owners.len() as u64);
                let owned = (0..).zip(owners).filter(|(_, owner)| *owner < 3);
                blocks.extend(owned.map(|(number, owner)| block(&pool, number, owner)));
                pool
            });
            of_arenas.push(pools.collect());
        }
        blocks.sort_unstable();
        let mut layout = layout(of_arenas);
        layout.resident = resident(pages);
        (layout, blocks)
    })
}

/// Runs of pages that do not touch, of gaps and lengths.
fn resident(pages: Vec<(u64, u64)>) -> Vec<Extent> {
    let mut at = START;
    let run = |(gap, length): (u64, u64)| {
        let start = at + (gap + 1) * 4096;
        at = start + length * 4096;
        Extent { start, end: at }
    };
    pages.into_iter().map(run).collect()
}

proptest! {
    #[test]
    fn everything_that_is_trapped_is_kept_by_somebody((layout, blocks) in heaps()) {
        let pinned = pinned(&layout, &blocks, 3);
        let all = || pinned.owners.iter().chain([&pinned.unowned]);
        prop_assert_eq!(all().map(|it| it.trapped_bytes).sum::<u64>(), pinned.trapped_bytes);
        let residents = Residents::of(&layout);
        let expected: u64 = layout.pymalloc.iter().filter(|it| !it.pools.is_empty()).map(|arena| {
            let pools = arena.pools.iter().map(|pool| residents.trapped_in(arena, pool));
            residents.free_pools(arena) + pools.sum::<u64>()
        }).sum();
        prop_assert_eq!(pinned.trapped_bytes, expected);
        for pins in all() {
            prop_assert!(pins.exclusive_bytes <= pins.trapped_bytes, "{:?}", pins);
            prop_assert!(pins.exclusive_bytes <= pins.drop_bytes, "{:?}", pins);
        }
        let classes: u64 = pinned.classes.iter().map(|class| class.trapped_bytes).sum();
        prop_assert_eq!(classes, pinned.unowned.trapped_bytes);
        let of_all: u64 = layout.pymalloc.iter().map(|it| layout.resident_bytes(it.extent)).sum();
        prop_assert!(all().map(|it| it.drop_bytes).sum::<u64>() <= of_all);
    }
}
