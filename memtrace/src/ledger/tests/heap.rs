use super::*;

const X: u64 = 0x1000;
const Y: u64 = 0x2000;

impl Trace {
    fn begin(&mut self, tid: u32, old_address: u64) -> &mut Self {
        self.by(tid, AllocFn::Realloc, Action::ReallocBegin { old_address })
    }

    fn end(&mut self, tid: u32, old: u64, new: u64, size_bytes: u64) -> &mut Self {
        let action =
            Action::ReallocEnd { old_address: old, new_address: new, size_bytes, stack: B };
        self.by(tid, AllocFn::Realloc, action)
    }

    fn malloc_site(&self) -> SiteStats {
        self.site(A, AllocFn::Malloc).stats()
    }

    fn realloc_site(&self) -> SiteStats {
        self.site(B, AllocFn::Realloc).stats()
    }
}

#[test]
fn a_block_is_live_until_its_free() {
    let mut trace = Trace::new();
    trace.alloc(X, 100, A).alloc(Y, 20, A);
    assert_eq!(trace.malloc_site().live, amount(120, 2));
    trace.free(X);
    assert_eq!(trace.malloc_site().live, amount(20, 1));
    assert_eq!(trace.malloc_site().freed, amount(100, 1));
    assert_eq!(trace.malloc_site().peak, amount(120, 2));
    assert_eq!(trace.losses(), []);
}

#[test]
fn a_free_is_booked_to_the_site_that_allocated() {
    let mut trace = Trace::new();
    trace.alloc(X, 100, A).alloc(Y, 20, B).free(Y);
    assert_eq!(trace.malloc_site().freed, NOTHING);
    assert_eq!(trace.site(B, AllocFn::Malloc).stats().freed, amount(20, 1));
}

#[test]
fn a_block_of_no_bytes_counts_as_a_block() {
    let mut trace = Trace::new();
    trace.alloc(X, 0, A);
    assert_eq!(trace.malloc_site().live, amount(0, 1));
}

#[test]
fn a_free_of_a_block_from_before_the_window_is_unmatched_and_no_loss() {
    let mut trace = Trace::new();
    trace.free(X).alloc(X, 1, A).free(X).free(X);
    assert_eq!(trace.totals().unmatched_frees, 2);
    assert_eq!(trace.losses(), []);
}

#[test]
fn an_address_that_is_handed_out_twice_proves_a_free() {
    let mut trace = Trace::new();
    trace.alloc(X, 100, A).alloc(X, 20, B);
    assert_eq!(trace.malloc_site().freed, amount(100, 1));
    assert_eq!(trace.totals().heap.live, amount(20, 1));
    assert_eq!(trace.losses(), [(Loss::ImpliedFree, 1)]);
    assert_eq!(trace.ledger.lifetimes().count(), 0, "when it was freed is not known");
}

#[test]
fn realloc_is_a_free_and_an_allocation_by_its_own_site() {
    let mut trace = Trace::new();
    trace.alloc(X, 100, A).begin(1, X).end(1, X, Y, 300);
    assert_eq!(trace.malloc_site().freed, amount(100, 1));
    assert_eq!(trace.realloc_site().live, amount(300, 1));
    trace.free(Y);
    assert_eq!(trace.totals().heap.freed, amount(400, 2));
    assert_eq!((trace.losses(), trace.totals().unmatched_frees), (vec![], 0));
}

#[test]
fn realloc_in_place_is_booked_like_one_that_moves() {
    let mut trace = Trace::new();
    trace.alloc(X, 100, A).begin(1, X).end(1, X, X, 50);
    assert_eq!(trace.malloc_site().live, NOTHING);
    assert_eq!(trace.realloc_site().live, amount(50, 1));
    assert_eq!(trace.losses(), []);
}

#[test]
fn while_realloc_runs_its_old_block_still_counts_as_live() {
    let mut trace = Trace::new();
    trace.alloc(X, 100, A).begin(1, X);
    assert_eq!(trace.malloc_site().live, amount(100, 1));
    assert_eq!(trace.totals().open_calls, 1);
}

#[test]
fn another_thread_may_be_handed_the_old_address_before_realloc_returns() {
    let mut trace = Trace::new();
    trace.alloc(X, 100, A).begin(1, X);
    trace.by(2, AllocFn::Calloc, Action::Alloc { address: X, size_bytes: 7, stack: A });
    trace.end(1, X, Y, 300);
    assert_eq!(trace.malloc_site().freed, amount(100, 1));
    assert_eq!(trace.site(A, AllocFn::Calloc).stats().live, amount(7, 1));
    assert_eq!(trace.realloc_site().live, amount(300, 1));
    assert_eq!(trace.losses(), []);
}

