//! Captures for tests: arbitrary ones, and one that looks like real ones.

use std::{borrow::Cow, sync::Arc};

use memtrace_common::wire::StackEnd;
use proptest::prelude::*;

use super::{
    Capture, CapturedSite, Ending, EventsKept, Header, Host, KeptEvent, LiveItem, LossCount,
    ThreadName, raw_stacks::RecordedStack,
};
use crate::model::{
    AllocFn,
    census::Census,
    event::{Action, Event},
    site::{Amount, SiteStats},
    stack::{Frame, Language, NamedStack, PythonEnd, PythonFrame, RawStack, StackId},
    timeline::{PeakSource, Timeline, TimelineSample},
    trace::{Distribution, EndReason, Module, Target, Walks, Window},
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
    let bits = (any::<bool>(), any::<bool>(), any::<bool>());
    (function(), tid, number(), action, bits).prop_map(|(function, tid, time_ns, action, bits)| {
        let (internal, is_arena, is_unseen) = bits;
        let event = Event { function, tid, time_ns, internal, action };
        KeptEvent { event, is_arena, is_unseen }
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

fn amount() -> impl Strategy<Value = Amount> {
    (number(), number()).prop_map(|(bytes, count)| Amount { bytes, count })
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
    (prop::option::of(stack_id()), prop::option::of(function()), stats())
        .prop_map(|(stack, function, stats)| CapturedSite { stack, function, stats })
}

/// A live record of one of the first sites.
pub fn any_live() -> impl Strategy<Value = LiveItem> {
    (address(), number(), number(), 0..3_u32).prop_map(|(address, bytes, time_ns, site)| LiveItem {
        address,
        bytes,
        time_ns,
        site,
    })
}

fn any_sample() -> impl Strategy<Value = TimelineSample> {
    (number(), number(), prop::option::of(number())).prop_map(|(at_ns, rss_bytes, live_bytes)| {
        TimelineSample { at_ns, rss_bytes, live_bytes, ..TimelineSample::default() }
    })
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
    (tables, events, ".*", number(), any::<f64>()).prop_map(
        |((mut stacks, mut sites, live, samples), events, name, number, mean)| {
            if stacks.is_empty() {
                stacks.push((StackId(7), NamedStack::default()));
            }
            for (at, site) in sites.iter_mut().enumerate() {
                site.stack = site.stack.map(|_| stacks[at % stacks.len()].0);
            }
            let mut capture = Capture { stacks, sites, live, ..filled(&name, number) };
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
