use super::*;

fn process(trace: &mut Trace, action: Action) {
    trace.by(1, AllocFn::Malloc, action);
}

#[test]
fn an_exec_discards_what_is_live_and_frees_nothing() {
    let mut trace = Trace::new();
    let map =
        Action::Map { address: BASE, length_bytes: PAGE, prot: 3, map_flags: PRIVATE, stack: A };
    trace.alloc(1, 100, A).alloc(2, 20, A).free(2).by(1, AllocFn::Mmap, map.clone());
    trace.by_allocator(AllocFn::Mmap, {
        let Action::Map { length_bytes, prot, map_flags, stack, .. } = map else { unreachable!() };
        Action::Map { address: BASE + PAGE, length_bytes, prot, map_flags, stack }
    });
    process(&mut trace, Action::Exec);
    assert_eq!(trace.totals().heap.live, NOTHING);
    assert_eq!(trace.totals().mappings.live, NOTHING);
    assert_eq!(trace.totals().heap.freed, amount(20, 1));
    assert_eq!(trace.totals().discarded_by_exec, amount(100 + PAGE, 2));
    assert_eq!(trace.site(A, AllocFn::Malloc).discarded(), amount(100, 1));
    assert_eq!(trace.totals().execs, 1);
}

#[test]
fn after_an_exec_the_new_program_starts_from_nothing() {
    let mut trace = Trace::new();
    trace.alloc(1, 100, A);
    trace.by(2, AllocFn::Realloc, Action::ReallocBegin { old_address: 1 });
    process(&mut trace, Action::Exec);
    trace.free(1).alloc(1, 7, A);
    assert_eq!(trace.totals().unmatched_frees, 1);
    assert_eq!(trace.totals().open_calls, 0);
    assert_eq!(trace.totals().heap.live, amount(7, 1));
    assert_eq!(trace.losses(), []);
}

#[test]
fn forks_and_ended_threads_are_counted_and_change_nothing() {
    let mut trace = Trace::new();
    trace.alloc(1, 100, A);
    process(&mut trace, Action::Fork);
    process(&mut trace, Action::ThreadExit);
    assert_eq!((trace.totals().forks, trace.totals().thread_exits), (1, 1));
    assert_eq!(trace.totals().events, 3);
    assert_eq!(trace.totals().heap.live, amount(100, 1));
}

#[test]
fn sites_beyond_the_limit_are_summed_up() {
    let mut trace = Trace::with(Limits { sites: 1, ..LIMITS }, START);
    trace.alloc(1, 100, A).alloc(2, 20, B).alloc(3, 3, StackId(0xc)).free(2);
    let others: Vec<_> = trace.ledger.sites().filter(|(id, _)| *id == SiteId::OTHERS).collect();
    assert_eq!(others.len(), 1);
    assert_eq!(others[0].1.site, None);
    assert_eq!(others[0].1.account.stats().live, amount(3, 1));
    assert_eq!(trace.losses(), [(Loss::SitesFull, 2)]);
}

#[test]
fn survivors_have_the_ages_of_their_site_and_the_young_are_left_out() {
    let mut trace = Trace::new();
    for (address, time_ns) in [(1, 10), (2, 50), (3, 20), (4, 95), (5, 40)] {
        let action = Action::Alloc { address, size_bytes: address, stack: A };
        let function = AllocFn::Malloc;
        trace.apply(Event::of(function, 1, time_ns, action));
    }
    let survivors = trace.ledger.survivors(100, 10);
    let expected = Survivors {
        amount: amount(1 + 2 + 3 + 5, 4),
        oldest_age_ns: 90,
        median_age_ns: 60,
        youngest_age_ns: 50,
        smallest_bytes: 1,
        median_bytes: 2,
        largest_bytes: 5,
    };
    assert_eq!(survivors.iter().map(|(_, of_site)| *of_site).collect::<Vec<_>>(), [expected]);
    assert_eq!(trace.ledger.survivors(100, 91), []);
}
