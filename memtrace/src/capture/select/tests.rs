//! Parts of captures against a plain model that remembers every block.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::{
    capture::{
        CapturedExtras, CapturedSite, Ending, EventsKept, Header, KeptEvent, LossCount, ThreadName,
    },
    ledger::{Ledger, Limits, Start},
    model::{
        AllocFn,
        event::{Action, Event},
        site::{Amount, SiteStats},
        stack::StackId,
        timeline::{Timeline, TimelineSample},
        trace::{Completeness, EndReason, Rss, Window},
    },
};

/// When the window was opened.
const OPENED_NS: u64 = 1_000;

/// A block and what became of it.
#[derive(Clone, Copy, Debug)]
struct Block {
    address: u64,
    bytes: u64,
    stack: u64,
    function: AllocFn,
    tid: u32,
    from_ns: u64,
    /// When and by whom it was freed.
    freed: Option<(u64, u32)>,
}

/// A program, as its events and as its blocks.
#[derive(Clone, Debug, Default)]
struct Program {
    events: Vec<KeptEvent>,
    blocks: Vec<Block>,
    now_ns: u64,
}

impl Program {
    fn push(&mut self, tid: u32, function: AllocFn, action: Action) {
        let event = Event::of(function, tid, OPENED_NS + self.now_ns, action);
        self.events.push(KeptEvent { event, is_arena: false, is_unseen: false, process: 0 });
    }

    fn tick(&mut self) {
        self.now_ns += 10;
    }

    fn obtained(&mut self, tid: u32, function: AllocFn, stack: u64, address: u64, bytes: u64) {
        let from_ns = self.now_ns;
        self.blocks.push(Block { address, bytes, stack, function, tid, from_ns, freed: None });
    }

    /// The lowest that is free, so that addresses are used again.
    fn free_address(&self) -> u64 {
        let taken = |address: &u64| {
            self.blocks.iter().any(|it| it.freed.is_none() && it.address == *address)
        };
        (1..).find(|address| !taken(address)).unwrap()
    }

    fn alloc(&mut self, tid: u32, stack: u64, bytes: u64) {
        self.tick();
        let address = self.free_address();
        self.push(
            tid,
            AllocFn::Malloc,
            Action::Alloc { address, size_bytes: bytes, stack: StackId(stack) },
        );
        self.obtained(tid, AllocFn::Malloc, stack, address, bytes);
    }

    fn pick(&mut self, index: Index) -> Option<usize> {
        let live: Vec<usize> =
            (0..self.blocks.len()).filter(|at| self.blocks[*at].freed.is_none()).collect();
        (!live.is_empty()).then(|| *index.get(&live))
    }

    fn free(&mut self, tid: u32, index: Index) {
        if let Some(at) = self.pick(index) {
            self.free_block(tid, at);
        }
    }

    fn free_block(&mut self, tid: u32, at: usize) {
        self.tick();
        self.blocks[at].freed = Some((self.now_ns, tid));
        self.push(tid, AllocFn::Free, Action::Free { address: self.blocks[at].address });
    }

    fn realloc(&mut self, tid: u32, stack: u64, bytes: u64, index: Index) {
        let Some(at) = self.pick(index) else { return };
        self.tick();
        let old_address = self.blocks[at].address;
        self.push(tid, AllocFn::Realloc, Action::ReallocBegin { old_address });
        self.blocks[at].freed = Some((self.now_ns, tid));
        let new_address = self.free_address();
        let (size_bytes, stack_id) = (bytes, StackId(stack));
        let end = Action::ReallocEnd { old_address, new_address, size_bytes, stack: stack_id };
        self.push(tid, AllocFn::Realloc, end);
        self.obtained(tid, AllocFn::Realloc, stack, new_address, bytes);
    }

