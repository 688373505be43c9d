use proptest::prelude::*;

use super::*;
use crate::{
    capture::{KeptEvent, testing::any_event},
    model::{
        AllocFn,
        event::{Action, Event},
        stack::{RawStack, StackId},
    },
};

fn blocks(events: &[KeptEvent], a_block: usize) -> Vec<Vec<u8>> {
    let mut encoder = EventEncoder::default();
    let mut blocks = Vec::new();
    for chunk in events.chunks(a_block) {
        chunk.iter().for_each(|event| assert!(!encoder.push(event)));
        let mut block = Vec::new();
        encoder.take(&mut block);
        blocks.push(block);
    }
    blocks
}

fn decoded(blocks: &[Vec<u8>]) -> Vec<KeptEvent> {
    let (mut decoder, mut events) = (EventDecoder::default(), Vec::new());
    for block in blocks {
        decoder.block(block, 0, &mut |event| events.push(event.clone())).expect("it was encoded");
    }
    events
}

fn alloc(time_ns: u64, stack: u64) -> KeptEvent {
    let action = Action::Alloc { address: 16, size_bytes: time_ns, stack: StackId(stack) };
    let event = Event::of(AllocFn::Malloc, 1, time_ns, action);
    KeptEvent { event, is_arena: false, is_unseen: false, process: 0 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_events_come_back_as_they_were(
        events in proptest::collection::vec(any_event(), 0..200),
        a_block in 1_usize..60,
    ) {
        prop_assert_eq!(decoded(&blocks(&events, a_block)), events);
    }

    #[test]
    fn no_payload_makes_the_decoder_panic(payload: Vec<u8>) {
        let _ = EventDecoder::default().block(&payload, 0, &mut |_| {});
    }

    #[test]
    fn no_damage_to_a_payload_makes_the_decoder_panic(
        events in proptest::collection::vec(any_event(), 1..50),
        at: prop::sample::Index,
        byte: u8,
    ) {
        let mut block = blocks(&events, 50).remove(0);
        let at = at.index(block.len());
        block[at] = byte;
        let _ = EventDecoder::default().block(&block, 0, &mut |_| {});
    }
}

#[test]
fn stacks_of_a_lost_block_are_unknown_and_those_of_others_are_right() {
    let events: Vec<_> = (1..=6).map(|at| alloc(at, at.div_ceil(2) * 10)).collect();
    let mut blocks = blocks(&events, 2);
    blocks.remove(1);
    let stacks: Vec<_> = decoded(&blocks)
        .iter()
        .map(|kept| match kept.event.action {
            Action::Alloc { stack, .. } => stack.0,
            _ => unreachable!("all are allocations"),
        })
        .collect();
    assert_eq!(stacks, [10, 10, 30, 30]);
}

#[test]
fn a_stack_is_no_event() {
    let stack = RawStack::native(vec![1], memtrace_common::wire::StackEnd::Root);
    let mut kept = alloc(1, 1);
    kept.event.action = Action::Stack { id: StackId(1), stack };
    let mut encoder = EventEncoder::default();
    assert!(!encoder.push(&kept) && encoder.is_empty());
}

#[test]
fn a_claim_of_more_events_than_there_are_is_an_error() {
    let mut block = blocks(&[alloc(1, 1)], 1).remove(0);
    block[0] = 2;
    assert!(EventDecoder::default().block(&block, 0, &mut |_| {}).is_err());
}
