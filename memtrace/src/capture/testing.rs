//! Captures for tests: arbitrary ones, and one that looks like real ones.

use std::{borrow::Cow, sync::Arc};

use memtrace_common::{sample::Interval, wire::StackEnd};
use proptest::prelude::*;

use super::{
    Capture, CapturedSite, Ending, EventsKept, Header, Host, KeptEvent, Layouts, LiveItem,
    LossCount, ThreadName, Writer,
    books::{Books, apply},
    raw_stacks::RecordedStack,
};
use crate::{
    ledger,
    model::{
        AllocFn, ObjectNumber,
        census::{Census, Extent},
        event::{Action, Event},
        layout::{
            ArenaLayout, HeapLayout, PIECE_UNIT_BYTES, PieceKind, PoolLayout, PymallocArenaLayout,
            SegmentLayout,
        },
        site::{Amount, SiteStats},
        stack::{
            ENTRY_MARK, Frame, Language, NamedStack, PythonEnd, PythonFrame, RawStack, StackId,
        },
        timeline::{PeakSource, Timeline, TimelineSample},
        trace::{Distribution, EndReason, Module, Target, Walks, Window},
    },
};

/// A frame of this function.
pub fn frame(function: &str) -> Arc<Frame> {
    Arc::new(Frame { function: function.to_owned(), ..Frame::default() })
}

/// Numbers of every length, near ones more often.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 0..100_u64, (0..64_u32, any::<u64>()).prop_map(|(bits, it)| it >> bits)]
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![4 => (1..50_u64).prop_map(|at| 0x7f00_0000_0000 + at * 16), 1 => number()]
}

fn stack_id() -> impl Strategy<Value = StackId> {
    prop_oneof![0..20_u64, any::<u64>()].prop_map(StackId)
}

fn function() -> impl Strategy<Value = AllocFn> {
    prop::sample::select(AllocFn::ALL.as_slice())
}

fn heap_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (address(), number(), stack_id()).prop_map(|(address, size_bytes, stack)| Action::Alloc {
            address,
            size_bytes,
            stack
        }),
        address().prop_map(|address| Action::Free { address }),
        address().prop_map(|old_address| Action::ReallocBegin { old_address }),
        (address(), address(), number(), stack_id()).prop_map(
            |(old_address, new_address, size_bytes, stack)| Action::ReallocEnd {
                old_address,
                new_address,
                size_bytes,
                stack
            }
        ),
    ]
}

fn mapping_action() -> impl Strategy<Value = Action> {
    let map = (address(), number(), any::<u32>(), any::<u32>(), stack_id());
    let remap = (address(), number(), address(), number(), stack_id());
    prop_oneof![
        map.prop_map(|(address, length_bytes, prot, map_flags, stack)| Action::Map {
            address,
            length_bytes,
            prot,
            map_flags,
            stack
        }),
        (address(), number())
            .prop_map(|(address, length_bytes)| Action::UnmapBegin { address, length_bytes }),
        (address(), number(), any::<bool>()).prop_map(|(address, length_bytes, failed)| {
            Action::UnmapEnd { address, length_bytes, failed }
        }),
        (address(), number()).prop_map(|(old_address, old_length_bytes)| Action::RemapBegin {
            old_address,
            old_length_bytes
        }),
        remap.prop_map(|(old_address, old_length_bytes, new_address, new_length_bytes, stack)| {
            Action::RemapEnd { old_address, old_length_bytes, new_address, new_length_bytes, stack }
        }),
        (address(), address(), stack_id()).prop_map(|(old_break, new_break, stack)| {
            Action::Break { old_break, new_break, stack }
        }),
    ]
}

fn other_action() -> impl Strategy<Value = Action> {
    let others = [Action::Fork, Action::Exec, Action::ThreadExit, Action::CodeChange];
    prop::sample::select(others.to_vec())
}

