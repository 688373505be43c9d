//! By cases, and by the rule that nothing is counted twice or not at all.

use proptest::prelude::*;

use super::*;
use crate::model::{
    census::{Arena, Extent, GlibcHeap, HeapResidency, MuslHeap, PymallocHeap},
    mapping::{FileId, Permissions},
};

const PAGE: u64 = 4096;

fn mapping(name: &str, has_file: bool) -> Mapping {
    Mapping {
        start: 0,
        end: 1 << 40,
        file_offset: 0,
        file: has_file.then_some(FileId { device: (0, 1), inode: 1 }),
        name: name.to_owned(),
        deleted: false,
        permissions: Permissions::default(),
    }
}

fn run(first: u64, last: u64, state: PageState, file_backed: bool) -> PageRun {
    PageRun { start: first * PAGE, end: last * PAGE, state, file_backed, huge: false }
}

fn claim(start: u64, end: u64, owner: Owner) -> Claim {
    Claim { extent: Extent { start, end }, owner }
}

/// What a resident page in a mapping of this name is.
fn kind_of(name: &str, has_file: bool, file_backed: bool, in_memory: bool) -> RssKind {
    let mapping = mapping(name, has_file);
    let runs = vec![run(0, 1, PageState::Resident, file_backed)];
    let mut count = PageCount::default();
    count.add(&MappingRuns { mapping: &mapping, runs, in_memory }, &Claims::default());
    assert_eq!(count.resident_bytes, PAGE);
    *count.kinds.iter().find(|(_, bytes)| **bytes == PAGE).unwrap().0
}

#[test]
fn pages_that_nobody_claims_are_told_by_their_mapping() {
    let cases = [
        (("", false, false, false), RssKind::OtherAnonymous),
        (("[heap]", false, false, false), RssKind::OtherAnonymous),
        (("[stack]", false, false, false), RssKind::ThreadStacks),
        (("[anon: glibc: pthread stack: 12]", false, false, false), RssKind::ThreadStacks),
        (("[vdso]", false, true, false), RssKind::File),
        (("/usr/lib/libc.so.6", true, true, false), RssKind::File),
        (("/usr/lib/libc.so.6", true, false, false), RssKind::PrivateFile),
        (("/dev/zero", true, false, false), RssKind::OtherAnonymous),
        (("/dev/zero", true, true, false), RssKind::Shmem),
        (("/memfd:buffers", true, true, false), RssKind::Shmem),
        (("/SYSV00000000", true, true, false), RssKind::Shmem),
        (("/run/file", true, true, true), RssKind::Shmem),
        (("/run/file", true, false, true), RssKind::PrivateFile),
    ];
    for ((name, has_file, file_backed, in_memory), expected) in cases {
        assert_eq!(kind_of(name, has_file, file_backed, in_memory), expected, "{name}");
    }
}

#[test]
fn of_overlapping_claims_the_first_keeps_the_part() {
    let stack = Owner::Kind(RssKind::ThreadStacks);
    let claims = Claims::new([
        claim(10, 20, Owner::Walker),
        claim(30, 40, Owner::Walker),
        claim(0, 50, stack),
        claim(12, 13, stack),
    ]);
    let within: Vec<_> = claims.within(5, 35).collect();
    assert_eq!(within, [(stack, 5), (Owner::Walker, 10), (stack, 10), (Owner::Walker, 5)]);
}

#[test]
fn swapped_pages_and_the_page_of_zeros_are_not_resident() {
    let mapping = mapping("", false);
    let runs = vec![
        run(0, 1, PageState::Resident, false),
        run(1, 3, PageState::Zero, false),
        run(5, 9, PageState::Swapped, false),
    ];
    let mut count = PageCount::default();
    count.add(&MappingRuns { mapping: &mapping, runs, in_memory: false }, &Claims::default());
    let PageCount { resident_bytes, zero_bytes, swapped_bytes, .. } = count;
    assert_eq!((resident_bytes, zero_bytes, swapped_bytes), (PAGE, 2 * PAGE, 4 * PAGE));
}

#[test]
fn rows_and_the_remainder_add_up_to_rss() {
    let resident = HeapResidency {
        in_use_bytes: 100,
        returnable_bytes: 20,
        trapped_bytes: 30,
        cached_bytes: 4,
        top_bytes: 5,
        metadata_bytes: 6,
        unknown_bytes: 7,
    };
    let arena = Arena { resident, ..Arena::default() };
    let glibc =
        [GlibcHeap { arenas: vec![arena], mapped_resident_bytes: 1000, ..Default::default() }];
    let musl = [MuslHeap { resident, ..Default::default() }];
    let pymalloc = [PymallocHeap { resident, ..Default::default() }];
    let heaps = Heaps { glibc: &glibc, musl: &musl, pymalloc: &pymalloc };
    let mut count = PageCount { resident_bytes: 5000, walked_bytes: 1600, ..Default::default() };
    count.kinds.insert(RssKind::File, 3400);
    let table = table(&count, heaps);
    assert_eq!(table.bytes(RssKind::InUse), 200);
    assert_eq!(table.bytes(RssKind::MappedBlocks), 1000);
    assert_eq!(table.bytes(RssKind::PymallocInUse), 106);
    assert_eq!(table.bytes(RssKind::HeapUnknown), 21);
    assert_eq!(table.bytes(RssKind::Remainder), 1600 - 1000 - 3 * 172);
    assert_eq!(table.rows.iter().map(|row| row.resident_bytes).sum::<i64>(), 5000);
}

/// Runs in ascending order, from gaps and lengths.
fn runs() -> impl Strategy<Value = Vec<PageRun>> {
    let states =
        prop_oneof![Just(PageState::Resident), Just(PageState::Zero), Just(PageState::Swapped)];
    proptest::collection::vec((0_u64..4, 1_u64..9, states, any::<bool>()), 0..20).prop_map(|all| {
        let mut next = 0;
        all.into_iter()
            .map(|(gap, pages, state, file_backed)| {
                let first = next + gap;
                next = first + pages;
                run(first, next, state, file_backed)
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn every_resident_byte_is_counted_once(
        runs in runs(),
        claims in proptest::collection::vec((0_u64..600_000, 0_u64..90_000, any::<bool>()), 0..20),
    ) {
        let claims = Claims::new(claims.into_iter().map(|(start, bytes, walked)| {
            let owner = if walked { Owner::Walker } else { Owner::Kind(RssKind::CachedStacks) };
            claim(start, start + bytes, owner)
        }));
        let resident = runs.iter().filter(|run| run.state == PageState::Resident);
        let expected: u64 = resident.map(|run| run.end - run.start).sum();
        let mapping = mapping("", false);
        let mut count = PageCount::default();
        count.add(&MappingRuns { mapping: &mapping, runs, in_memory: false }, &claims);
        prop_assert_eq!(count.resident_bytes, expected);
        prop_assert_eq!(count.walked_bytes + count.kinds.values().sum::<u64>(), expected);
    }
}
