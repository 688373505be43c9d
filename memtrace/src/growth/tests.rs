use memtrace_common::sample::Interval;

use super::*;
use crate::{
    ledger::{Ledger, Limits, Start},
    model::{site::Amount, stack::StackId},
};

const PAGE: u64 = 4096;
const READ_WRITE: u32 = 3;
const ANONYMOUS: u32 = 0x22;

/// A target and its books.
struct Target {
    growth: Growth,
    ledger: Ledger,
}

impl Target {
    fn new() -> Self {
        let limits = Limits { live_blocks: 1000, live_ranges: 1000, sites: 100 };
        let start = Start { time_ns: 0, initial_break: Some(0x10_0000), page_bytes: PAGE };
        Self { growth: Growth::new(PAGE, Some(0x10_0000), &[]), ledger: Ledger::new(limits, start) }
    }

    fn book(&mut self, function: AllocFn, interval: Interval, action: Action) {
        let event = Event { interval, ..Event::of(function, 1, 1, action) };
        let mut out = Vec::new();
        self.growth.book(event, &mut out);
        out.iter().for_each(|event| self.ledger.apply(event));
    }

    fn map(&mut self, address: u64, pages: u64, prot: u32, map_flags: u32) {
        let length_bytes = pages * PAGE;
        let stack = StackId(7);
        let action = Action::Map { address, length_bytes, prot, map_flags, stack };
        self.book(AllocFn::Mmap, Interval::EXACT, action);
    }

    fn protect(&mut self, address: u64, pages: u64, prot: u32) {
        let length_bytes = pages * PAGE;
        let action = Action::Protect { address, length_bytes, prot, stack: StackId(8) };
        self.book(AllocFn::Mprotect, Interval::EXACT, action);
    }

    fn unmap(&mut self, address: u64, pages: u64, failed: bool) {
        let length_bytes = pages * PAGE;
        let begin = Action::UnmapBegin { address, length_bytes };
        self.book(AllocFn::Munmap, Interval::EXACT, begin);
        let end = Action::UnmapEnd { address, length_bytes, failed };
        self.book(AllocFn::Munmap, Interval::EXACT, end);
    }

    fn remap(&mut self, from: (u64, u64), to: (u64, u64)) {
        let (old_address, old_length_bytes) = (from.0, from.1 * PAGE);
        let begin = Action::RemapBegin { old_address, old_length_bytes };
        self.book(AllocFn::Mremap, Interval::EXACT, begin);
        let (new_address, new_length_bytes) = (to.0, to.1 * PAGE);
        let stack = StackId(9);
        let end = Action::RemapEnd {
            old_address,
            old_length_bytes,
            new_address,
            new_length_bytes,
            stack,
        };
        self.book(AllocFn::Mremap, Interval::EXACT, end);
    }

    fn touch(&mut self, address: u64, pages: u64) {
        for page in 0..pages {
            let address = address + page * PAGE;
            let action = Action::Alloc { address, size_bytes: PAGE, stack: StackId(3) };
            self.book(AllocFn::PageFault, Interval::EXACT, action);
        }
    }

    fn discard(&mut self, address: u64, pages: u64) {
        let action = Action::Discard { address, length_bytes: pages * PAGE };
        self.book(AllocFn::Madvise, Interval::EXACT, action);
    }

    /// Pages of address space, and of memory.
    fn grown(&self) -> (u64, u64) {
        let totals = self.ledger.totals();
        assert_eq!(self.ledger.losses().count(), 0);
        (totals.mappings.live.bytes / PAGE, totals.heap.live.bytes / PAGE)
    }
}

#[test]
fn what_is_reserved_counts_from_when_it_can_be_used() {
    let mut target = Target::new();
    target.map(0x100_0000, 1000, PROT_NONE, ANONYMOUS);
    assert_eq!(target.grown(), (0, 0));
    target.protect(0x100_0000, 10, READ_WRITE);
    target.protect(0x100_0000, 30, READ_WRITE);
    assert_eq!(target.grown().0, 30, "the first ten could be used already");
    target.protect(0x100_0000, 30, 1);
    assert_eq!(target.grown().0, 30, "what becomes read-only is still there");
    target.protect(0x100_0000 + 20 * PAGE, 10, PROT_NONE);
    assert_eq!(target.grown().0, 20);
    target.unmap(0x100_0000, 1000, false);
    assert_eq!(target.grown(), (0, 0));
    assert_eq!(target.ledger.totals().unmatched_unmapped_bytes, 0);
}