/// Any event but a stack.
pub fn any_event() -> impl Strategy<Value = KeptEvent> {
    let action = prop_oneof![4 => heap_action(), 2 => mapping_action(), 1 => other_action()];
    let tid = prop_oneof![1..5_u32, any::<u32>()];
    let bits = (any::<bool>(), any::<bool>(), any::<bool>(), interval());
    (function(), tid, number(), action, bits).prop_map(|(function, tid, time_ns, action, bits)| {
        let (internal, is_arena, is_unseen, interval) = bits;
        let object = ObjectNumber::of(tid as usize % 32);
        let event =
            Event { internal, interval, object, ..Event::of(function, tid, time_ns, action) };
        KeptEvent { event, is_arena, is_unseen, process: 0 }
    })
}

/// Any frame, with few names.
pub fn any_frame() -> impl Strategy<Value = Arc<Frame>> {
    let name = || "[a-cé]{0,2}";
    let (file, line) = (prop::option::of(name()), prop::option::of(any::<u32>()));
    (name(), name(), file, line, any::<bool>(), any::<bool>()).prop_map(
        |(function, module, file, line, inlined, is_python)| {
            let language = if is_python { Language::Python } else { Language::Native };
            Arc::new(Frame { function, module, file, line, inlined, language })
        },
    )
}

/// Stacks in the order of their ids.
pub fn any_stacks() -> impl Strategy<Value = Vec<(StackId, NamedStack)>> {
    let frames = proptest::collection::vec(any_frame(), 0..6);
    let stack = (frames, prop::option::of("[a-z]{1,3}"))
        .prop_map(|(frames, label)| NamedStack { frames, missing_root: label.map(Cow::Owned) });
    proptest::collection::btree_map(any::<u64>(), stack, 0..12)
        .prop_map(|stacks| stacks.into_iter().map(|(id, it)| (StackId(id), it)).collect())
}

/// Any stack as addresses.
pub fn any_recorded() -> impl Strategy<Value = RecordedStack> {
    let python = proptest::collection::vec((any::<u64>(), any::<u64>()), 0..5);
    let names = proptest::collection::vec(prop::option::of(any_frame()), 0..5);
    let frames = proptest::collection::vec(number(), 0..9);
    let ends = (
        prop::sample::select(StackEnd::ALL.as_slice()),
        any::<bool>(),
        prop::sample::select(PythonEnd::ALL.as_slice()),
    );
    (any::<u64>(), frames, python, names, ends).prop_map(|(id, frames, python, names, ends)| {
        let (end, guessed, python_end) = ends;
        let python = python.into_iter();
        let python = python.map(|(code, position)| PythonFrame { code, position }).collect();
        let stack = RawStack { frames, end, guessed, python, python_end };
        RecordedStack { id: StackId(id), stack, python: names }
    })
}

/// Mostly none.
fn interval() -> impl Strategy<Value = Interval> {
    prop_oneof![
        4 => Just(Interval::EXACT),
        1 => (1..=Interval::MAX.exponent()).prop_map(Interval::from_exponent)
    ]
}

fn amount() -> impl Strategy<Value = Amount> {
    let exact = (number(), number()).prop_map(|(bytes, count)| Amount::new(bytes, count));
    let blocks = proptest::collection::vec((0..1_u64 << 40, interval()), 0..5);
    let estimate = blocks.prop_map(|blocks| {
        blocks.into_iter().fold(Amount::default(), |mut sum, (bytes, interval)| {
            sum += Amount::sampled(bytes, interval);
            sum
        })
    });
    prop_oneof![exact, estimate]
}

fn stats() -> impl Strategy<Value = SiteStats> {
    (amount(), amount(), amount(), amount()).prop_map(|(live, allocated, freed, peak)| SiteStats {
        live,
        allocated,
        freed,
        peak,
    })
}

/// Any site.
pub fn any_site() -> impl Strategy<Value = CapturedSite> {
    (prop::option::of(stack_id()), prop::option::of(function()), 0..32_usize, stats()).prop_map(
        |(stack, function, object, stats)| CapturedSite {
            stack,
            function,
            object: ObjectNumber::of(object),
            stats,
            process: 0,
        },
    )
}

/// A live record of one of the first sites.
pub fn any_live() -> impl Strategy<Value = LiveItem> {
    (address(), number(), number(), 0..3_u32, interval()).prop_map(
        |(address, bytes, time_ns, site, interval)| LiveItem {
            address,
            bytes,
            time_ns,
            site,
            interval,
        },
    )
}

