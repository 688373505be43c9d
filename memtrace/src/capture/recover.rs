//! What a capture lacks that ends early, as far as its events tell.

use hashbrown::{HashMap, HashSet};

use super::{
    Capture, Events, LossCount,
    books::{Books, apply},
    name::{Namer, unknown},
    raw_stacks::RecordedStack,
    stored::EventsError,
};
use crate::{
    ledger::{Ledger, Limits, Start},
    model::{
        AllocFn,
        event::Action,
        loss::Loss,
        stack::StackId,
        timeline::PeakSource,
        trace::{Completeness, EndReason, FunctionReport, Rss, Window},
    },
};

/// Most live blocks that are followed, in the first attempt and in later ones: at the end as many as
/// a trace can be asked to follow.
const MAX_LIVE: [usize; 3] = [1 << 22, 1 << 25, 100_000_000];

/// Most sites that are told apart.
const MAX_SITES: usize = 1 << 18;

/// Most mapped ranges that are followed.
const MAX_RANGES: usize = 1 << 20;

/// Pages of hosts that do not say how large theirs are.
const USUAL_PAGE_BYTES: u64 = 4096;

/// What the events tell.
struct Replay {
    ledger: Ledger,
    events: u64,
    last_ns: u64,
    calls: [u64; AllocFn::COUNT],
    result: Result<(), EventsError>,
}

impl Replay {
    fn of<E>(capture: &Capture, events: &E, at_most: usize, live_blocks: usize) -> Self
    where
        E: Events<Error = EventsError>,
    {
        let mut ledger = ledger(capture, at_most, live_blocks);
        let (mut count, mut last_ns) = (0, capture.header.opened_ns);
        let mut calls = [0; AllocFn::COUNT];
        let result = events.replay(&mut |kept| {
            count += 1;
            last_ns = last_ns.max(kept.event.time_ns);
            if is_call(&kept.event.action) && !kept.event.internal && !kept.is_unseen {
                calls[kept.event.function as usize] += 1;
            }
            apply(&mut ledger, kept);
        });
        Self { ledger, events: count, last_ns, calls, result }
    }

    fn has_room(&self) -> bool {
        self.ledger.losses().all(|(loss, _)| loss != Loss::LiveBlocksFull)
    }

    /// With as small a table of live blocks as suffices: a large one takes memory although it is
    /// nearly empty.
    fn with_room<E>(capture: &Capture, events: &E, at_most: usize) -> Self
    where
        E: Events<Error = EventsError>,
    {
        let mut replay = Self::of(capture, events, at_most, MAX_LIVE[0]);
        for live_blocks in &MAX_LIVE[1..] {
            if replay.has_room() {
                break;
            }
            replay = Self::of(capture, events, at_most, *live_blocks);
        }
        replay
    }
}

/// Computes sites, live records and sums from the events. The window ends with what happened last.
/// How many events there are; when some cannot be read, it is as if they ended there.
/// There are `at_most` so many.
pub fn recover_books<E>(
    capture: &mut Capture,
    events: &E,
    at_most: usize,
) -> (u64, Result<(), EventsError>)
where
    E: Events<Error = EventsError>,
{
    let Replay { ledger, events, last_ns, calls, result } =
        Replay::with_room(capture, events, at_most);
    let closed_ns = last_ns.max(last_sample_ns(capture));
    Books::of(&ledger, closed_ns, capture.header.min_age_ns).put_into(capture);
    capture.ending.functions = functions(&calls);
    capture.ending.losses = losses(&ledger);
    capture.ending.completeness = completeness(&ledger);
    capture.ending.closed_ns = closed_ns;
    (events, result)
}

