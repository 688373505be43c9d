//! What the walks of a window found, for its report.

use std::{sync::Arc, time::Duration};

use super::walker::{BlocksFound, NoWalk, Walk};
use crate::{
    capture::Layouts,
    ledger::LiveBlock,
    model::{
        census::Census,
        layout::HeapLayout,
        room::ChunksInUse,
        site::{Amount, SiteStats},
    },
    report::{SurvivorCheck, Walks as Report},
};

/// The first walk begins with the attach. Where that takes long (a busy machine), what the walk
/// shows is not how the window began.
const LONGEST_LEAD_NS: u64 = 2_000_000_000;

/// What a walk has seen.
#[derive(Debug)]
struct Seen {
    census: Census,
    layout: Option<Arc<HeapLayout>>,
}

impl Seen {
    /// By a walk of a window that was opened at this time.
    fn new(census: Census, layout: Option<HeapLayout>, opened_ns: u64) -> Self {
        let at_ns = census.time_ns.wrapping_sub(opened_ns).cast_signed();
        let layout = layout.map(|layout| Arc::new(HeapLayout { at_ns, ..layout }));
        Self { census, layout }
    }
}

/// The first walk, the last, and the sums.
#[derive(Debug, Default)]
pub(super) struct Walks {
    /// `CLOCK_MONOTONIC` when the window was opened.
    opened_ns: u64,
    /// There was nothing to walk when the window was opened.
    from_start: bool,
    /// Of the program that ran when the window was opened.
    first: Option<Seen>,
    last: Option<Seen>,
    count: u64,
    cpu: Duration,
    /// By the last walk, if it was asked.
    blocks: Option<BlocksFound>,
    /// What was freed unseen, by all walks.
    freed: Amount,
    /// Why a walk is missing.
    pub(super) notes: Vec<String>,
}

impl Walks {
    pub(super) fn new(opened_ns: u64, from_start: bool) -> Self {
        Self { opened_ns, from_start, ..Self::default() }
    }

    /// Takes a walk of the target's present program, the `image`th. `false` when it shows the heap
    /// as it was too long before the window: another one is wanted at once.
    pub(super) fn add(&mut self, walk: Walk) -> bool {
        self.count += 1;
        self.cpu += walk.cpu;
        if walk.census.time_ns.saturating_add(LONGEST_LEAD_NS) < self.opened_ns {
            return false;
        }
        let is_first = self.lacks_first() && walk.image == 0 && walk.blocks.is_none();
        let seen = Some(Seen::new(walk.census, walk.layout, self.opened_ns));
        if is_first {
            self.first = seen;
        } else {
            self.last = seen;
        }
        self.blocks = walk.blocks.filter(|_| walk.is_last);
        true
    }

    /// Whether none has shown yet how the window began.
    pub(super) fn lacks_first(&self) -> bool {
        !self.from_start && self.first.is_none() && self.last.is_none()
    }

    /// There was no walk.
    pub(super) fn miss(&mut self, miss: &NoWalk) {
        self.note(format!("the heap could not be walked: {}", miss.reason));
    }

    pub(super) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The program is gone: what grew since it began cannot be told.
    pub(super) fn forget_program(&mut self) {
        (self.first, self.last, self.blocks) = (None, None, None);
    }

    /// What the last walk found to be free, once.
    pub(super) fn take_freed(&mut self) -> Vec<LiveBlock> {
        self.blocks.as_mut().map(|blocks| std::mem::take(&mut blocks.freed)).unwrap_or_default()
    }

    /// A block that a walk found to be free was booked as freed.
    pub(super) fn count_freed(&mut self, amount: Amount) {
        self.freed += amount;
    }

    /// Chunks in use in glibc's heap; `None` where that was not walked at the end.
    pub(super) fn chunks(&self) -> Option<ChunksInUse> {
        self.blocks.as_ref()?;
        let last = &self.last.as_ref()?.census;
        let first = self.first.as_ref().map(|first| &first.census);
        let first_ns = first.map_or(last.time_ns, |first| first.time_ns);
        let between_ns = last.time_ns.saturating_sub(first_ns).max(1);
        let in_window_ns = last.time_ns.saturating_sub(self.opened_ns);
        Some(ChunksInUse {
            before: first.and_then(Census::chunks_in_use),
            after: last.chunks_in_use()?,
            in_window: (in_window_ns as f64 / between_ns as f64).min(1.0),
        })
    }

    /// Hands over all; `live` is what was live before the last walk's findings were booked, and
    /// `guessed` what is taken for freed although its addresses are in use.
    pub(super) fn finish(self, live: &SiteStats, guessed: Amount) -> (Report, Layouts) {
        let check = self.blocks.as_ref().map(|blocks| SurvivorCheck {
            in_use: blocks.in_use.count,
            freed: self.freed,
            unknown: blocks.unknown,
            unchecked: blocks.others.count,
        });
        let (first, of_first) = unzip(self.first);
        let (last, of_last) = unzip(self.last);
        let layouts = Layouts { before: of_first, after: of_last };
        // One walk is as good for the end as for the start, if that is all there is.
        let (before, after) = match (first, last) {
            (first, Some(last)) => (first, Some(last)),
            (first, None) => (None, first),
        };
        let at_ns = after.as_ref().map_or(0, |it| it.time_ns.saturating_sub(self.opened_ns));
        let traced_in_use = match (&self.blocks, &after) {
            (Some(blocks), Some(census)) => Some(traced(blocks, census, live, guessed)),
            _ => None,
        };
        let report = Report {
            before,
            after,
            at_ns,
            count: self.count,
            cpu_ns: self.cpu.as_nanos() as u64,
            traced_in_use,
            check,
        };
        (report, layouts)
    }
}

fn unzip(seen: Option<Seen>) -> (Option<Census>, Option<Arc<HeapLayout>>) {
    seen.map_or((None, None), |seen| (Some(seen.census), seen.layout))
}

/// What glibc does not hold is known by requested bytes only; blocks that stand for others cannot be
/// asked for one by one, and of which of those in use others have the address is not known.
fn traced(blocks: &BlocksFound, census: &Census, live: &SiteStats, guessed: Amount) -> Amount {
    if census.glibc.is_empty() || !live.live.is_exact() || guessed.count > 0 {
        return live.live;
    }
    let mut sum = blocks.in_use;
    sum += blocks.others;
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(time_ns: u64) -> Walk {
        let census = Census { time_ns, ..Census::default() };
        let (cpu, layout) = (Duration::from_millis(1), Some(HeapLayout::default()));
        let (is_last, blocks) = (false, None);
        Walk { image: 0, is_last, start_time_ticks: 0, census, cpu, blocks, layout }
    }

    #[test]
    fn a_walk_long_before_the_window_does_not_show_how_it_began() {
        let mut walks = Walks::new(10_000_000_000, false);
        assert!(!walks.add(walk(7_900_000_000)));
        assert!(walks.add(walk(9_900_000_000)));
        assert!(walks.add(walk(12_000_000_000)));
        let layout = walks.first.as_ref().and_then(|it| it.layout.clone());
        assert_eq!(layout.map(|it| it.at_ns), Some(-100_000_000));
        let time_ns = |seen: Option<Seen>| seen.map(|it| it.census.time_ns);
        let times = (time_ns(walks.first), time_ns(walks.last));
        assert_eq!(times, (Some(9_900_000_000), Some(12_000_000_000)));
        assert_eq!(walks.count, 3, "what they cost is said");
    }
}