#[test]
fn growth_of_a_reservation_belongs_to_who_permits_its_use() {
    let mut target = Target::new();
    target.map(0x100_0000, 1000, PROT_NONE, ANONYMOUS);
    target.protect(0x100_0000, 30, READ_WRITE);
    let sites: Vec<_> = target.ledger.sites().filter_map(|(_, entry)| entry.site).collect();
    assert_eq!(sites.len(), 1);
    assert_eq!((sites[0].function, sites[0].stack), (AllocFn::Mprotect, StackId(8)));
}

#[test]
fn a_reservation_from_before_the_window_grows_too_and_usable_memory_does_not() {
    let mapping = |start: u64, write: bool| Mapping {
        start,
        end: start + 100 * PAGE,
        file_offset: 0,
        file: None,
        name: String::new(),
        deleted: false,
        permissions: Permissions { read: write, write, execute: false },
    };
    let mut target = Target::new();
    let mappings = [mapping(0x100_0000, false), mapping(0x200_0000, true)];
    target.growth = Growth::new(PAGE, None, &mappings);
    target.protect(0x100_0000, 10, READ_WRITE);
    target.protect(0x200_0000, 10, 1);
    target.protect(0x200_0000, 10, READ_WRITE);
    assert_eq!(target.grown(), (10, 0));
}

#[test]
fn pages_are_resident_from_their_first_use_until_they_are_given_back() {
    let mut target = Target::new();
    target.map(0x100_0000, 100, READ_WRITE, ANONYMOUS);
    assert_eq!(target.grown(), (100, 0), "address space alone is not resident");
    target.touch(0x100_0000, 50);
    target.discard(0x100_0000, 20);
    assert_eq!(target.grown(), (100, 30));
    target.touch(0x100_0000, 5);
    target.unmap(0x100_0000 + 40 * PAGE, 60, false);
    assert_eq!(target.grown(), (40, 25));
    target.map(0x100_0000, 40, PROT_NONE, ANONYMOUS | MAP_FIXED);
    assert_eq!(target.grown(), (0, 0));
}

#[test]
fn a_copy_on_write_replaces_the_page() {
    let mut target = Target::new();
    target.touch(0x100_0000, 1);
    target.touch(0x100_0000, 1);
    assert_eq!(target.grown(), (0, 1));
}

#[test]
fn pages_move_with_their_mapping_and_what_is_cut_off_is_given_back() {
    let mut target = Target::new();
    target.map(0x100_0000, 100, READ_WRITE, ANONYMOUS);
    target.touch(0x100_0000, 50);
    target.remap((0x100_0000, 100), (0x900_0000, 200));
    assert_eq!(target.grown(), (200, 50));
    target.discard(0x100_0000, 100);
    assert_eq!(target.grown(), (200, 50), "there is nothing any more");
    target.remap((0x900_0000, 200), (0x900_0000, 20));
    assert_eq!(target.grown(), (20, 20));
    target.unmap(0x900_0000, 20, false);
    assert_eq!(target.grown(), (0, 0));
}

#[test]
fn what_fails_changes_nothing() {
    let mut target = Target::new();
    target.map(0x100_0000, 10, READ_WRITE, ANONYMOUS);
    target.touch(0x100_0000, 10);
    target.unmap(0x100_0000, 10, true);
    target.remap((0x100_0000, 10), (0, 20));
    assert_eq!(target.grown(), (10, 10));
}

#[test]
fn the_break_gives_its_pages_back_when_it_is_lowered() {
    let mut target = Target::new();
    let set = |target: &mut Target, new_break| {
        let action = Action::Break { old_break: 0, new_break, stack: StackId(1) };
        target.book(AllocFn::Brk, Interval::EXACT, action);
    };
    set(&mut target, 0x10_0000 + 10 * PAGE);
    target.touch(0x10_0000, 10);
    set(&mut target, 0x10_0000 + 4 * PAGE);
    assert_eq!(target.grown(), (4, 4));
}

#[test]
fn a_sample_stands_for_what_its_probability_says() {
    let mut target = Target::new();
    let interval = Interval::from_exponent(19);
    for (address, size_bytes) in [(0x100_0000, PAGE), (0x200_0000, 2 << 20)] {
        let action = Action::Alloc { address, size_bytes, stack: StackId(3) };
        target.book(AllocFn::PageFault, interval, action);
    }
    let live = target.ledger.totals().heap.live;
    // A page of many is 512 KiB; a large one is itself.
    let expected = (512 << 10) + (2 << 20);
    assert!(live.bytes.abs_diff(expected) < expected / 20, "{live:?}");
    assert_eq!(live.count, 2);
    target.discard(0x100_0000, 1 << 20);
    assert_eq!(target.ledger.totals().heap.live, Amount::default());
}
