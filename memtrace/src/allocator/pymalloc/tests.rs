use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    allocator::image::{Image, writable},
    model::layout::PoolLayout,
};

const DATA: u64 = 0x50_0000;
const ARRAY: u64 = 0x7000_0000;
const ARENAS: u64 = 0x7100_0000;
const ARENA_BYTES: usize = 256 << 10;
const POOL_BYTES: u64 = 4096;
/// 4 pages: 341 slots, so that 256 fit.
const ARRAY_BYTES: usize = 16 << 10;

/// An interpreter of 3.8 with two arenas, the first of which has three pools.
fn image() -> Image {
    let mut image = Image::new([
        (DATA, vec![0; 4096]),
        (ARRAY, vec![0; ARRAY_BYTES]),
        (ARENAS, vec![0; 2 * ARENA_BYTES]),
    ]);
    image.write(DATA + 64, &(ARRAY + 16).to_le_bytes());
    write_arena(&mut image, 0, ARENAS, 3, 61);
    write_arena(&mut image, 1, ARENAS + ARENA_BYTES as u64, 1, 64);
    write_pool(&mut image, ARENAS, 0, 48, 80, 84);
    write_pool(&mut image, ARENAS + POOL_BYTES, 0, 512, 7, 7);
    write_pool(&mut image, ARENAS + 2 * POOL_BYTES, 0, 32, 0, 9);
    write_pool(&mut image, ARENAS + ARENA_BYTES as u64, 1, 16, 0, 9);
    image
}

fn write_arena(image: &mut Image, index: u64, address: u64, carved: u64, free: u32) {
    let slot = ARRAY + 16 + index * 48;
    image.write(slot, &address.to_le_bytes());
    image.write(slot + 8, &(address + carved * POOL_BYTES).to_le_bytes());
    image.write(slot + 16, &free.to_le_bytes());
    image.write(slot + 20, &64_u32.to_le_bytes());
}

fn write_pool(image: &mut Image, at: u64, index: u32, block: u32, used: u32, carved: u32) {
    let size_index = block / 16 - 1;
    let fields = [index, size_index, 48 + carved * block, POOL_BYTES as u32 - block];
    image.write(at, &used.to_le_bytes());
    for (field, place) in fields.iter().zip((32_u64..).step_by(4)) {
        image.write(at + place, &field.to_le_bytes());
    }
}

fn mappings() -> Vec<Mapping> {
    vec![
        writable(DATA, 4096, "/usr/bin/python3.8"),
        writable(ARRAY, ARRAY_BYTES, ""),
        writable(ARENAS, 2 * ARENA_BYTES, ""),
    ]
}

fn walk_image(image: &Image, mappings: &[Mapping]) -> Result<Option<PymallocWalk>, PymallocError> {
    walk(image, image, mappings, &Interpreter::all_of(mappings)[0])
}

#[test]
fn blocks_pools_and_arenas_are_counted() {
    let walk = walk_image(&image(), &mappings()).unwrap().unwrap();
    let heap = &walk.heap;
    assert_eq!((heap.arenas, heap.used_pools, heap.in_use.count), (2, 2, 87));
    assert_eq!(heap.in_use.bytes, 80 * 48 + 7 * 512);
    assert_eq!(heap.free_blocks.bytes, 4 * 48);
    assert_eq!(heap.free_pools_bytes, (62 + 64) * POOL_BYTES);
    let extent = Extent { start: ARENAS, end: ARENAS + ARENA_BYTES as u64 };
    assert_eq!(walk.arenas[0], extent);
    assert!(!walk.is_in_malloc);
}

#[test]
fn only_an_arena_without_blocks_is_returnable() {
    let resident = walk_image(&image(), &mappings()).unwrap().unwrap().heap.resident;
    assert_eq!(resident.total_bytes(), 2 * ARENA_BYTES as u64);
    assert_eq!(resident.returnable_bytes, 64 * POOL_BYTES);
    assert_eq!(resident.in_use_bytes, 80 * 48 + 7 * 512);
    assert_eq!(resident.trapped_bytes, 62 * POOL_BYTES + 4 * 48);
}

#[test]
fn a_pool_that_cannot_be_understood_is_unknown() {
    let mut image = image();
    write_pool(&mut image, ARENAS + 2 * POOL_BYTES, 0, 32, 1, 1);
    image.write(ARENAS + POOL_BYTES + 32, &9_u32.to_le_bytes());
    let heap = walk_image(&image, &mappings()).unwrap().unwrap().heap;
    assert_eq!((heap.resident.unknown_bytes, heap.used_pools), (POOL_BYTES, 2));
}

