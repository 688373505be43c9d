//! Heaps that never rest: what is found is near the truth, and the truth is within the bound.

use std::{
    fs::File,
    ops::RangeInclusive,
    os::unix::fs::FileExt as _,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use memtrace::model::census::Arena;
use memtrace_tests::{programs, target::Target};
use serde::Deserialize;

use super::look::Look;

/// How often each heap is walked.
const RUNS: usize = 20;
/// From one count of a thread to the next.
const STRIDE_BYTES: usize = 64;

/// Where the program counts.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Places {
    counts: u64,
    pairs: u64,
    threads: usize,
}

/// What a program counts.
struct Counts {
    memory: File,
    places: Places,
}

impl Counts {
    fn sum(&self, address: u64) -> u64 {
        let mut bytes = vec![0; self.places.threads * STRIDE_BYTES];
        self.memory.read_exact_at(&mut bytes, address).unwrap();
        let counts = bytes.chunks(STRIDE_BYTES).map(|it| it[..8].try_into().unwrap());
        counts.map(u64::from_le_bytes).sum()
    }

    fn live_bytes(&self) -> u64 {
        self.sum(self.places.counts)
    }

    fn pairs(&self) -> u64 {
        self.sum(self.places.pairs)
    }

    /// The least and the most that is live until it is over, and what is live then.
    fn watch(&self, is_over: &AtomicBool) -> (RangeInclusive<u64>, u64) {
        let first = self.live_bytes();
        let (mut least, mut most) = (first, first);
        while !is_over.load(Ordering::Relaxed) {
            let live = self.live_bytes();
            (least, most) = (least.min(live), most.max(live));
            thread::sleep(Duration::from_micros(200));
        }
        (least..=most, self.live_bytes())
    }
}

/// `busy_heap`, which counts what is live.
struct Busy {
    target: Target,
    counts: Counts,
}

/// What was found while the program went on.
struct Found {
    in_use_bytes: u64,
    bound_bytes: u64,
    /// By the program: all the time, and at the end.
    live: RangeInclusive<u64>,
    live_at_end: u64,
    arenas: Vec<Arena>,
}

impl Busy {
    fn start(arguments: [&str; 3], tunables: &str) -> Self {
        let mut command = Command::new(programs::path("busy_heap"));
        command.args(arguments).env("GLIBC_TUNABLES", tunables);
        let mut target = Target::start_command(&mut command);
        target.go();
        let places = serde_json::from_str(&target.line()).unwrap();
        let memory = File::open(format!("/proc/{}/mem", target.pid())).unwrap();
        Self { target, counts: Counts { memory, places } }
    }

    fn walk(&self) -> Found {
        let look = Look::at(self.target.pid());
        let (counts, is_over) = (&self.counts, AtomicBool::new(false));
        let ((live, live_at_end), walked) = thread::scope(|scope| {
            let watch = scope.spawn(|| counts.watch(&is_over));
            let walked = look.walk(&[]);
            is_over.store(true, Ordering::Relaxed);
            (watch.join().unwrap(), walked)
        });
        let (in_use_bytes, bound_bytes) =
            (walked.heap.in_use().bytes, walked.heap.error_bound_bytes);
        let arenas = walked.heap.arenas;
        Found { in_use_bytes, bound_bytes, live, live_at_end, arenas }
    }
}

/// What is not the threads' own is less than this: buffers, what a thread needs.
const BESIDES_BYTES: u64 = 64 << 10;

fn check(arguments: [&str; 3], tunables: &str) {
    check_within(BESIDES_BYTES, arguments, tunables);
}

/// What comes and goes many times during a walk, `besides`, is there at its end or not.
fn check_within(besides: u64, arguments: [&str; 3], tunables: &str) {
    let busy = Busy::start(arguments, tunables);
    let pairs = busy.counts.pairs();
    for run in 0..RUNS {
        let Found { in_use_bytes: found, bound_bytes: bound, live, live_at_end, arenas } =
            busy.walk();
        println!("{arguments:?} {run}: found {found}, bound {bound}, {live:?}, then {live_at_end}");
        let off = live_at_end.abs_diff(found);
        assert!(off <= bound + besides, "{found} and {bound}, but {live_at_end}: {arenas:?}");
        let nearest = found.clamp(*live.start(), *live.end());
        let off = found.abs_diff(nearest);
        assert!(off * 100 <= nearest, "{found} is not within 1 % of {live:?}: {arenas:?}");
        // A bound that says nothing would be honest, too.
        let moved = live.end() - live.start();
        assert!(bound <= nearest / 2 + 4 * moved, "{bound} of {nearest}: {arenas:?}");
    }
    assert!(busy.counts.pairs() > pairs + 10_000, "it was not busy");
}

#[test]
fn the_same_blocks_again_and_again() {
    check(["2", "200", "pairs"], "");
}

#[test]
fn any_block_is_replaced_by_another() {
    check(["2", "200", "churn"], "");
}

#[test]
fn many_threads_share_arenas() {
    check(["8", "200", "churn"], "glibc.malloc.arena_max=3");
}

#[test]
fn heaps_come_and_go() {
    // Two blocks for each of two threads.
    check_within(BESIDES_BYTES + 4 * 128_016, ["2", "140", "heaps"], "");
}

#[test]
fn what_is_live_goes_up_and_down() {
    check(["2", "100", "drift"], "");
}

#[test]
fn some_blocks_are_mapped_one_by_one() {
    check(["2", "200", "mapped"], "glibc.malloc.mmap_threshold=100000");
}

#[test]
fn caches_of_threads_are_off() {
    check(["2", "100", "churn"], "glibc.malloc.tcache_count=0");
}

#[test]
fn a_heap_at_rest_is_told_exactly() {
    let busy = Busy::start(["2", "50", "rest"], "");
    let found = busy.walk();
    assert_eq!(found.bound_bytes, 0);
    assert!(found.in_use_bytes.abs_diff(*found.live.start()) < BESIDES_BYTES, "{:?}", found.live);
}
