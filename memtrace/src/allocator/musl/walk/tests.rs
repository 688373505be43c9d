use proptest::{collection::vec, prelude::*};

use super::*;
use crate::allocator::image::{Image, writable};

const DATA: u64 = 0x50_0000;
const AREA: u64 = 0x6000_0000;
const HEAP: u64 = 0x7000_0000;
const SECRET: u64 = 0x0123_4567_89ab_cdef;
const HEAP_BYTES: usize = 16 << 10;

/// A group of ten slots of 1008 bytes, three of which are free, and in its second slot a group of
/// eight slots of 32 bytes, one of which is free.
fn image() -> Image {
    let mut image =
        Image::new([(DATA, vec![0; 4096]), (AREA, vec![0; 4096]), (HEAP, vec![0; HEAP_BYTES])]);
    image.write(DATA + 128, &SECRET.to_le_bytes());
    image.write(DATA + 128 + 7 * 8, &AREA.to_le_bytes());
    image.write(AREA, &SECRET.to_le_bytes());
    image.write(AREA + 16, &3_u32.to_le_bytes());
    write_group(&mut image, 0, HEAP, [0b1, 0b11000], 9 | 19 << 6 | 4 << 12);
    write_group(&mut image, 1, HEAP + 16 + 1008, [0b1, 0], 7 | 1 << 6);
    image
}

fn write_group(image: &mut Image, slot: u64, memory: u64, masks: [u32; 2], bits: u64) {
    let meta = AREA + 24 + slot * 40;
    image.write(meta + 16, &memory.to_le_bytes());
    image.write(meta + 24, &masks[0].to_le_bytes());
    image.write(meta + 28, &masks[1].to_le_bytes());
    image.write(meta + 32, &bits.to_le_bytes());
    image.write(memory, &meta.to_le_bytes());
}

fn walk_image(image: &Image) -> Result<MuslWalk, MuslError> {
    let mappings = [
        writable(DATA, 4096, "/lib/ld-musl-x86_64.so.1"),
        writable(AREA, 4096, ""),
        writable(HEAP, HEAP_BYTES, ""),
    ];
    walk(image, image, &mappings, &mappings[0], Some("1.2.3"))
}

#[test]
fn slots_are_counted_without_those_that_hold_groups() {
    let heap = walk_image(&image()).unwrap().heap;
    assert_eq!((heap.in_use.count, heap.in_use.bytes), (6 + 7, 6 * 1008 + 7 * 32));
    assert_eq!((heap.free.count, heap.free.bytes), (3 + 1, 3 * 1008 + 32));
}

#[test]
fn every_resident_byte_is_something() {
    let MuslWalk { heap, extents } = walk_image(&image()).unwrap();
    let expected = [
        Extent { start: AREA, end: AREA + 4096 },
        Extent { start: HEAP, end: HEAP + HEAP_BYTES as u64 },
    ];
    assert_eq!(extents, expected);
    assert_eq!(heap.resident.total_bytes(), 4096 + HEAP_BYTES as u64);
    assert_eq!(heap.resident.in_use_bytes, heap.in_use.bytes);
    assert_eq!(heap.resident.trapped_bytes, heap.free.bytes);
}

#[test]
fn a_group_that_does_not_know_its_meta_is_left_out() {
    let mut image = image();
    image.write(HEAP + 16 + 1008, &[0; 8]);
    assert_eq!(walk_image(&image).unwrap().heap.in_use.count, 7);
}

#[test]
fn a_heap_without_a_secret_is_refused() {
    let mut image = image();
    image.write(AREA, &[1; 8]);
    assert_eq!(walk_image(&image), Err(MuslError::NoContext));
}

#[test]
fn versions_are_compared_as_numbers() {
    assert!(["1.1.24", "1.2.0", "0.9.15"].into_iter().all(is_before_mallocng));
    assert!(!["1.2.1", "1.2.10", "1.10.0", "2.0.0", "x"].into_iter().any(is_before_mallocng));
}

proptest! {
    #[test]
    fn any_metas_are_walked_without_harm(
        writes in vec((0_u64..512, word()), 0..60),
        heads in vec((0_u64..HEAP_BYTES as u64 / 16, 0_u64..20), 0..20),
    ) {
        let mut image = image();
        for (place, value) in writes {
            image.write(AREA + place * 8, &value.to_le_bytes());
        }
        for (place, meta) in heads {
            image.write(HEAP + place * 16, &(AREA + 24 + meta * 40).to_le_bytes());
        }
        image.write(AREA, &SECRET.to_le_bytes());
        if let Ok(walk) = walk_image(&image) {
            let whole = HEAP_BYTES as u64 + 2 * 4096;
            prop_assert!(walk.heap.resident.total_bytes() <= whole, "{walk:?}");
        }
    }
}

/// A word that can mean something in a meta.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        (0_u64..HEAP_BYTES as u64).prop_map(|at| HEAP + (at & !0xf)),
        (0_u64..32, 0_u64..64, 0_u64..6)
            .prop_map(|(last, class, pages)| { last | class << 6 | pages << 12 }),
        any::<u64>(),
    ]
}
