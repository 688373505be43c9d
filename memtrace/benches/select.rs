//! The selection of a part of a capture: 10 million events of 8 threads and 1000 sites, with 100,000
//! blocks live. Run: `cargo bench -p memtrace --bench select`.

use divan::{Bencher, counter::ItemsCount};
use memtrace::{
    capture::{
        Capture, Events, EventsKept, Header, KeptEvent,
        select::{Selection, select},
    },
    model::{
        AllocFn,
        event::{Action, Event},
        site::Amount,
        stack::StackId,
    },
};

const EVENTS: u64 = 10_000_000;
const LIVE: u64 = 100_000;

fn main() {
    divan::main();
}

/// Events that are made as they are asked for, as those of a file are.
struct Churn;

impl Events for Churn {
    type Error = std::convert::Infallible;

    fn replay(&self, visit: &mut dyn FnMut(&KeptEvent)) -> Result<(), Self::Error> {
        (0..LIVE).for_each(|block| visit(&alloc(block, block)));
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        for pair in 0..(EVENTS - LIVE) / 2 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let time_ns = LIVE + 2 * pair;
            visit(&kept(time_ns, AllocFn::Free, Action::Free { address: address(random % LIVE) }));
            visit(&alloc(time_ns + 1, random % LIVE));
        }
        Ok(())
    }
}

fn address(block: u64) -> u64 {
    0x7f00_0000_0010 + block * 96
}

fn kept(time_ns: u64, function: AllocFn, action: Action) -> KeptEvent {
    let tid = (time_ns / 2 % 8) as u32;
    let event = Event::of(function, tid, time_ns, action);
    KeptEvent { event, is_arena: false, is_unseen: false, process: 0 }
}

fn alloc(time_ns: u64, block: u64) -> KeptEvent {
    let stack = StackId(time_ns % 1000 * 0x9e37_79b9 + 1);
    let action = Action::Alloc { address: address(block), size_bytes: time_ns % 4096, stack };
    kept(time_ns, AllocFn::Malloc, action)
}

fn capture() -> Capture {
    let mut capture = Capture {
        header: Header::default(),
        events: EventsKept { kept: EVENTS, left_out: 0 },
        ..Capture::default()
    };
    capture.ending.closed_ns = EVENTS;
    capture.ending.totals.heap.peak = Amount::new(0, LIVE);
    capture
}

fn run(bencher: Bencher<'_, '_>, selection: &Selection) {
    let capture = capture();
    bencher
        .counter(ItemsCount::new(EVENTS))
        .bench_local(|| select(&capture, &Churn, selection).map(|part| part.sites.len()));
}

#[divan::bench(sample_count = 3)]
fn a_part_of_the_window(bencher: Bencher<'_, '_>) {
    let (since_ns, until_ns) = (Some(EVENTS / 4), Some(EVENTS / 4 * 3));
    run(bencher, &Selection { since_ns, until_ns, ..Selection::default() });
}

#[divan::bench(sample_count = 3)]
fn one_thread(bencher: Bencher<'_, '_>) {
    run(bencher, &Selection { threads: vec![3], ..Selection::default() });
}

#[divan::bench(sample_count = 3)]
fn peak_and_temporary(bencher: Bencher<'_, '_>) {
    run(bencher, &Selection { extras: true, ..Selection::default() });
}

#[divan::bench(sample_count = 3)]
fn all_of_it_by_thread(bencher: Bencher<'_, '_>) {
    run(bencher, &Selection { by_thread: true, extras: true, ..Selection::default() });
}