    fn capture(&self) -> Capture {
        let window_ns = self.now_ns + 10;
        let mut capture = Capture {
            header: Header { opened_ns: OPENED_NS, ..Header::default() },
            threads: vec![ThreadName { tid: 1, name: "worker".to_owned() }],
            ending: Ending {
                closed_ns: OPENED_NS + window_ns,
                window: Window { duration_ns: window_ns, ..Window::default() },
                completeness: Completeness {
                    events: self.events.len() as u64,
                    ..Completeness::default()
                },
                ..Ending::default()
            },
            events: EventsKept { kept: self.events.len() as u64, left_out: 0 },
            ..Capture::default()
        };
        let limits = Limits { live_blocks: 1000, live_ranges: 10, sites: 100 };
        let start = Start { time_ns: OPENED_NS, initial_break: None, page_bytes: 4096 };
        let mut ledger = Ledger::new(limits, start);
        self.events.iter().for_each(|kept| ledger.apply(&kept.event));
        capture.sites = ledger
            .sites()
            .map(|(_, entry)| CapturedSite {
                stack: entry.site.map(|site| site.stack),
                function: entry.site.map(|site| site.function),
                object: entry.site.map(|site| site.object).unwrap_or_default(),
                stats: entry.account.stats(),
                process: 0,
            })
            .collect();
        capture.ending.totals.heap = ledger.totals().heap;
        capture
    }
}

#[derive(Clone, Debug)]
enum Step {
    Alloc(u32, u64, u64),
    Free(u32, Index),
    Realloc(u32, u64, u64, Index),
}

fn step() -> impl Strategy<Value = Step> {
    let (tid, stack, bytes) = (1_u32..4, 1_u64..4, 1_u64..1000);
    prop_oneof![
        4 => (tid.clone(), stack.clone(), bytes.clone()).prop_map(|(a, b, c)| Step::Alloc(a, b, c)),
        3 => (tid.clone(), any::<Index>()).prop_map(|(a, b)| Step::Free(a, b)),
        1 => (tid, stack, bytes, any::<Index>()).prop_map(|(a, b, c, d)| Step::Realloc(a, b, c, d)),
    ]
}

fn program() -> impl Strategy<Value = Program> {
    vec(step(), 1..120).prop_map(|steps| {
        let mut program = Program::default();
        for step in steps {
            match step {
                Step::Alloc(tid, stack, bytes) => program.alloc(tid, stack, bytes),
                Step::Free(tid, index) => program.free(tid, index),
                Step::Realloc(tid, stack, bytes, index) => {
                    program.realloc(tid, stack, bytes, index)
                }
            }
        }
        program
    })
}

/// What a selection must hold by site.
#[derive(Clone, Debug, Default, PartialEq)]
struct Expected {
    allocated: Amount,
    freed: Amount,
    live: Amount,
    at_peak: Amount,
    temporary: Amount,
    threads: BTreeMap<u32, (Amount, Amount)>,
}

/// Against the blocks, one after the other.
fn expected(program: &Program, selection: &Selection) -> BTreeMap<(u64, AllocFn), Expected> {
    let (since, until) = (selection.since_ns.unwrap_or(0), selection.until_ns.unwrap_or(u64::MAX));
    let is_of_thread =
        |block: &Block| selection.threads.is_empty() || selection.threads.contains(&block.tid);
    let blocks: Vec<&Block> = program
        .blocks
        .iter()
        .filter(|block| is_of_thread(block) && (since..=until).contains(&block.from_ns))
        .collect();
    let end_ns = |block: &Block| match block.freed {
        Some((at_ns, _)) if at_ns <= until => at_ns,
        _ => u64::MAX,
    };
    let live_at = |time_ns: u64| {
        blocks.iter().filter(move |it| it.from_ns <= time_ns && time_ns < end_ns(it))
    };
    let bytes_at = |time_ns: u64| live_at(time_ns).map(|it| it.bytes).sum::<u64>();
    let most = blocks.iter().map(|it| bytes_at(it.from_ns)).max().unwrap_or(0);
    let peak_ns = blocks.iter().map(|it| it.from_ns).find(|at| bytes_at(*at) == most);
    let obtained_between = |tid: u32, from_ns: u64, to_ns: u64| {
        program.blocks.iter().any(|it| it.tid == tid && from_ns < it.from_ns && it.from_ns < to_ns)
    };
    let mut by_site: BTreeMap<_, Expected> = BTreeMap::new();
    for block in &blocks {
        let one = Amount::one(block.bytes);
        let site = by_site.entry((block.stack, block.function)).or_default();
        let of_thread = site.threads.entry(block.tid).or_default();
        site.allocated += one;
        of_thread.0 += one;
        if end_ns(block) == u64::MAX {
            site.live += one;
            of_thread.1 += one;
        } else {
            site.freed += one;
            let by_itself = block.freed.is_some_and(|(_, tid)| tid == block.tid);
            if by_itself && !obtained_between(block.tid, block.from_ns, end_ns(block)) {
                site.temporary += one;
            }
        }
        if peak_ns.is_some_and(|at| live_at(at).any(|it| std::ptr::eq(*it, *block))) {
            site.at_peak += one;
        }
    }
    by_site
}

