use super::*;

impl Trace {
    fn map_with(&mut self, address: u64, length_bytes: u64, map_flags: u32) -> &mut Self {
        let action = Action::Map { address, length_bytes, prot: 3, map_flags, stack: A };
        self.by(1, AllocFn::Mmap, action)
    }

    fn map(&mut self, address: u64, length_bytes: u64) -> &mut Self {
        self.map_with(address, length_bytes, PRIVATE)
    }

    fn map_internal(&mut self, address: u64, length_bytes: u64) -> &mut Self {
        let map_flags = PRIVATE;
        let action = Action::Map { address, length_bytes, prot: 3, map_flags, stack: A };
        self.by_allocator(AllocFn::Mmap, action)
    }

    fn unmap_begin(&mut self, tid: u32, address: u64, length_bytes: u64) -> &mut Self {
        self.by(tid, AllocFn::Munmap, Action::UnmapBegin { address, length_bytes })
    }

    fn unmap_end(&mut self, tid: u32, address: u64, length: u64, failed: bool) -> &mut Self {
        let action = Action::UnmapEnd { address, length_bytes: length, failed };
        self.by(tid, AllocFn::Munmap, action)
    }

    fn unmap(&mut self, address: u64, length_bytes: u64) -> &mut Self {
        self.unmap_begin(1, address, length_bytes).unmap_end(1, address, length_bytes, false)
    }

    fn remap(&mut self, old: (u64, u64), new: (u64, u64)) -> &mut Self {
        let (old_address, old_length_bytes) = old;
        let (new_address, new_length_bytes) = new;
        let begin = Action::RemapBegin { old_address, old_length_bytes };
        let end = Action::RemapEnd {
            old_address,
            old_length_bytes,
            new_address,
            new_length_bytes,
            stack: B,
        };
        self.by(1, AllocFn::Mremap, begin).by(1, AllocFn::Mremap, end)
    }

    fn sbrk(&mut self, old_break: u64, new_break: u64) -> &mut Self {
        self.by(1, AllocFn::Sbrk, Action::Break { old_break, new_break, stack: A })
    }

    fn mmap_site(&self) -> SiteStats {
        self.site(A, AllocFn::Mmap).stats()
    }

    fn mremap_site(&self) -> SiteStats {
        self.site(B, AllocFn::Mremap).stats()
    }

    fn sbrk_site(&self) -> SiteStats {
        self.site(A, AllocFn::Sbrk).stats()
    }

    fn assert_no_loss(&self) {
        assert_eq!((self.losses(), self.totals().unmatched_unmapped_bytes), (vec![], 0));
    }
}

#[test]
fn a_mapping_unmapped_whole_frees_the_bytes_that_were_asked_for() {
    let mut trace = Trace::new();
    trace.map(BASE, 5000);
    assert_eq!(trace.mmap_site().live, amount(5000, 1));
    trace.unmap(BASE, 5000);
    assert_eq!(trace.mmap_site().freed, amount(5000, 1));
    assert_eq!(trace.mmap_site().live, NOTHING);
    trace.assert_no_loss();
}

#[test]
fn parts_are_freed_in_pages_and_the_mapping_counts_until_the_last() {
    let mut trace = Trace::new();
    trace.map(BASE, 5 * PAGE - 1000).unmap(BASE + PAGE, PAGE);
    assert_eq!(trace.mmap_site().live, amount(4 * PAGE - 1000, 1));
    trace.unmap(BASE + 4 * PAGE, PAGE);
    assert_eq!(trace.mmap_site().live, amount(3 * PAGE, 1));
    trace.unmap(BASE, 5 * PAGE);
    assert_eq!(trace.mmap_site().freed, amount(5 * PAGE - 1000, 1));
    assert_eq!(trace.totals().unmatched_unmapped_bytes, 2 * PAGE, "the holes were unmapped again");
}

#[test]
fn one_unmap_may_span_several_mappings() {
    let mut trace = Trace::new();
    trace.map(BASE, 2 * PAGE).map(BASE + 2 * PAGE, 2 * PAGE).map(BASE + 4 * PAGE, 2 * PAGE);
    trace.unmap(BASE + PAGE, 4 * PAGE);
    assert_eq!(trace.mmap_site().live, amount(2 * PAGE, 2));
    assert_eq!(trace.mmap_site().freed, amount(4 * PAGE, 1));
    trace.assert_no_loss();
}