/// The rest of the ending, by what was known before.
pub fn recover_ending(capture: &mut Capture) {
    let Capture { header, ending, timeline, .. } = capture;
    ending.target = header.target.clone();
    ending.window = Window {
        started_at: header.started_at.clone(),
        duration_ns: ending.closed_ns.saturating_sub(header.opened_ns),
        ended_by: EndReason::Unknown,
        min_age_ns: header.min_age_ns,
        ..Window::default()
    };
    let samples = timeline.samples.iter();
    let peak_bytes = samples.map(|it| it.rss_peak_bytes.unwrap_or(it.rss_bytes)).max();
    timeline.rss_peak_bytes = peak_bytes.unwrap_or_default();
    timeline.rss_peak_source = peak_bytes.map(|_| PeakSource::Samples);
    ending.rss = Rss {
        start_bytes: timeline.samples.first().map_or(0, |sample| sample.rss_bytes),
        end_bytes: timeline.samples.last().map_or(0, |sample| sample.rss_bytes),
        peak_bytes: timeline.rss_peak_bytes,
        limit_bytes: header.limit_bytes,
        ..Rss::default()
    };
}

fn ledger(capture: &Capture, at_most: usize, live_blocks: usize) -> Ledger {
    let limits = Limits {
        live_blocks: at_most.min(live_blocks),
        live_ranges: at_most.min(MAX_RANGES),
        sites: at_most.min(MAX_SITES),
    };
    let page_bytes = capture.header.host.page_bytes;
    let is_sane = page_bytes.is_power_of_two() && page_bytes <= 1 << 30;
    let start = Start {
        time_ns: capture.header.opened_ns,
        initial_break: capture.header.initial_break,
        page_bytes: if is_sane { page_bytes } else { USUAL_PAGE_BYTES },
    };
    Ledger::new(limits, start)
}

/// One of each call's events.
fn is_call(action: &Action) -> bool {
    matches!(
        action,
        Action::Alloc { .. }
            | Action::Free { .. }
            | Action::ReallocEnd { .. }
            | Action::Map { .. }
            | Action::UnmapEnd { .. }
            | Action::RemapEnd { .. }
            | Action::Break { .. }
    )
}

fn functions(calls: &[u64; AllocFn::COUNT]) -> Vec<FunctionReport> {
    let called = AllocFn::ALL.into_iter().zip(calls).filter(|(_, calls)| **calls > 0);
    called
        .map(|(function, calls)| FunctionReport {
            function: function.name().into(),
            calls: *calls,
            ..FunctionReport::default()
        })
        .collect()
}

fn losses(ledger: &Ledger) -> Vec<LossCount> {
    let losses = ledger.losses();
    losses.map(|(loss, count)| LossCount { name: loss.name().to_owned(), count }).collect()
}

fn completeness(ledger: &Ledger) -> Completeness {
    let totals = ledger.totals();
    Completeness {
        complete: false,
        events: totals.events,
        cut_calls: totals.open_calls,
        forks: totals.forks,
        execs: totals.execs,
        discarded_by_exec: totals.discarded_by_exec,
        ..Completeness::default()
    }
}

fn last_sample_ns(capture: &Capture) -> u64 {
    let last = capture.timeline.samples.last().map_or(0, |sample| sample.at_ns);
    capture.header.opened_ns.saturating_add(last)
}

/// The stacks of sites that have no names.
pub fn nameless(capture: &Capture) -> HashSet<StackId> {
    let known: HashSet<StackId> = capture.stacks.iter().map(|(id, _)| *id).collect();
    let of_sites = capture.sites.iter().filter_map(|site| site.stack);
    of_sites.filter(|id| !known.contains(id)).collect()
}

/// Adds names of these stacks.
pub fn name_stacks(capture: &mut Capture, nameless: &HashSet<StackId>, recorded: &[RecordedStack]) {
    let recorded: HashMap<StackId, &RecordedStack> =
        recorded.iter().map(|recorded| (recorded.id, recorded)).collect();
    let namer = Namer::new(&capture.modules);
    let name = |id: &StackId| {
        let stack = recorded.get(id).map(|recorded| namer.name(recorded));
        (*id, stack.unwrap_or_else(unknown))
    };
    capture.stacks.extend(nameless.iter().map(name));
    capture.stacks.sort_by_key(|(id, _)| *id);
}