fn any_sample() -> impl Strategy<Value = TimelineSample> {
    (number(), number(), prop::option::of(number())).prop_map(|(at_ns, rss_bytes, live_bytes)| {
        TimelineSample { at_ns, rss_bytes, live_bytes, ..TimelineSample::default() }
    })
}

fn ranges() -> impl Strategy<Value = Vec<Extent>> {
    let steps = proptest::collection::vec((1..1_u64 << 30, 1..1_u64 << 30), 0..6);
    steps.prop_map(|steps| {
        let mut at = 0;
        let range = |(gap, bytes): (u64, u64)| {
            let start = at + gap;
            at = start + bytes;
            Extent { start, end: at }
        };
        steps.into_iter().map(range).collect()
    })
}

fn any_segment() -> impl Strategy<Value = SegmentLayout> {
    let pieces = proptest::collection::vec((1..1_u64 << 20, 0..7_u8), 0..20);
    (0..1_u64 << 47, pieces).prop_map(|(start, pieces)| {
        let (mut segment, mut end) = (SegmentLayout::at(start), start);
        for (units, kind) in pieces {
            end += units * PIECE_UNIT_BYTES;
            segment.push(PieceKind::from_u8(kind).unwrap_or(PieceKind::Unknown), end);
        }
        segment
    })
}

fn any_arena() -> impl Strategy<Value = ArenaLayout> {
    let segments = proptest::collection::vec(any_segment(), 0..3);
    (0..3_u32, any::<u32>(), prop::option::of(0..9_u64), segments).prop_map(
        |(heap, index, attached_threads, segments)| ArenaLayout {
            heap,
            index,
            attached_threads,
            segments,
        },
    )
}

fn any_pymalloc_arena() -> impl Strategy<Value = PymallocArenaLayout> {
    let pool = (number(), any::<u32>(), any::<u32>(), any::<u32>()).prop_map(
        |(start, block_bytes, in_use, capacity)| PoolLayout {
            start,
            block_bytes,
            in_use,
            capacity,
        },
    );
    (0..1_u64 << 47, number(), proptest::collection::vec(pool, 0..4)).prop_map(
        |(start, pool_bytes, pools)| PymallocArenaLayout {
            extent: Extent { start, end: start + (1 << 20) },
            pool_bytes,
            pools,
        },
    )
}

/// Any layout of heaps.
pub fn any_layout() -> impl Strategy<Value = HeapLayout> {
    let arenas = proptest::collection::vec(any_arena(), 0..3);
    let pymalloc = proptest::collection::vec(any_pymalloc_arena(), 0..3);
    let sizes = (any::<i64>(), number(), number(), number());
    (sizes, arenas, ranges(), pymalloc, ranges()).prop_map(
        |(sizes, arenas, mapped, pymalloc, resident)| {
            let (at_ns, page_bytes, huge_page_bytes, left_out_bytes) = sizes;
            HeapLayout {
                at_ns,
                page_bytes,
                huge_page_bytes,
                arenas,
                mapped,
                pymalloc,
                resident,
                left_out_bytes,
            }
        },
    )
}

fn any_layouts() -> impl Strategy<Value = Layouts> {
    let layout = || prop::option::of(any_layout().prop_map(Arc::new));
    (layout(), layout()).prop_map(|(before, after)| Layouts { before, after })
}

/// Any capture that is sound: its live records have sites, and those have stacks.
pub fn any_capture() -> impl Strategy<Value = (Capture, Vec<KeptEvent>)> {
    let tables = (
        any_stacks(),
        proptest::collection::vec(any_site(), 3..8),
        proptest::collection::vec(any_live(), 0..8),
        proptest::collection::vec(any_sample(), 0..8),
    );
    let events = proptest::collection::vec(any_event(), 0..40);
    (tables, events, ".*", number(), any::<f64>(), any_layouts()).prop_map(
        |((mut stacks, mut sites, live, samples), events, name, number, mean, layouts)| {
            if stacks.is_empty() {
                stacks.push((StackId(7), NamedStack::default()));
            }
            for (at, site) in sites.iter_mut().enumerate() {
                site.stack = site.stack.map(|_| stacks[at % stacks.len()].0);
            }
            let mut capture = Capture { stacks, sites, live, layouts, ..filled(&name, number) };
            capture.timeline.samples = samples;
            capture.events.kept = events.len() as u64;
            let mean = if mean.is_finite() { mean } else { 0.0 };
            capture.ending.sizes = Some(Distribution { mean, ..Distribution::default() });
            (capture, events)
        },
    )
}