#[test]
fn an_unmap_of_memory_from_before_the_window_is_unmatched() {
    let mut trace = Trace::new();
    trace.map(BASE + PAGE, PAGE).unmap(BASE, 3 * PAGE - 5);
    assert_eq!(trace.totals().unmatched_unmapped_bytes, 2 * PAGE);
    assert_eq!(trace.mmap_site().freed, amount(PAGE, 1));
    assert_eq!(trace.losses(), []);
}

#[test]
fn a_failed_unmap_leaves_everything_as_it_was() {
    let mut trace = Trace::new();
    trace.map(BASE, 3 * PAGE).unmap_begin(1, BASE + PAGE, PAGE);
    trace.unmap_end(1, BASE + PAGE, PAGE, true);
    assert_eq!(trace.mmap_site().live, amount(3 * PAGE, 1));
    assert_eq!(trace.ledger.mappings.mapped().range_count(), 1);
    trace.unmap(BASE, 3 * PAGE).assert_no_loss();
    assert_eq!(trace.mmap_site().freed, amount(3 * PAGE, 1));
}

#[test]
fn a_failed_unmap_of_an_impossible_range_changes_nothing() {
    let mut trace = Trace::new();
    trace.map(BASE, PAGE).unmap_begin(1, BASE, u64::MAX).unmap_end(1, BASE, u64::MAX, true);
    trace.unmap_begin(1, BASE, 0).unmap_end(1, BASE, 0, true);
    assert_eq!(trace.mmap_site().live, amount(PAGE, 1));
    trace.assert_no_loss();
}

#[test]
fn another_thread_may_be_handed_the_range_before_munmap_returns() {
    let mut trace = Trace::new();
    trace.map(BASE, PAGE).unmap_begin(2, BASE, PAGE).map(BASE, 2 * PAGE);
    trace.unmap_end(2, BASE, PAGE, false);
    assert_eq!(trace.mmap_site().live, amount(2 * PAGE, 1));
    assert_eq!(trace.mmap_site().freed, amount(PAGE, 1));
    trace.assert_no_loss();
}

#[test]
fn what_replaced_a_range_outlives_the_failure_of_its_unmap() {
    let mut trace = Trace::new();
    trace.map(BASE, 3 * PAGE).unmap_begin(2, BASE, 3 * PAGE);
    trace.map_with(BASE + PAGE, PAGE, PRIVATE | 0x10).unmap_end(2, BASE, 3 * PAGE, true);
    assert_eq!(trace.mmap_site().live, amount(3 * PAGE, 2));
    assert_eq!(trace.mmap_site().freed, amount(PAGE, 0));
    trace.unmap(BASE, 3 * PAGE).assert_no_loss();
    assert_eq!(trace.mmap_site().live, NOTHING);
}

#[test]
fn without_its_begin_an_unmap_still_frees() {
    let mut trace = Trace::new();
    trace.map(BASE, PAGE).unmap_end(1, BASE, PAGE, false);
    assert_eq!(trace.mmap_site().freed, amount(PAGE, 1));
    assert_eq!(trace.losses(), [(Loss::Unpaired, 1)]);
}

#[test]
fn without_its_end_an_unmap_is_taken_for_a_success() {
    for next in [
        Action::Map { address: 0, length_bytes: 1, prot: 0, map_flags: 0, stack: B },
        Action::UnmapBegin { address: 0, length_bytes: PAGE },
        Action::RemapBegin { old_address: 0, old_length_bytes: PAGE },
        Action::Break { old_break: 1, new_break: 2, stack: B },
        Action::ThreadExit,
    ] {
        let mut trace = Trace::new();
        trace.map(BASE, PAGE).unmap_begin(1, BASE, PAGE).by(1, AllocFn::Mmap, next);
        assert_eq!(trace.mmap_site().freed, amount(PAGE, 1));
        assert_eq!(trace.losses(), [(Loss::Unpaired, 1)]);
    }
}

#[test]
fn heap_events_do_not_end_an_unmap_nor_mappings_a_realloc() {
    let mut trace = Trace::new();
    trace.map(BASE, PAGE).alloc(1, 1, A);
    trace.by(1, AllocFn::Realloc, Action::ReallocBegin { old_address: 1 });
    trace.unmap_begin(1, BASE, PAGE);
    let (new_address, size_bytes) = (2, 5);
    let end = Action::ReallocEnd { old_address: 1, new_address, size_bytes, stack: A };
    trace.by(1, AllocFn::Realloc, end).unmap_end(1, BASE, PAGE, false).assert_no_loss();
}