#[test]
fn a_failed_realloc_leaves_the_old_block_live() {
    let mut trace = Trace::new();
    trace.alloc(X, 100, A).begin(1, X).end(1, X, 0, 1 << 60);
    assert_eq!(trace.malloc_site().live, amount(100, 1));
    trace.free(X);
    assert_eq!(trace.malloc_site().freed, amount(100, 1));
    assert_eq!((trace.losses(), trace.totals().unmatched_frees), (vec![], 0));
}

#[test]
fn realloc_to_no_bytes_is_a_free() {
    let mut trace = Trace::new();
    trace.alloc(X, 100, A).begin(1, X).end(1, X, 0, 0);
    assert_eq!(trace.malloc_site().freed, amount(100, 1));
    assert_eq!(trace.totals().heap.live, NOTHING);
}

#[test]
fn realloc_to_no_bytes_that_returns_a_block_is_a_free_and_an_allocation() {
    let mut trace = Trace::new();
    trace.alloc(X, 100, A).begin(1, X).end(1, X, Y, 0);
    assert_eq!(trace.realloc_site().live, amount(0, 1));
    assert_eq!(trace.malloc_site().live, NOTHING);
}

#[test]
fn realloc_of_null_is_an_allocation_without_a_begin() {
    let mut trace = Trace::new();
    trace.end(1, 0, X, 10).end(1, 0, 0, 1 << 60);
    assert_eq!(trace.realloc_site().live, amount(10, 1));
    assert_eq!((trace.losses(), trace.totals().unmatched_frees), (vec![], 0));
}

#[test]
fn realloc_of_a_block_from_before_the_window_is_an_unmatched_free_and_an_allocation() {
    let mut trace = Trace::new();
    trace.begin(1, X).end(1, X, 0, 1 << 60);
    assert_eq!(trace.totals().unmatched_frees, 0, "it failed");
    trace.begin(1, X).end(1, X, Y, 10);
    assert_eq!(trace.totals().unmatched_frees, 1);
    assert_eq!(trace.realloc_site().live, amount(10, 1));
    assert_eq!(trace.losses(), []);
}

#[test]
fn without_its_begin_a_realloc_still_frees_its_old_block() {
    let mut trace = Trace::new();
    trace.alloc(X, 100, A).end(1, X, Y, 10);
    assert_eq!(trace.malloc_site().freed, amount(100, 1));
    assert_eq!(trace.losses(), [(Loss::Unpaired, 1)]);
}

#[test]
fn without_its_end_a_realloc_is_taken_for_a_free() {
    for next in [
        Action::Alloc { address: Y, size_bytes: 1, stack: B },
        Action::Free { address: Y },
        Action::ReallocBegin { old_address: Y },
        Action::ReallocEnd { old_address: 0, new_address: Y, size_bytes: 1, stack: B },
        Action::ThreadExit,
    ] {
        let mut trace = Trace::new();
        trace.alloc(X, 100, A).begin(1, X).by(1, AllocFn::Malloc, next);
        assert_eq!(trace.malloc_site().freed, amount(100, 1));
        assert_eq!(trace.losses(), [(Loss::Unpaired, 1)]);
    }
}

#[test]
fn the_events_of_other_threads_do_not_end_a_realloc() {
    let mut trace = Trace::new();
    trace.alloc(X, 100, A).begin(1, X).by(2, AllocFn::Free, Action::Free { address: Y });
    trace.by(2, AllocFn::Malloc, Action::ThreadExit).end(1, X, X, 10);
    assert_eq!(trace.losses(), []);
}

#[test]
fn an_end_for_another_block_than_the_begin_counts_both_halves_as_unpaired() {
    let mut trace = Trace::new();
    trace.alloc(X, 100, A).alloc(Y, 20, A).begin(1, X).end(1, Y, 0x3000, 5);
    assert_eq!(trace.malloc_site().freed, amount(120, 2));
    assert_eq!(trace.losses(), [(Loss::Unpaired, 2)]);
}

#[test]
fn a_full_table_counts_what_it_does_not_follow_and_stays_balanced() {
    let mut trace = Trace::with(Limits { live_blocks: 1, ..LIMITS }, START);
    trace.alloc(X, 100, A).alloc(Y, 20, A);
    assert_eq!(trace.malloc_site().allocated, amount(100, 1));
    assert_eq!(trace.losses(), [(Loss::LiveBlocksFull, 1)]);
    trace.begin(1, X).end(1, X, X, 50);
    assert_eq!(trace.realloc_site().live, amount(50, 1), "realloc needs no second place");
}

#[test]
fn sizes_count_every_allocation_and_lifetimes_every_free() {
    let mut trace = Trace::new();
    trace.alloc(X, 100, A).begin(1, X).end(1, X, Y, 300).free(Y).alloc(X, 7, A);
    let sizes = trace.ledger.sizes();
    assert_eq!((sizes.count(), sizes.min(), sizes.max()), (3, Some(7), Some(300)));
    let lifetimes = trace.ledger.lifetimes();
    assert_eq!((lifetimes.count(), lifetimes.min(), lifetimes.max()), (2, Some(1), Some(2)));
}
