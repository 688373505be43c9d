//! Events per second of the user side: decode and ledger, on one core.
//!
//! The stream frees and allocates random blocks of a live set of a given size, from 1000 sites,
//! so that the tables see the access pattern of a busy server. Run:
//! `cargo bench -p memtrace --bench ledger`.

use divan::{Bencher, counter::ItemsCount};
use memtrace::{
    decode::decode,
    encode::encode,
    ledger::{Ledger, Limits, Start},
    model::{
        AllocFn,
        event::{Action, Event},
        stack::StackId,
    },
};

const EVENTS: usize = 1 << 20;
const LIVE: [u64; 3] = [1_000, 100_000, 1_000_000];

fn main() {
    divan::main();
}

fn event(time_ns: u64, function: AllocFn, action: Action) -> Event {
    Event::of(function, (time_ns % 8) as u32, time_ns, action)
}

fn alloc(time_ns: u64, block: u64) -> Event {
    let stack = StackId(time_ns % 1000 * 0x9e37_79b9 + 1);
    let address = 0x7f00_0000_0010 + block * 96;
    event(time_ns, AllocFn::Malloc, Action::Alloc { address, size_bytes: time_ns % 4096, stack })
}

fn free(time_ns: u64, block: u64) -> Event {
    event(time_ns, AllocFn::Free, Action::Free { address: 0x7f00_0000_0010 + block * 96 })
}

fn filled(live: u64) -> Ledger {
    let limits = Limits { live_blocks: 1 << 21, live_ranges: 1 << 16, sites: 1 << 16 };
    let start = Start { time_ns: 0, initial_break: None, page_bytes: 4096 };
    let mut ledger = Ledger::new(limits, start);
    (0..live).for_each(|block| ledger.apply(&alloc(block, block)));
    ledger
}

/// Leaves the live set as it was, so that it can be applied again and again.
fn churn(live: u64) -> Vec<Event> {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut events = Vec::with_capacity(EVENTS);
    while events.len() < EVENTS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let time_ns = live + events.len() as u64;
        events.push(free(time_ns, random % live));
        events.push(alloc(time_ns + 1, random % live));
    }
    events
}

fn records(events: &[Event]) -> Vec<Vec<u8>> {
    events
        .iter()
        .map(|event| {
            let mut record = Vec::new();
            encode(event, &mut record);
            record
        })
        .collect()
}

#[divan::bench(args = LIVE)]
fn apply(bencher: Bencher<'_, '_>, live: u64) {
    let mut ledger = filled(live);
    let events = churn(live);
    bencher
        .counter(ItemsCount::new(events.len()))
        .bench_local(|| events.iter().for_each(|event| ledger.apply(event)));
    assert_eq!(ledger.losses().count(), 0);
}

#[divan::bench(args = LIVE)]
fn decode_and_apply(bencher: Bencher<'_, '_>, live: u64) {
    let mut ledger = filled(live);
    let records = records(&churn(live));
    bencher.counter(ItemsCount::new(records.len())).bench_local(|| {
        records.iter().flat_map(|record| decode(record)).for_each(|event| ledger.apply(&event));
    });
    assert_eq!(ledger.losses().count(), 0);
}

#[divan::bench(args = LIVE)]
fn survivors(bencher: Bencher<'_, '_>, live: u64) {
    let ledger = filled(live);
    bencher.counter(ItemsCount::new(live)).bench_local(|| ledger.survivors(u64::MAX, 0));
}