fn filled(name: &str, number: u64) -> Capture {
    let name = || name.to_owned();
    let target = Target { pid: 1, command: name(), threads: number, ..Target::default() };
    let census = Census { time_ns: number, duration_ns: 5, ..Census::default() };
    Capture {
        header: Header {
            command_line: vec![name()],
            opened_ns: number,
            target: target.clone(),
            limit_bytes: Some(number),
            host: Host { name: name(), page_bytes: 4096, ..Host::default() },
            ..Header::default()
        },
        modules: vec![Module { path: name(), start: number, ..Module::default() }],
        threads: vec![ThreadName { tid: 1, name: name() }],
        timeline: Timeline {
            rss_peak_bytes: number,
            rss_peak_source: Some(PeakSource::HighWaterMark),
            ..Timeline::default()
        },
        walks: Walks { before: Some(census), after: None, at_ns: number, ..Walks::default() },
        ending: Ending {
            target,
            closed_ns: number,
            window: Window { ended_by: EndReason::TargetExited, ..Window::default() },
            losses: vec![LossCount { name: name(), count: number }],
            ..Ending::default()
        },
        events: EventsKept { kept: 0, left_out: number },
        ..Capture::default()
    }
}

/// A small window, all parts of which are there; its books are those of its events.
///
/// The golden files were written from it: it never changes.
pub struct Small {
    pub capture: Capture,
    pub events: Vec<KeptEvent>,
    pub recorded: Vec<RecordedStack>,
}

/// When its window was opened.
const OPENED_NS: u64 = 5_000_000_000;

const LEAK: StackId = StackId(0x1111_2222_3333_4444);
const PYTHON: StackId = StackId(0x5555_6666_7777_8888);
const MAPPER: StackId = StackId(0x9999_aaaa_bbbb_cccc);

impl Small {
    pub fn new() -> Self {
        Self::of(small_events(), small_frame(), small_recorded())
    }

    /// The same with layouts of heaps: what came with version 1.2. It never changes, either.
    pub fn with_layouts() -> Self {
        let mut small = Self::new();
        let (before, after) = (small_layout(0x40), small_layout(0x120));
        let before = Some(Arc::new(HeapLayout { at_ns: -1_000_000, ..before }));
        small.capture.layouts = Layouts { before, after: Some(Arc::new(after)) };
        small
    }

    /// The smallest that has every sort of block.
    pub fn tiny() -> Self {
        let events = small_events().into_iter().filter(|kept| kept.event.tid == 11).skip(1);
        let mut frame = small_frame();
        frame.stacks.drain(..2);
        let (stacks, modules) = (frame.stacks, vec![Module::default()]);
        let threads = vec![ThreadName::default()];
        let timeline = Timeline { samples: vec![TimelineSample::default()], ..frame.timeline };
        let capture = Capture { stacks, modules, threads, timeline, ..Capture::default() };
        Self::of(events.collect(), capture, small_recorded().split_off(2))
    }

    fn of(events: Vec<KeptEvent>, mut capture: Capture, recorded: Vec<RecordedStack>) -> Self {
        let start = ledger::Start {
            time_ns: OPENED_NS,
            initial_break: Some(0x55_0000_0000),
            page_bytes: 4096,
        };
        let limits = ledger::Limits { live_blocks: 100, live_ranges: 100, sites: 100 };
        let mut ledger = ledger::Ledger::new(limits, start);
        events.iter().for_each(|event| apply(&mut ledger, event));
        Books::of(&ledger, capture.ending.closed_ns, 0).put_into(&mut capture);
        capture.events.kept = events.len() as u64;
        Self { capture, events, recorded }
    }

