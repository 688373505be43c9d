//! The replay of a capture's events, of which only those of a part are in the books.

use hashbrown::{HashMap, HashSet};

use super::{
    Selection,
    keys::{Keys, obtains},
    part::Part,
    temporary::Temporary,
};
use crate::{
    capture::{Capture, KeptEvent},
    ledger::{Ledger, Limits, Start},
    model::{
        event::{Action, Event},
        loss::Loss,
        site::{Amount, Site},
    },
};

/// Room for blocks beyond the peak: those that open calls were given.
const SPARE_BLOCKS: u64 = 1 << 16;

/// As many as a trace follows.
const MAX_RANGES: usize = 1 << 20;

/// As many as a trace tells apart.
const MAX_SITES: usize = 1 << 18;

/// Threads that are named where none of the wanted ones obtained anything.
const THREADS: usize = 8;

/// A thread, with its name where it was seen.
pub type NamedThread = (u32, Option<String>);

/// Where the replay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Before,
    Inside,
    After,
}

/// A replay under way.
pub struct Replay<'a> {
    ledger: Ledger,
    part: Part,
    wanted: &'a [u32],
    stage: Stage,
    keys: Option<Keys>,
    temporary: Option<Temporary>,
    /// Times of the timeline's samples that are to come, `CLOCK_MONOTONIC`.
    sample_times: std::vec::IntoIter<u64>,
    next_sample_ns: u64,
    live_bytes: Vec<u64>,
    peak_number: u64,
    peak_at_ns: u64,
    age: Age,
    obtained_by: HashMap<u32, u64>,
    /// Frees that were not seen are to come.
    has_unseen: bool,
    /// Addresses of blocks to which something happened after the part.
    changed_since: HashSet<u64>,
}

/// What the replay told.
pub struct Replayed {
    /// The books.
    pub ledger: Ledger,
    /// What the stacks in the books stand for, where they do not stand for themselves.
    pub keys: Option<Keys>,
    /// By site.
    pub temporary: Option<HashMap<Site, Amount>>,
    /// At the time of each sample of the timeline.
    pub live_bytes: Vec<u64>,
    /// When the most was live, `CLOCK_MONOTONIC`.
    pub peak_at_ns: u64,
    age: Age,
    obtained_by: HashMap<u32, u64>,
}

impl<'a> Replay<'a> {
    /// A replay that has not begun.
    pub fn new(capture: &Capture, selection: &'a Selection, part: Part) -> Self {
        let mut ledger = Ledger::new(limits(capture, selection.by_thread), start(capture));
        if selection.extras {
            ledger.watch_summit();
        }
        let time = |at_ns: u64| part.opened_ns.saturating_add(at_ns);
        let times: Vec<u64> =
            capture.timeline.samples.iter().map(|sample| time(sample.at_ns)).collect();
        let mut sample_times = times.into_iter();
        Self {
            ledger,
            part,
            wanted: &selection.threads,
            stage: Stage::Before,
            keys: selection.by_thread.then(Keys::default),
            temporary: selection.extras.then(Temporary::default),
            next_sample_ns: sample_times.next().unwrap_or(u64::MAX),
            sample_times,
            live_bytes: Vec::new(),
            peak_number: 0,
            peak_at_ns: part.begin_ns(),
            age: Age {
                end_ns: part.end_ns().min(capture.ending.closed_ns),
                min_ns: selection.min_age_ns.unwrap_or(capture.header.min_age_ns),
            },
            obtained_by: HashMap::new(),
            has_unseen: has_unseen(capture),
            changed_since: HashSet::new(),
        }
    }

    /// Takes the next event.
    pub fn visit(&mut self, kept: &KeptEvent) {
        let event = &kept.event;
        if kept.is_unseen {
            return self.unseen(event);
        }
        self.advance(event.time_ns);
        match self.stage {
            Stage::Before => self.ledger.apply_unwatched(event),
            Stage::Inside => self.book(kept),
            Stage::After => self.note_change(event),
        }
    }

    /// What it told.
    pub fn finish(mut self) -> Replayed {
        self.sample_until(u64::MAX);
        Replayed {
            ledger: self.ledger,
            keys: self.keys,
            temporary: self.temporary.map(Temporary::into_amounts),
            live_bytes: self.live_bytes,
            peak_at_ns: self.peak_at_ns,
            age: self.age,
            obtained_by: self.obtained_by,
        }
    }

    /// The ring's order is nearly that of time; what is a little late belongs to where it is met.
    fn advance(&mut self, time_ns: u64) {
        if time_ns >= self.next_sample_ns {
            self.sample_until(time_ns);
        }
        self.stage = match self.stage {
            Stage::Before | Stage::Inside if time_ns > self.part.end_ns() => Stage::After,
            Stage::Before if time_ns >= self.part.begin_ns() => Stage::Inside,
            stage => stage,
        };
    }