#[test]
fn map_fixed_releases_what_it_covers() {
    let mut trace = Trace::new();
    trace.map(BASE, 4 * PAGE).map_with(BASE + PAGE, PAGE, PRIVATE | 0x10);
    assert_eq!(trace.mmap_site().allocated, amount(5 * PAGE, 2));
    assert_eq!(trace.mmap_site().freed, amount(PAGE, 0));
    trace.unmap(BASE, 4 * PAGE).assert_no_loss();
    assert_eq!(trace.mmap_site().freed, amount(5 * PAGE, 2));
}

#[test]
fn without_map_fixed_a_covered_range_proves_an_unmap() {
    let mut trace = Trace::new();
    trace.map(BASE, 2 * PAGE).map(BASE + PAGE, PAGE);
    assert_eq!(trace.mmap_site().freed, amount(PAGE, 0));
    assert_eq!(trace.losses(), [(Loss::ImpliedFree, 1)]);
}

#[test]
fn mremap_is_a_release_and_a_mapping_by_its_own_site() {
    for new in [(BASE, 4 * PAGE), (BASE, PAGE), (BASE + 64 * PAGE, 4 * PAGE)] {
        let mut trace = Trace::new();
        trace.map(BASE, 2 * PAGE).remap((BASE, 2 * PAGE), new);
        assert_eq!(trace.mmap_site().freed, amount(2 * PAGE, 1));
        assert_eq!(trace.mremap_site().live, amount(new.1, 1));
        trace.unmap(new.0, new.1).assert_no_loss();
        assert_eq!(trace.mremap_site().freed, amount(new.1, 1));
    }
}

#[test]
fn mremap_of_a_part_leaves_the_rest() {
    let mut trace = Trace::new();
    trace.map(BASE, 4 * PAGE).remap((BASE + PAGE, PAGE), (BASE + 64 * PAGE, 2 * PAGE));
    assert_eq!(trace.mmap_site().live, amount(3 * PAGE, 1));
    assert_eq!(trace.mremap_site().live, amount(2 * PAGE, 1));
    trace.assert_no_loss();
}

#[test]
fn mremap_with_an_old_length_of_zero_duplicates() {
    let mut trace = Trace::new();
    trace.map(BASE, PAGE).remap((BASE, 0), (BASE + 64 * PAGE, PAGE));
    assert_eq!(trace.mmap_site().live, amount(PAGE, 1));
    assert_eq!(trace.mremap_site().live, amount(PAGE, 1));
    trace.assert_no_loss();
}

#[test]
fn a_failed_mremap_leaves_the_old_range() {
    let mut trace = Trace::new();
    trace.map(BASE, PAGE).remap((BASE, PAGE), (0, 1 << 60));
    assert_eq!(trace.mmap_site().live, amount(PAGE, 1));
    trace.unmap(BASE, PAGE).assert_no_loss();
}

#[test]
fn mremap_may_replace_the_range_that_it_moves_to() {
    let mut trace = Trace::new();
    trace.map(BASE, PAGE).map(BASE + 8 * PAGE, 2 * PAGE);
    trace.remap((BASE, PAGE), (BASE + 8 * PAGE, PAGE));
    assert_eq!(trace.mmap_site().live, amount(PAGE, 1));
    trace.assert_no_loss();
}

#[test]
fn the_allocators_own_mappings_have_books_of_their_own_and_never_survive() {
    let mut trace = Trace::new();
    trace.map_internal(BASE, 64 * PAGE).unmap(BASE + 32 * PAGE, 32 * PAGE);
    assert_eq!(trace.totals().mappings, SiteStats::default());
    assert_eq!(trace.totals().allocator_mappings.live, amount(32 * PAGE, 1));
    assert_eq!(trace.ledger.survivors(u64::MAX, 0), []);
    assert_eq!(trace.ledger.sites().count(), 0);
    trace.remap((BASE, 32 * PAGE), (BASE, 64 * PAGE)).assert_no_loss();
    assert_eq!(trace.totals().allocator_mappings.live, amount(64 * PAGE, 1));
    assert_eq!(trace.totals().mappings, SiteStats::default());
}