    /// As a trace writes it: the file, and how long it was when the window was closed.
    pub fn written(&self) -> (Vec<u8>, usize) {
        let mut writer = Writer::new(Vec::new(), &self.capture.header).expect("a Vec takes all");
        writer.modules(&self.capture.modules).expect("a Vec takes all");
        for RecordedStack { id, stack, python } in &self.recorded {
            writer.raw_stack(*id, stack, python).expect("a Vec takes all");
        }
        for (at, event) in self.events.iter().enumerate() {
            writer.event(event).expect("a Vec takes all");
            if at == self.events.len() / 2 {
                writer.flush().expect("a Vec takes all");
            }
        }
        for sample in &self.capture.timeline.samples {
            writer.sample(sample).expect("a Vec takes all");
        }
        writer.flush().expect("a Vec takes all");
        let closed = writer.bytes_written() as usize;
        (writer.finish(&self.capture).expect("a Vec takes all"), closed)
    }
}

/// With everything that a layout has.
fn small_layout(chunk_bytes: u64) -> HeapLayout {
    const HEAP: u64 = 0x55_0000_0000;
    let mut segment = SegmentLayout::at(HEAP);
    let sizes =
        [chunk_bytes, 0x90, 0x1f70, 0x20, 0x20, 0x4000 - 0x40 - 0x1f70 - 0x90 - chunk_bytes];
    let mut end = HEAP;
    let kinds = [
        PieceKind::Metadata,
        PieceKind::InUse,
        PieceKind::Free,
        PieceKind::Tcache,
        PieceKind::Fastbin,
        PieceKind::Top,
    ];
    for (kind, bytes) in kinds.into_iter().zip(sizes) {
        end += bytes;
        segment.push(kind, end);
    }
    let pool = PoolLayout { start: 0x7f30_0000_4000, block_bytes: 48, in_use: 3, capacity: 340 };
    HeapLayout {
        at_ns: 19_000_000,
        page_bytes: 4096,
        huge_page_bytes: 2 << 20,
        arenas: vec![ArenaLayout {
            heap: 0,
            index: 1,
            attached_threads: Some(2),
            segments: vec![segment],
        }],
        mapped: vec![Extent { start: 0x7f10_0000_0000, end: 0x7f10_0004_0000 }],
        pymalloc: vec![PymallocArenaLayout {
            extent: Extent { start: 0x7f30_0000_0000, end: 0x7f30_0010_0000 },
            pool_bytes: 16384,
            pools: vec![pool],
        }],
        resident: vec![
            Extent { start: HEAP, end: HEAP + 0x3000 },
            Extent { start: 0x7f10_0000_0000, end: 0x7f10_0004_0000 },
        ],
        left_out_bytes: 4096,
    }
}

fn small_events() -> Vec<KeptEvent> {
    use Action::*;
    const BLOCK: u64 = 0x55_0000_0010;
    const RANGE: u64 = 0x7f00_0000_0000;
    let actions = [
        (AllocFn::Malloc, 10, Alloc { address: BLOCK, size_bytes: 100, stack: LEAK }),
        (AllocFn::Malloc, 10, Alloc { address: BLOCK + 0x80, size_bytes: 200, stack: PYTHON }),
        (AllocFn::Free, 10, Free { address: BLOCK }),
        (AllocFn::Malloc, 11, Alloc { address: BLOCK, size_bytes: 100, stack: LEAK }),
        (AllocFn::Realloc, 10, ReallocBegin { old_address: BLOCK + 0x80 }),
        (
            AllocFn::Realloc,
            10,
            ReallocEnd {
                old_address: BLOCK + 0x80,
                new_address: BLOCK + 0x200,
                size_bytes: 4000,
                stack: PYTHON,
            },
        ),
        (
            AllocFn::Mmap,
            11,
            Map { address: RANGE, length_bytes: 1 << 20, prot: 3, map_flags: 0x22, stack: MAPPER },
        ),
        (AllocFn::Munmap, 11, UnmapBegin { address: RANGE, length_bytes: 4096 }),
        (AllocFn::Munmap, 11, UnmapEnd { address: RANGE, length_bytes: 4096, failed: false }),
        (AllocFn::Calloc, 10, Alloc { address: BLOCK + 0x2000, size_bytes: 64, stack: LEAK }),
        (AllocFn::Free, 10, Free { address: 0xdead_0000 }),
        (AllocFn::Malloc, 11, ThreadExit),
    ];
    let events = actions.into_iter().zip(1..).map(|((function, tid, action), at)| {
        let time_ns = OPENED_NS + at * 1_000_000;
        let event = Event::of(function, tid, time_ns, action);
        KeptEvent { event, is_arena: false, is_unseen: false, process: 0 }
    });
    events.collect()
}