#[test]
fn where_pools_lie_is_told_of_those_that_are_not_free() {
    let mut image = image();
    write_pool(&mut image, ARENAS + 2 * POOL_BYTES, 0, 32, 1, 9);
    image.write(ARENAS + POOL_BYTES + 32, &9_u32.to_le_bytes());
    let layouts = walk_image(&image, &mappings()).unwrap().unwrap().layouts;
    let [first, second] = &layouts[..] else { panic!("{layouts:?}") };
    let used = PoolLayout { start: ARENAS, block_bytes: 48, in_use: 80, capacity: 84 };
    let unknown = PoolLayout { start: ARENAS + POOL_BYTES, ..PoolLayout::default() };
    let last = PoolLayout::used(ARENAS + 2 * POOL_BYTES, 32, 1, (POOL_BYTES - 48) / 32);
    assert_eq!((&*first.pools, &*second.pools), (&[used, unknown, last][..], &[][..]));
    let extent = Extent { start: ARENAS, end: ARENAS + ARENA_BYTES as u64 };
    assert_eq!((first.extent, first.pool_bytes), (extent, POOL_BYTES));
    assert!(used.is_known() && !unknown.is_known());
}

#[test]
fn arenas_whose_pools_do_not_know_them_are_none() {
    let mut image = image();
    for pool in 0..3 {
        image.write(ARENAS + pool * POOL_BYTES + 32, &5_u32.to_le_bytes());
    }
    assert_eq!(walk_image(&image, &mappings()).unwrap(), None);
}

#[test]
fn arenas_that_overlap_are_none() {
    let mut image = image();
    write_arena(&mut image, 1, ARENAS + POOL_BYTES, 0, 64);
    assert_eq!(walk_image(&image, &mappings()).unwrap(), None);
}

#[test]
fn arenas_in_the_program_break_belong_to_malloc_too() {
    let mut mappings = mappings();
    mappings[2].name = "[heap]".to_owned();
    assert!(walk_image(&image(), &mappings).unwrap().unwrap().is_in_malloc);
}

#[test]
fn builds_whose_layout_is_not_known_are_refused_by_name() {
    let refused = |name: &str| {
        let mut mappings = mappings();
        mappings[0].name = format!("/usr/lib/{name}");
        walk_image(&image(), &mappings).unwrap_err()
    };
    let version = "3.13".to_owned();
    assert_eq!(refused("libpython3.13t.so.1.0"), PymallocError::FreeThreaded(version));
    assert_eq!(refused("python3.15"), PymallocError::UnknownVersion("3.15".to_owned()));
    assert_eq!(refused("python2.7"), PymallocError::UnknownVersion("2.7".to_owned()));
}

#[test]
fn interpreters_are_known_by_their_names() {
    let version = |name: &str| Interpreter::of(&writable(0, 1, name)).map(|it| it.version());
    assert_eq!(version("/usr/lib/libpython3.6m.so.1.0").as_deref(), Some("3.6"));
    assert_eq!(version("/usr/bin/python3.11-dbg").as_deref(), Some("3.11"));
    for other in ["/usr/bin/python", "/usr/lib/libc.so.6", "/opt/python3.d/x", ""] {
        assert_eq!(version(other), None);
    }
}

proptest! {
    #[test]
    fn any_memory_is_walked_without_harm(
        writes in vec((0_u64..(ARRAY_BYTES as u64 / 8), word()), 0..40),
        pools in vec((0_u64..32, 0_u64..6, any::<u32>()), 0..8),
    ) {
        let mut image = image();
        for (place, value) in writes {
            image.write(ARRAY + place * 8, &value.to_le_bytes());
        }
        for (pool, field, value) in pools {
            image.write(ARENAS + pool * POOL_BYTES + field * 8, &value.to_le_bytes());
        }
        if let Some(walk) = walk_image(&image, &mappings()).unwrap() {
            let resident = walk.heap.resident.total_bytes();
            prop_assert!(resident <= walk.heap.arenas * walk.heap.arena_bytes);
            prop_assert!(walk.heap.in_use.bytes <= walk.heap.arenas * walk.heap.arena_bytes);
        }
    }
}

/// A word that can mean something in an array of arenas.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        (0_u64..2 * ARENA_BYTES as u64).prop_map(|at| ARENAS + (at & !0xf)),
        (0_u64..65, 63_u64..65).prop_map(|(free, total)| total << 32 | free),
        any::<u64>(),
    ]
}