#[test]
fn arenas_of_pymalloc_have_books_of_their_own_and_never_survive() {
    let mut trace = Trace::new();
    for arena in 0..3 {
        let (address, length_bytes) = (BASE + arena * 64 * PAGE, 64 * PAGE);
        let action = Action::Map { address, length_bytes, prot: 3, map_flags: PRIVATE, stack: A };
        let (function, time_ns) = (AllocFn::Mmap, trace.now_ns);
        trace.ledger.apply_arena(&Event::of(function, 1, time_ns, action));
    }
    trace.unmap(BASE + 64 * PAGE, 64 * PAGE).assert_no_loss();
    let arenas = trace.totals().pymalloc_arenas;
    assert_eq!((arenas.allocated, arenas.freed), (amount(192 * PAGE, 3), amount(64 * PAGE, 1)));
    assert_eq!(arenas.live, amount(128 * PAGE, 2));
    assert_eq!(trace.totals().mappings, SiteStats::default());
    assert_eq!((trace.ledger.sites().count(), trace.ledger.survivors(u64::MAX, 0)), (0, vec![]));
}

#[test]
fn huge_pages_are_unmapped_whole() {
    let mut trace = Trace::new();
    trace.map_with(BASE, 3 << 20, PRIVATE | 0x4_0000).unmap(BASE, 4 << 20).assert_no_loss();
    assert_eq!(trace.mmap_site().freed, amount(3 << 20, 1));
}

#[test]
fn sbrk_maps_and_unmaps_single_bytes() {
    let mut trace = Trace::new();
    trace.sbrk(1000, 1100).sbrk(1100, 1150).sbrk(1150, 1050);
    assert_eq!(trace.sbrk_site().allocated, amount(150, 2));
    assert_eq!(trace.sbrk_site().freed, amount(100, 1));
    trace.assert_no_loss();
}

#[test]
fn brk_does_not_tell_where_the_break_was_and_it_is_remembered() {
    let start = Start { initial_break: Some(1000), ..START };
    let mut trace = Trace::with(LIMITS, start);
    trace.sbrk(0, 1500).sbrk(0, 1200);
    assert_eq!(trace.sbrk_site().live, amount(200, 1));
    trace.sbrk(0, 900);
    assert_eq!(trace.totals().unmatched_unmapped_bytes, 100, "the break from before the window");
    assert_eq!(trace.losses(), []);
}

#[test]
fn the_first_brk_from_an_unknown_break_only_says_where_it_is() {
    let mut trace = Trace::new();
    trace.sbrk(0, 1500).sbrk(0, 1700);
    assert_eq!(trace.sbrk_site().allocated, amount(200, 1));
}

#[test]
fn the_allocators_heap_grows_as_one_mapping() {
    let mut trace = Trace::new();
    for step in 0..10 {
        let (old_break, new_break) = (1000 + step * 10, 1010 + step * 10);
        let grow = Action::Break { old_break, new_break, stack: A };
        trace.by_allocator(AllocFn::Sbrk, grow);
    }
    assert_eq!(trace.totals().allocator_mappings.live, amount(100, 1));
    assert_eq!(trace.ledger.mappings.mapped().range_count(), 1);
    trace.sbrk(1100, 1040);
    assert_eq!(trace.totals().allocator_mappings.live, amount(40, 1));
    assert_eq!(trace.totals().mappings, SiteStats::default());
}

#[test]
fn a_full_table_of_ranges_counts_what_it_does_not_follow() {
    let mut trace = Trace::with(Limits { live_ranges: 1, ..LIMITS }, START);
    trace.map(BASE, 3 * PAGE).map(BASE + 8 * PAGE, PAGE);
    assert_eq!(trace.mmap_site().allocated, amount(3 * PAGE, 1));
    assert_eq!(trace.losses(), [(Loss::LiveRangesFull, 1)]);
    trace.unmap(BASE + PAGE, PAGE);
    assert_eq!(trace.mmap_site().live, amount(PAGE, 1), "there is room for one rest only");
    assert_eq!(trace.losses(), [(Loss::LiveRangesFull, 2)]);
}

#[test]
fn a_mapping_that_no_kernel_makes_is_counted_as_garbage() {
    let mut trace = Trace::new();
    trace.map(BASE, 0).map(u64::MAX - PAGE, 2 * PAGE);
    assert_eq!(trace.losses(), [(Loss::Undecodable, 2)]);
    assert_eq!(trace.totals().mappings, SiteStats::default());
}

#[test]
fn live_items_tell_where_what_is_left_of_a_mapping_lies() {
    let mut trace = Trace::new();
    trace.map(BASE, 4 * PAGE).unmap(BASE, PAGE);
    let items: Vec<_> = trace.ledger.live_items().map(|item| (item.address, item.bytes)).collect();
    assert_eq!(items, [(BASE + PAGE, 3 * PAGE)]);
}