fn small_recorded() -> Vec<RecordedStack> {
    let stack = |id, frames| {
        let stack = RawStack::native(frames, StackEnd::Complete);
        RecordedStack { id, stack, python: Vec::new() }
    };
    let mut python = stack(PYTHON, vec![0x7f10_0000_0100, 0x40_2000 | ENTRY_MARK, 0x40_1000]);
    python.stack.python = vec![PythonFrame { code: 0x7f20_0000_0000, position: ENTRY_MARK | 6 }];
    python.stack.python_end = PythonEnd::Complete;
    python.python = vec![Some(Arc::new(line("load_model", "model_server.py", 88)))];
    let leak = stack(LEAK, vec![0x40_1234, 0x40_1000]);
    vec![leak, python, stack(MAPPER, vec![0x7f10_0000_0200, 0x40_1000])]
}

fn line(function: &str, file: &str, line: u32) -> Frame {
    Frame {
        function: function.to_owned(),
        module: file.to_owned(),
        file: Some(format!("/srv/{file}")),
        line: Some(line),
        inlined: false,
        language: Language::Python,
    }
}

/// All but the books.
fn small_frame() -> Capture {
    let module = |path: &str, start| Module {
        path: path.to_owned(),
        build_id: Some("c0ffee".to_owned()),
        start,
        end: start + 0x10_0000,
        file_offset: 0x1000,
    };
    let main = frame("main");
    let named = |frames: Vec<Arc<Frame>>| NamedStack { frames, missing_root: None };
    let python = Arc::new(line("load_model", "model_server.py", 88));
    let target = Target { pid: 4242, command: "model".to_owned(), ..Target::default() };
    let sample = |at_ns, rss_bytes| TimelineSample { at_ns, rss_bytes, ..Default::default() };
    let census = Census { time_ns: OPENED_NS + 1, duration_ns: 9, ..Census::default() };
    Capture {
        header: Header {
            memtrace_version: "0.1.0".to_owned(),
            command_line: ["memtrace", "attach", "-p", "4242"].map(str::to_owned).to_vec(),
            started_at: "2026-01-02T03:04:05Z".to_owned(),
            opened_ns: OPENED_NS,
            target: target.clone(),
            initial_break: Some(0x55_0000_0000),
            host: Host { page_bytes: 4096, ..Host::default() },
            limit_bytes: Some(1 << 30),
            ..Header::default()
        },
        modules: vec![
            module("/usr/bin/model", 0x40_0000),
            module("/lib/libc.so.6", 0x7f10_0000_0000),
        ],
        stacks: vec![
            (LEAK, named(vec![frame("leak"), main.clone()])),
            (PYTHON, named(vec![frame("grow"), python, main.clone()])),
            (MAPPER, named(vec![frame("map_pool"), main])),
        ],
        threads: vec![ThreadName { tid: 10, name: "model".to_owned() }],
        timeline: Timeline {
            samples: vec![sample(0, 1 << 20), sample(10_000_000, 3 << 20)],
            rss_peak_bytes: 3 << 20,
            rss_peak_source: Some(PeakSource::Samples),
            cgroup_peak_bytes: None,
        },
        walks: Walks { after: Some(census), count: 1, ..Walks::default() },
        ending: Ending {
            target,
            closed_ns: OPENED_NS + 20_000_000,
            window: Window {
                started_at: "2026-01-02T03:04:05Z".to_owned(),
                duration_ns: 20_000_000,
                ended_by: EndReason::Duration,
                ..Window::default()
            },
            ..Ending::default()
        },
        ..Capture::default()
    }
}
