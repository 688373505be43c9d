//! A stream of arbitrary records through decode into a small ledger: never a panic, and the books
//! balance.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memtrace::{
    decode::decode,
    ledger::{Ledger, Limits, Start},
    model::site::Amount,
};

const LIMITS: Limits = Limits { live_blocks: 8, live_ranges: 8, sites: 4 };
const START: Start = Start { time_ns: 0, initial_break: Some(0x1000), page_bytes: 4096 };

/// Splits the input into records: a length byte before each.
fn records(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, tail) = rest.split_first()?;
        let (record, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = tail;
        Some(record)
    })
}

fuzz_target!(|input: &[u8]| {
    let mut ledger = Ledger::new(LIMITS, START);
    for event in records(input).flat_map(decode) {
        ledger.apply(&event);
        for (_, entry) in ledger.sites() {
            let mut accounted = entry.account.stats().live;
            accounted += entry.account.stats().freed;
            accounted += entry.account.discarded();
            assert_eq!(accounted, entry.account.stats().allocated);
        }
    }
    let mut surviving = Amount::default();
    ledger.survivors(u64::MAX, 0).iter().for_each(|(_, of_site)| surviving += of_site.amount);
    let mut live = ledger.totals().heap.live;
    live += ledger.totals().mappings.live;
    assert_eq!(surviving, live);
});