/// The same of a capture.
fn seen(capture: &Capture) -> BTreeMap<(u64, AllocFn), Expected> {
    let site = |(site, extras): (&CapturedSite, &CapturedExtras)| {
        let SiteStats { live, allocated, freed, .. } = site.stats;
        let (at_peak, temporary) = (extras.at_peak.unwrap(), extras.temporary.unwrap());
        let threads = extras.threads.iter().map(|it| (it.tid, (it.allocated, it.live))).collect();
        let key = (site.stack.unwrap().0, site.function.unwrap());
        (key, Expected { allocated, freed, live, at_peak, temporary, threads })
    };
    capture.sites.iter().zip(&capture.extras).map(site).collect()
}

fn everything() -> Selection {
    Selection { by_thread: true, extras: true, ..Selection::default() }
}

fn part(program: &Program, selection: &Selection) -> Capture {
    select(&program.capture(), &program.events[..], selection).unwrap()
}

fn wrong(program: &Program, selection: &Selection) -> String {
    let error = select(&program.capture(), &program.events[..], selection).unwrap_err();
    error.to_string()
}

proptest! {
    #[test]
    fn a_part_holds_what_the_program_did_in_it(
        program in program(),
        (since, length) in (0_u64..400, 1_u64..800),
        threads in prop::option::of(1_u32..4),
    ) {
        let selection = Selection {
            since_ns: Some(since),
            until_ns: Some(since + length),
            threads: threads.into_iter().collect(),
            ..everything()
        };
        match select(&program.capture(), &program.events[..], &selection) {
            Ok(capture) => {
                prop_assert_eq!(seen(&capture), expected(&program, &selection));
                let bytes: u64 = capture.live.iter().map(|item| item.bytes).sum();
                prop_assert_eq!(capture.ending.totals.heap.live.bytes, bytes);
                prop_assert_eq!(capture.ending.totals.unmatched_frees, 0);
            }
            Err(SelectError::AfterTheEnd { .. }) => prop_assert!(since >= program.now_ns),
            Err(SelectError::NoSuchThread { .. }) => {
                prop_assert!(expected(&program, &selection).is_empty());
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn the_whole_keeps_its_sums_and_gains_what_the_events_tell(program in program()) {
        let whole = program.capture();
        let capture = part(&program, &everything());
        prop_assert_eq!(&capture.sites, &whole.sites);
        prop_assert_eq!(seen(&capture), expected(&program, &everything()));
    }
}

fn loop_and_leak() -> Program {
    let mut program = Program::default();
    program.alloc(1, 1, 100); // at 10
    program.free_block(1, 0);
    program.alloc(2, 2, 500); // at 30
    program.alloc(1, 1, 60); // at 40
    program
}

#[test]
fn it_says_what_was_selected() {
    let program = loop_and_leak();
    let selection = Selection { since_ns: Some(20), threads: vec![1], ..everything() };
    let Capture { selected, ending, .. } = part(&program, &selection);
    let expected = ["obtained from 20 ns to 50 ns of the window", "obtained by thread 1 (worker)"];
    assert_eq!(selected.what, expected);
    assert!(selected.is_slice);
    let [_, _, peak] = &ending.completeness.notes[..] else { panic!("{ending:?}") };
    assert!(peak.contains("60 B, 20 ns after the start"), "{peak}");
    let whole = part(&program, &everything()).selected;
    assert_eq!(whole, crate::capture::Selected::default());
}

#[test]
fn what_cannot_be_selected_is_refused_with_the_reason() {
    let program = loop_and_leak();
    let times = |since_ns, until_ns| Selection { since_ns, until_ns, ..Selection::default() };
    let empty = wrong(&program, &times(Some(30), Some(30)));
    assert!(empty.contains("--since must be before --until"), "{empty}");
    assert!(wrong(&program, &times(None, Some(0))).contains("nothing lies between"));
    let late = wrong(&program, &times(Some(50), None));
    assert!(late.contains("the window ended after 50 ns"), "{late}");
    let nobody = wrong(&program, &Selection { threads: vec![7], ..Selection::default() });
    assert_eq!(nobody, "no memory was obtained by thread 7; it was by 1 (worker), 2");
}

#[test]
fn without_events_nothing_can_be_selected() {
    let mut capture = loop_and_leak().capture();
    capture.events = EventsKept { kept: 0, left_out: 5 };
    let none: [KeptEvent; 0] = [];
    let error = select(&capture, &none[..], &everything()).unwrap_err();
    assert!(error.to_string().contains("--events on"), "{error}");
}

#[test]
fn events_that_are_missing_are_said() {
    let program = loop_and_leak();
    let mut capture = program.capture();
    capture.events.left_out = 6;
    let notes = select(&capture, &program.events[..], &everything()).unwrap();
    let notes = notes.ending.completeness.notes;
    assert!(notes.iter().any(|note| note.starts_with("6 of 10 events are not")), "{notes:?}");
}

/// A free at the end of the window that only the heap told of.
fn unseen_free(address: u64) -> KeptEvent {
    let action = Action::Free { address };
    let event = Event::of(AllocFn::Free, 0, OPENED_NS + 99, action);
    KeptEvent { event, is_arena: false, is_unseen: true, process: 0 }
}

#[test]
fn frees_that_only_the_heap_told_of_count_for_the_block_that_they_are_of() {
    let mut program = loop_and_leak();
    program.events.push(unseen_free(1));
    let mut capture = program.capture();
    capture.ending.losses = vec![LossCount { name: "freed_unseen".to_owned(), count: 1 }];
    let live_until = |until_ns| {
        let selection = Selection { until_ns: Some(until_ns), ..Selection::default() };
        let part = select(&capture, &program.events[..], &selection).unwrap();
        assert!(part.ending.completeness.notes.last().unwrap().starts_with("Losses are"));
        part.ending.totals.heap.live.bytes
    };
    assert_eq!(live_until(45), 60, "the block of 500 bytes was freed unseen");
    assert_eq!(live_until(15), 100, "the block that was there then was freed, and seen to be");
}

#[test]
fn the_timeline_and_the_window_are_cut_and_live_bytes_are_of_the_part() {
    let program = loop_and_leak();
    let mut capture = program.capture();
    let sample = |at_ns: u64| TimelineSample {
        at_ns,
        rss_bytes: 1000 + at_ns,
        live_bytes: Some(7),
        ..TimelineSample::default()
    };
    let samples = [5, 15, 25, 35, 45].map(sample).into();
    capture.timeline = Timeline { samples, rss_peak_bytes: 9999, ..Timeline::default() };
    capture.ending.rss = Rss { start_bytes: 1, end_bytes: 2, ..Rss::default() };
    let selection = Selection { since_ns: Some(20), until_ns: Some(40), ..Selection::default() };
    let part = select(&capture, &program.events[..], &selection).unwrap();
    let samples: Vec<_> =
        part.timeline.samples.iter().map(|it| (it.at_ns, it.live_bytes)).collect();
    assert_eq!(samples, [(5, Some(0)), (15, Some(500))]);
    assert_eq!(part.timeline.rss_peak_bytes, 1035);
    assert_eq!((part.ending.rss.start_bytes, part.ending.rss.end_bytes), (1015, 1035));
    let window = &part.ending.window;
    assert_eq!((window.duration_ns, window.ended_by), (20, EndReason::Duration));
    assert_eq!((part.header.opened_ns, part.ending.closed_ns), (1020, 1040));
    let ages: Vec<_> = part.live.iter().map(|item| (item.bytes, item.time_ns)).collect();
    assert_eq!(ages, [(500, 1030), (60, 1040)]);
}
