//! The capture format: nanoseconds an event to write and to read, and bytes an event in the file.
//!
//! Three streams: a server (eight threads, most blocks freed soon by the thread that obtained them,
//! 4,000 stacks of very different weight, each with its own sizes); churn (addresses without any
//! order in a live set of a million blocks, a random one of 4,000 stacks, random sizes); and what no
//! allocator does (the same with addresses from anywhere in 47 bits).
//! Run: `cargo bench -p memtrace --bench capture`.
#![allow(clippy::expect_used, reason = "nothing in memory fails to be written")]

use std::{
    io::{self, Cursor},
    sync::OnceLock,
};

use divan::{Bencher, counter::ItemsCount};
use memtrace::{
    capture::{Capture, Events as _, KeptEvent, Reader, Writer},
    model::{
        AllocFn,
        event::{Action, Event},
        stack::StackId,
    },
};

const EVENTS: usize = 10_000_000;
const THREADS: u64 = 8;
const STACKS: u64 = 4_000;

fn main() {
    for stream in Stream::ALL {
        let bytes = stream.file().len();
        let an_event = bytes as f64 / EVENTS as f64;
        println!("{stream:?}: {bytes} bytes, {an_event:.2} an event");
    }
    divan::main();
}

#[derive(Clone, Copy, Debug)]
enum Stream {
    Server,
    Churn,
    Anywhere,
}

impl Stream {
    const ALL: [Self; 3] = [Self::Server, Self::Churn, Self::Anywhere];

    fn events(self) -> Box<dyn FnMut() -> KeptEvent> {
        match self {
            Self::Server => Box::new(server()),
            Self::Churn => Box::new(churn(|random| 0x7f00_0000_0010 + random % 1_000_000 * 96)),
            Self::Anywhere => Box::new(churn(|random| random >> 17 & !15)),
        }
    }

    fn file(self) -> &'static [u8] {
        static FILES: [OnceLock<Vec<u8>>; 3] = [const { OnceLock::new() }; 3];
        FILES[self as usize].get_or_init(|| {
            let mut next = self.events();
            let mut writer = writer(Vec::new());
            (0..EVENTS).for_each(|_| writer.event(&next()).expect("a Vec takes all"));
            writer.finish(&Capture::default()).expect("a Vec takes all")
        })
    }
}

fn writer<W: io::Write>(out: W) -> Writer<W> {
    Writer::new(out, &Capture::default().header).expect("it takes all")
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Small numbers far more often.
    fn skewed(&mut self, end: u64) -> u64 {
        let bits = self.below(u64::from(end.ilog2()) + 1);
        self.below(1 << bits) % end
    }
}

fn kept(tid: u64, time_ns: u64, function: AllocFn, action: Action) -> KeptEvent {
    let event = Event::of(function, 4000 + tid as u32, time_ns, action);
    KeptEvent { event, is_arena: false, is_unseen: false, process: 0 }
}

fn stack(index: u64) -> StackId {
    StackId((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// As a thread's own cache hands blocks out: the last one that was freed of its size first.
struct Heap {
    live: Vec<(u64, u64)>,
    free: Vec<Vec<u64>>,
    top: u64,
}

impl Heap {
    fn alloc(&mut self, size_bytes: u64) -> u64 {
        let class = size_bytes / 16 + 1;
        let reused = self.free[class as usize].pop();
        let address = reused.unwrap_or_else(|| {
            self.top += class * 16 + 16;
            self.top
        });
        self.live.push((address, class));
        address
    }

    fn free(&mut self, at: usize) -> u64 {
        let (address, class) = self.live.swap_remove(at);
        self.free[class as usize].push(address);
        address
    }
}

/// 600,000 events a second; 50,000 blocks live.
fn server() -> impl FnMut() -> KeptEvent {
    let heap = |thread: u64| Heap {
        live: Vec::new(),
        free: vec![Vec::new(); 1024],
        top: 0x7f00_0000_0010 + (thread << 26),
    };
    let mut heaps: Vec<Heap> = (0..THREADS).map(heap).collect();
    let (mut random, mut time_ns) = (Random(0x2545_f491_4f6c_dd1d), 0);
    move || {
        time_ns += 300 + random.below(2700);
        let tid = random.below(THREADS);
        let heap = &mut heaps[tid as usize];
        let live = heap.live.len() as u64;
        if live > 6_000 + random.below(500) || (live > 16 && random.below(2) == 0) {
            // Three of four are young.
            let age = if random.below(4) == 0 { random.below(live) } else { random.below(16) };
            let address = heap.free((live - 1 - age) as usize);
            return kept(tid, time_ns, AllocFn::Free, Action::Free { address });
        }
        let index = random.skewed(STACKS);
        // Two of three stacks ask for one size, the others for many.
        let size_bytes = if index % 3 < 2 { 16 + index * 7 % 500 } else { 8 + random.skewed(8192) };
        let address = heap.alloc(size_bytes);
        let action = Action::Alloc { address, size_bytes, stack: stack(index) };
        kept(tid, time_ns, AllocFn::Malloc, action)
    }
}

fn churn(address: fn(u64) -> u64) -> impl FnMut() -> KeptEvent {
    let (mut random, mut time_ns) = (Random(0x2545_f491_4f6c_dd1d), 0);
    move || {
        time_ns += random.below(3300);
        let tid = random.below(THREADS);
        let address = address(random.next());
        if random.below(2) == 0 {
            return kept(tid, time_ns, AllocFn::Free, Action::Free { address });
        }
        let (size_bytes, stack) = (random.below(4096), stack(random.below(STACKS)));
        kept(tid, time_ns, AllocFn::Malloc, Action::Alloc { address, size_bytes, stack })
    }
}

/// The generation of the events is not measured: they are made a million at a time.
#[divan::bench(args = Stream::ALL, sample_count = 10, sample_size = 1)]
fn encode(bencher: Bencher<'_, '_>, stream: Stream) {
    let mut next = stream.events();
    let mut writer = writer(io::sink());
    bencher
        .counter(ItemsCount::new(EVENTS / 10))
        .with_inputs(|| (0..EVENTS / 10).map(|_| next()).collect::<Vec<_>>())
        .bench_local_refs(|events| {
            events.iter().try_for_each(|event| writer.event(event)).expect("a sink takes all");
        });
}

/// Opens a file and looks at every event.
#[divan::bench(args = Stream::ALL, sample_count = 5, sample_size = 1)]
fn decode(bencher: Bencher<'_, '_>, stream: Stream) {
    let file = stream.file();
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        let opened = Reader::open(Cursor::new(file)).expect("it was just written");
        let mut count = 0_usize;
        opened.events.replay(&mut |_| count += 1).expect("it was just written");
        assert_eq!(count, EVENTS);
    });
}

/// Opens a file without looking at events.
#[divan::bench(args = Stream::ALL, sample_count = 5, sample_size = 1)]
fn open(bencher: Bencher<'_, '_>, stream: Stream) {
    let file = stream.file();
    bencher
        .counter(ItemsCount::new(EVENTS))
        .bench_local(|| Reader::open(Cursor::new(file)).expect("it was just written"));
}
