//! Events of which no books are wanted: before the part of a window that is looked at, or of other
//! threads.

use super::*;

fn event(time_ns: u64, function: AllocFn, action: Action) -> Event {
    Event::of(function, 1, time_ns, action)
}

fn alloc(address: u64, size_bytes: u64) -> Event {
    event(1, AllocFn::Malloc, Action::Alloc { address, size_bytes, stack: A })
}

fn map(address: u64, length_bytes: u64) -> Event {
    let action = Action::Map { address, length_bytes, prot: 3, map_flags: PRIVATE, stack: A };
    event(1, AllocFn::Mmap, action)
}

fn unmap(trace: &mut Trace, address: u64, length_bytes: u64) {
    trace.by(1, AllocFn::Munmap, Action::UnmapBegin { address, length_bytes });
    trace.by(1, AllocFn::Munmap, Action::UnmapEnd { address, length_bytes, failed: false });
}

#[test]
fn what_is_obtained_unwatched_is_in_no_books() {
    let mut trace = Trace::new();
    trace.ledger.apply_unwatched(&alloc(1, 10));
    trace.ledger.apply_unwatched(&map(BASE, 2 * PAGE));
    assert_balanced(&trace.ledger);
    assert_eq!(trace.totals(), LedgerTotals::default());
    assert_eq!(trace.ledger.survivors(9, 0), []);
    assert_eq!((trace.ledger.sites().count(), trace.ledger.sizes().count()), (0, 0));
}

#[test]
fn its_release_is_not_one_of_unknown_memory() {
    let mut trace = Trace::new();
    trace.ledger.apply_unwatched(&alloc(1, 10));
    trace.ledger.apply_unwatched(&map(BASE, 2 * PAGE));
    trace.free(1);
    unmap(&mut trace, BASE, 2 * PAGE);
    let totals = trace.totals();
    assert_eq!((totals.unmatched_frees, totals.unmatched_unmapped_bytes), (0, 0));
    assert_eq!((totals.heap, totals.mappings), Default::default());
    assert_eq!(trace.ledger.lifetimes().count(), 0);
}

#[test]
fn what_it_releases_is_released() {
    let mut trace = Trace::new();
    trace.alloc(1, 10, A).alloc(2, 20, A);
    trace.ledger.apply_unwatched(&event(5, AllocFn::Free, Action::Free { address: 1 }));
    trace.ledger.apply_unwatched(&event(6, AllocFn::Free, Action::Free { address: 77 }));
    let realloc = Action::ReallocEnd { old_address: 2, new_address: 3, size_bytes: 9, stack: B };
    let begin = Action::ReallocBegin { old_address: 2 };
    trace.ledger.apply_unwatched(&event(7, AllocFn::Realloc, begin));
    trace.ledger.apply_unwatched(&event(8, AllocFn::Realloc, realloc));
    assert_balanced(&trace.ledger);
    let totals = trace.totals();
    assert_eq!((totals.heap.freed, totals.heap.live), (amount(30, 2), NOTHING));
    assert_eq!(totals.unmatched_frees, 0);
    assert_eq!(trace.ledger.sites().count(), 1);
}

#[test]
fn a_break_that_grew_unwatched_is_not_extended_by_the_allocator() {
    let mut trace = Trace::with(LIMITS, Start { initial_break: Some(BASE), ..START });
    let grow = |from: u64, to: u64| Action::Break {
        old_break: BASE + from * PAGE,
        new_break: BASE + to * PAGE,
        stack: A,
    };
    let event = |action| Event { internal: true, ..event(1, AllocFn::Sbrk, action) };
    trace.ledger.apply_unwatched(&event(grow(0, 1)));
    trace.apply(event(grow(1, 3)));
    trace.apply(event(grow(3, 4)));
    assert_eq!(trace.totals().allocator_mappings.live, amount(3 * PAGE, 1));
}

#[test]
fn the_summit_is_what_every_site_had_when_all_had_the_most() {
    let mut trace = Trace::new();
    trace.ledger.watch_summit();
    trace.alloc(1, 10, A).alloc(2, 20, B).free(1).alloc(3, 5, B).free(2);
    assert_eq!(trace.ledger.summit(), Some((30, 2)));
    let at_summit: Vec<_> =
        trace.ledger.sites().map(|(id, _)| trace.ledger.at_summit(id)).collect();
    assert_eq!(at_summit, [Some(amount(10, 1)), Some(amount(20, 1))]);
    assert_eq!(trace.ledger.live_bytes(), 5);
}

#[test]
fn an_exec_leaves_the_summit_behind() {
    let mut trace = Trace::new();
    trace.ledger.watch_summit();
    trace.alloc(1, 10, A).by(1, AllocFn::Malloc, Action::Exec).alloc(1, 4, A);
    let (id, _) = trace.ledger.sites().next().expect("a site");
    assert_eq!(
        (trace.ledger.summit(), trace.ledger.at_summit(id)),
        (Some((10, 1)), Some(amount(10, 1)))
    );
}
