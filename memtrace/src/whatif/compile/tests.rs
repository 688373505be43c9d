use hashbrown::HashMap;
use proptest::prelude::*;

use super::{super::testing::event, *};
use crate::{
    capture::apply,
    ledger::{Ledger, Limits, Start},
};

fn compiled(events: &[KeptEvent], sampling: Sampling) -> (Vec<Op>, (u64, u64), Oddities) {
    let mut survey = Survey::default();
    events.iter().for_each(|event| survey.visit(event));
    let mut ops = Vec::new();
    let mut sink = |op| ops.push(op);
    let mut compiler = Compiler::new(0, 1, &survey, sampling, &mut sink);
    events.iter().for_each(|event| compiler.visit(event));
    let (blocks, oddities) = compiler.finish(survey.last_ns);
    (ops, blocks.amount(), oddities)
}

/// What is there when a program was made: count and bytes. Panics where it does what none may do.
fn outcome(ops: &[Op]) -> (u64, u64) {
    let mut slots: HashMap<u32, u64> = HashMap::new();
    for op in ops {
        match *op {
            Op::Malloc { slot, size_bytes }
            | Op::Calloc { slot, size_bytes }
            | Op::Aligned { slot, size_bytes, .. } => {
                assert_eq!(slots.insert(slot, size_bytes), None, "{slot} is in use");
            }
            Op::Realloc { slot, size_bytes, used_bytes } => {
                let old = slots.insert(slot, size_bytes).expect("what is resized is there");
                assert_eq!(used_bytes, old.min(size_bytes));
            }
            Op::Free { slot } => assert!(slots.remove(&slot).is_some(), "{slot} is freed twice"),
            _ => {}
        }
    }
    (slots.len() as u64, slots.values().sum())
}

/// Any calls, by threads that know nothing of each other: also frees of what was never obtained.
fn calls() -> impl Strategy<Value = Vec<KeptEvent>> {
    let call = (0..9_u8, 1..5_u32, 1..20_u64, 1..9_u64, 0..5000_u64);
    prop::collection::vec(call, 0..3000).prop_map(|calls| {
        let mut now_ns = 0;
        let mut events = Vec::new();
        for (kind, tid, place, other, size_bytes) in calls {
            now_ns += 1_000_000;
            let (address, stack) = (place * 16, StackId(1));
            let mut push = |function, action| events.push(event(tid, function, now_ns, action));
            match kind {
                0..4 => push(AllocFn::Malloc, Action::Alloc { address, size_bytes, stack }),
                4..6 => push(AllocFn::Free, Action::Free { address }),
                6 => {
                    push(AllocFn::Realloc, Action::ReallocBegin { old_address: address });
                    let (old_address, new_address) = (address, (other - 1) * 16);
                    let end = Action::ReallocEnd { old_address, new_address, size_bytes, stack };
                    push(AllocFn::Realloc, end);
                }
                // Its end is not seen.
                7 => push(AllocFn::Realloc, Action::ReallocBegin { old_address: address }),
                _ => push(AllocFn::Malloc, Action::ThreadExit),
            }
        }
        events
    })
}

proptest! {
    #[test]
    fn what_is_live_after_a_replay_is_what_the_ledger_says(events in calls()) {
        let limits = Limits { live_blocks: 1000, live_ranges: 10, sites: 10 };
        let start = Start { time_ns: 0, initial_break: None, page_bytes: 4096 };
        let mut ledger = Ledger::new(limits, start);
        events.iter().for_each(|event| apply(&mut ledger, event));
        let live = ledger.totals().heap.live;
        let (ops, ..) = compiled(&events, Sampling::default());
        prop_assert_eq!(outcome(&ops), (live.count, live.bytes));
    }

    #[test]
    fn the_clock_never_goes_back_and_the_last_word_is_of_the_first_thread(events in calls()) {
        let sampling = Sampling { times: vec![0, 5_000_000, 1_000_000_000], every_calls: 7 };
        let (ops, ..) = compiled(&events, sampling);
        let times = ops.iter().filter_map(|op| match op {
            Op::Clock { at_ns } | Op::Sample { at_ns } => Some(*at_ns),
            _ => None,
        });
        prop_assert!(times.is_sorted());
        let last_turn = ops.iter().rev().find_map(|op| match op {
            Op::Turn { thread } => Some(*thread),
            _ => None,
        });
        prop_assert!(last_turn.is_none_or(|thread| thread == 0));
        let is_sample = |op: &Op| matches!(op, Op::Sample { .. });
        prop_assert!(ops.last().is_some_and(is_sample));
    }
}

#[test]
fn what_was_not_seen_is_counted_and_changes_nothing() {
    let free = event(1, AllocFn::Free, 0, Action::Free { address: 16 });
    let alloc = |size_bytes| {
        let action = Action::Alloc { address: 32, size_bytes, stack: StackId(1) };
        event(1, AllocFn::Malloc, 0, action)
    };
    let (ops, amount, oddities) = compiled(&[free, alloc(1), alloc(2)], Sampling::default());
    assert_eq!(oddities, Oddities { unknown_blocks: 1, implied_frees: 1 });
    assert_eq!((outcome(&ops), amount), ((1, 2), (1, 2)));
}

#[test]
fn only_the_last_of_several_programs_is_replayed() {
    let alloc = |address| {
        let action = Action::Alloc { address, size_bytes: 8, stack: StackId(1) };
        event(1, AllocFn::Malloc, 0, action)
    };
    let exec = event(1, AllocFn::Malloc, 0, Action::Exec);
    let (ops, ..) = compiled(&[alloc(16), exec, alloc(32), alloc(48)], Sampling::default());
    assert_eq!(outcome(&ops), (2, 16));
}

#[test]
fn small_blocks_of_pythons_own_allocator_are_not_mallocs() {
    let alloc = |size_bytes| {
        let action = Action::Alloc { address: 16 * size_bytes, size_bytes, stack: StackId(1) };
        event(1, AllocFn::PyObjectMalloc, 0, action)
    };
    let (ops, ..) = compiled(&[alloc(512), alloc(513)], Sampling::default());
    assert_eq!(outcome(&ops), (1, 513));
}
