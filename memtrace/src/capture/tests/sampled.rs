//! Captures of samples.

use memtrace_common::sample::Interval;

use super::*;
use crate::{
    capture::{
        books::{Books, apply},
        select::{Selection, select},
    },
    ledger::{Ledger, Limits, Start},
    model::{event::Action, site::Amount},
    report::{Report, ReportOptions},
};

const BLOCKS: u64 = 300;

fn kept(time_ns: u64, interval: Interval, action: Action) -> KeptEvent {
    let event = Event { interval, ..Event::of(AllocFn::Malloc, 1, time_ns, action) };
    KeptEvent { event, is_arena: false, is_unseen: false, process: 0 }
}

/// Samples of blocks of many sizes, every third of which is freed; the interval grows.
fn events() -> Vec<KeptEvent> {
    let of = |at: u64| {
        let interval =
            Interval::from_exponent(if at < BLOCKS / 3 { 0 } else { 8 + (at % 40) as u8 / 2 });
        let (address, size_bytes) = (at * 16, at * at + 1);
        let alloc = Action::Alloc { address, size_bytes, stack: StackId(at % 3) };
        let free = Action::Free { address };
        let freed = at.is_multiple_of(3).then(|| kept(2 * at + 1, Interval::EXACT, free));
        std::iter::once(kept(2 * at, interval, alloc)).chain(freed)
    };
    (1..=BLOCKS).flat_map(of).collect()
}

fn capture(events: &[KeptEvent]) -> Capture {
    let limits = Limits { live_blocks: 1000, live_ranges: 1, sites: 10 };
    let start = Start { time_ns: 0, initial_break: None, page_bytes: 4096 };
    let mut ledger = Ledger::new(limits, start);
    events.iter().for_each(|event| apply(&mut ledger, event));
    let stacks = (0..3).map(|id| (StackId(id), NamedStack::default())).collect();
    let mut capture = Capture { stacks, ..Capture::default() };
    capture.ending.closed_ns = 10_000;
    capture.events.kept = events.len() as u64;
    Books::of(&ledger, 10_000, 0).put_into(&mut capture);
    capture
}

#[test]
fn estimates_come_back_from_a_file_and_so_does_the_report() {
    let events = events();
    let capture = capture(&events);
    assert!(!capture.ending.totals.heap.live.is_exact());
    let bytes = write(&capture, events.as_slice(), Vec::new()).expect("a Vec takes all");
    let opened = Reader::open(Cursor::new(&bytes)).expect("it was just written");
    assert_eq!(opened.capture, capture);
    assert_eq!(replayed(&opened.events), events);
    let [before, after] = [&capture, &opened.capture].map(|it| {
        serde_json::to_value(Report::of(it, ReportOptions::default())).expect("it is JSON")
    });
    assert_eq!(before, after);
    assert!(before["totals"]["survivors"]["estimate"]["high_bytes"].is_u64());
}

#[test]
fn a_replay_estimates_what_the_trace_did() {
    let events = events();
    let capture = capture(&events);
    let all = Selection { since_ns: Some(0), until_ns: Some(10_000), ..Selection::default() };
    let whole = select(&capture, events.as_slice(), &all).expect("it has events");
    assert_eq!(whole.sites, capture.sites);
    assert_eq!(whole.live, capture.live);
    let extras = Selection { extras: true, by_thread: true, ..Selection::default() };
    let extras = select(&capture, events.as_slice(), &extras).expect("it has events").extras;
    for (site, extras) in capture.sites.iter().zip(&extras) {
        let of_thread = extras.threads[0].allocated;
        assert_eq!(of_thread, site.stats.allocated, "one thread did all");
    }
    // What is obtained and freed at once is the third site's, all of it.
    let temporary: Vec<Amount> = extras.iter().filter_map(|it| it.temporary).collect();
    let freed: Vec<Amount> = capture.sites.iter().map(|site| site.stats.freed).collect();
    let bytes = |amounts: &[Amount]| amounts.iter().map(|it| it.bytes).sum::<u64>();
    assert!(bytes(&freed) > 0 && bytes(&temporary).abs_diff(bytes(&freed)) <= 1);
    let at_peak = extras.iter().filter_map(|it| it.at_peak).map(|it| it.bytes).sum::<u64>();
    assert!(at_peak >= capture.ending.totals.heap.live.bytes.saturating_sub(3));
}

#[test]
fn the_sums_of_sites_and_of_live_blocks_are_those_of_the_whole() {
    let capture = capture(&events());
    let sum = |amounts: &mut dyn Iterator<Item = Amount>| {
        amounts.fold(Amount::default(), |mut sum, amount| {
            sum += amount;
            sum
        })
    };
    let whole = capture.ending.totals.heap;
    let sites = sum(&mut capture.sites.iter().map(|site| site.stats.live));
    let items = sum(&mut capture.live.iter().map(|item| item.amount()));
    for part in [sites, items, capture.ending.totals.survivors] {
        assert_eq!((part.samples(), part.spread.sampled_bytes), {
            (whole.live.samples(), whole.live.spread.sampled_bytes)
        });
        assert!(part.bytes.abs_diff(whole.live.bytes) <= 1, "{part:?} {:?}", whole.live);
        assert!(part.count.abs_diff(whole.live.count) <= 1);
        let ratio = part.bytes_bounds().high as f64 / whole.live.bytes_bounds().high as f64;
        assert!((ratio - 1.0).abs() < 1e-6, "{ratio}");
    }
}

#[test]
fn readers_that_do_not_know_samples_refuse_them() {
    let mut encoder = events::EventEncoder::default();
    let alloc = Action::Alloc { address: 16, size_bytes: 64, stack: StackId(1) };
    encoder.push(&kept(1, Interval::from_exponent(19), alloc));
    let mut block = Vec::new();
    encoder.take(&mut block);
    // One event, no known stack, one new stack of 8 bytes, one shape of 3: its first byte.
    let shape = &block[12..15];
    assert_eq!((block[11], shape), (3, &[0x80, 0, 19 << 3][..]), "actions end at 13");
}