    fn sample_until(&mut self, time_ns: u64) {
        while self.next_sample_ns <= time_ns {
            self.live_bytes.push(self.ledger.live_bytes());
            match self.sample_times.next() {
                Some(next_ns) => self.next_sample_ns = next_ns,
                None => return self.next_sample_ns = u64::MAX,
            }
        }
    }

    fn book(&mut self, kept: &KeptEvent) {
        let event = &kept.event;
        if !self.is_wanted(event) {
            if let Some(temporary) = self.temporary.as_mut().filter(|_| !event.internal) {
                temporary.forget(event.tid);
            }
            return self.ledger.apply_unwatched(event);
        }
        if kept.is_arena {
            return self.ledger.apply_arena(event);
        }
        if let Some(temporary) = &mut self.temporary {
            temporary.visit(event, &self.ledger);
        }
        match &mut self.keys {
            None => self.ledger.apply(event),
            Some(keys) => self.ledger.apply(&keys.renamed(event)),
        }
        self.look_at_peak(event.time_ns);
    }

    /// Whoever releases something may do so; who obtains it must be wanted.
    fn is_wanted(&mut self, event: &Event) -> bool {
        if self.wanted.is_empty() || !obtains(&event.action) {
            return true;
        }
        *self.obtained_by.entry(event.tid).or_default() += 1;
        self.wanted.contains(&event.tid)
    }

    fn look_at_peak(&mut self, time_ns: u64) {
        if let Some((_, number)) = self.ledger.summit()
            && number != self.peak_number
        {
            (self.peak_number, self.peak_at_ns) = (number, time_ns);
        }
    }

    /// A free that the heap told of later: of the block that is at the address then. That may be
    /// another one than at the end of the part.
    fn unseen(&mut self, event: &Event) {
        let Action::Free { address } = event.action else { return };
        if !self.changed_since.contains(&address)
            && let Some(block) = self.ledger.block_at(address)
        {
            self.ledger.free_unseen(&block, event.time_ns);
        }
    }

    fn note_change(&mut self, event: &Event) {
        if !self.has_unseen {
            return;
        }
        let address = match event.action {
            Action::Alloc { address, .. } | Action::Free { address } => address,
            Action::ReallocBegin { old_address } => old_address,
            Action::ReallocEnd { new_address, .. } => new_address,
            _ => return,
        };
        if self.ledger.block_at(address).is_some() {
            self.changed_since.insert(address);
        }
    }
}

/// What is old enough to be a survivor.
#[derive(Clone, Copy, Debug)]
struct Age {
    end_ns: u64,
    min_ns: u64,
}

impl Replayed {
    /// What survived, by the ledger's ids of sites.
    pub fn survivors(&self) -> HashMap<u32, Amount> {
        let mut survivors: HashMap<u32, Amount> = HashMap::new();
        let Age { end_ns, min_ns } = self.age;
        for item in self.ledger.live_items().filter(|item| item.age_ns(end_ns) >= min_ns) {
            *survivors.entry(item.site).or_default() += item.amount();
        }
        survivors
    }

    /// Where none of the wanted threads obtained anything: the busiest of the others, and how many
    /// more there are.
    pub fn missed_threads(
        &self,
        capture: &Capture,
        selection: &Selection,
    ) -> Option<(Vec<NamedThread>, u64)> {
        let is_met = |tid: &u32| self.obtained_by.contains_key(tid);
        if selection.threads.is_empty() || selection.threads.iter().any(is_met) {
            return None;
        }
        let mut others: Vec<_> = self.obtained_by.iter().collect();
        others.sort_by_key(|(tid, count)| (std::cmp::Reverse(**count), **tid));
        let more = others.len().saturating_sub(THREADS) as u64;
        let named = others.iter().take(THREADS).map(|(tid, _)| (**tid, capture.thread_name(**tid)));
        Some((named.collect(), more))
    }
}

/// The tables' sizes: what the trace needed, so that a replay needs no more memory.
fn limits(capture: &Capture, by_thread: bool) -> Limits {
    let peak = capture.ending.totals.heap.peak.count;
    let known = if peak == 0 { u64::MAX } else { peak.saturating_add(SPARE_BLOCKS) };
    let live_blocks = known.min(capture.events.kept.max(1));
    Limits {
        live_blocks: usize::try_from(live_blocks).unwrap_or(usize::MAX),
        live_ranges: MAX_RANGES,
        sites: if by_thread { 4 * MAX_SITES } else { MAX_SITES },
    }
}

fn start(capture: &Capture) -> Start {
    let page_bytes = capture.header.host.page_bytes;
    Start {
        time_ns: capture.header.opened_ns,
        initial_break: capture.header.initial_break,
        page_bytes: if page_bytes.is_power_of_two() { page_bytes } else { 4096 },
    }
}

fn has_unseen(capture: &Capture) -> bool {
    let unseen = Loss::FreedUnseen.name();
    let is_lost = capture.ending.losses.iter().any(|loss| loss.name == unseen && loss.count > 0);
    is_lost || capture.ending.cost.as_ref().is_some_and(|cost| cost.misses_releases)
}
