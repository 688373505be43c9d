//! Blocks that outlived the burst they were obtained in, and what was seen of their ends; see
//! [`crate::analysis::outlived`].

use std::collections::BTreeMap;

use super::{Ledger, check::LiveBlock, live::Block, lot::lot, sites::SiteId};
use crate::analysis::outlived::{Ended, Left, Mixture, Pool};

/// Which lot is drawn.
const DRAW: u64 = 0;

/// A time in which releases were not seen.
#[derive(Clone, Copy, Debug)]
struct Gap {
    since_ns: u64,
    until_ns: u64,
    /// All such time before it.
    before_ns: u64,
}

/// When releases were seen, `CLOCK_MONOTONIC`.
#[derive(Clone, Debug, Default)]
struct Watches {
    /// In order. The last one may be open: its end is `u64::MAX`.
    gaps: Vec<Gap>,
}

impl Watches {
    fn stop(&mut self, now_ns: u64) {
        let last = self.gaps.last();
        if last.is_some_and(|gap| gap.until_ns == u64::MAX) {
            return;
        }
        let before_ns = last.map_or(0, |gap| gap.before_ns + (gap.until_ns - gap.since_ns));
        self.gaps.push(Gap { since_ns: now_ns, until_ns: u64::MAX, before_ns });
    }

    fn resume(&mut self, now_ns: u64) {
        if let Some(gap) = self.gaps.last_mut().filter(|gap| gap.until_ns == u64::MAX) {
            gap.until_ns = now_ns.max(gap.since_ns);
        }
    }

    /// The first gap that had not ended by then.
    fn gap_after(&self, time_ns: u64) -> Option<&Gap> {
        self.gaps.get(self.gaps.partition_point(|gap| gap.until_ns <= time_ns))
    }

    /// For how long nobody looked until then.
    fn unwatched_ns(&self, time_ns: u64) -> u64 {
        let ended = self.gaps.partition_point(|gap| gap.until_ns <= time_ns);
        match self.gaps.get(ended) {
            Some(gap) => gap.before_ns + time_ns.saturating_sub(gap.since_ns),
            None => self.gaps.last().map_or(0, |gap| gap.before_ns + (gap.until_ns - gap.since_ns)),
        }
    }

    /// Since the first gap after a block's birth until some time: when that gap began, and for how long
    /// somebody looked and nobody did; `None` where there was no gap in between.
    fn since_burst(&self, born_ns: u64, until: Until) -> Option<(u64, Left)> {
        let start_ns = self.gap_after(born_ns)?.since_ns.max(born_ns);
        let passed_ns = until.time_ns.checked_sub(start_ns)?;
        let unwatched_ns = self.unwatched_ns(until.time_ns) - self.unwatched_ns(start_ns);
        let watched_ns = passed_ns.saturating_sub(unwatched_ns) as f64;
        let unwatched_ns = unwatched_ns as f64 / until.pace.clamp(SLOWEST, 1.0);
        Some((start_ns, Left { count: 1, watched_ns, unwatched_ns }))
    }

    /// The part of what happened since the first gap that somebody saw.
    fn watched_share(&self, until: Until) -> f64 {
        let first = self.gaps.first().and_then(|gap| self.since_burst(gap.since_ns, until));
        first.map_or(1.0, |(_, left)| {
            left.watched_ns / (left.watched_ns + left.unwatched_ns).max(1.0)
        })
    }
}

/// No target is taken to be slower than this while it is watched.
const SLOWEST: f64 = 0.001;

/// Up to when.
#[derive(Clone, Copy, Debug)]
struct Until {
    /// `CLOCK_MONOTONIC`.
    time_ns: u64,
    /// How fast the target gets on while it is watched, compared with when it is not: more happens in
    /// what is counted as unwatched.
    pace: f64,
}

impl Until {
    /// Only of the time that was watched.
    fn watched(time_ns: u64) -> Self {
        Self { time_ns, pace: 1.0 }
    }
}

/// How a block ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its free was seen.
    Freed,
    /// Its address was handed out again.
    Reused,
    /// The heap says that it is free.
    Gone,
}

/// What was seen of the blocks of each site that outlived their burst.
#[derive(Debug, Default)]
pub(super) struct Outlived {
    watches: Watches,
    /// By [`SiteId::index`].
    ended: Vec<Ended>,
    /// How many blocks they were, by [`class_of`].
    ended_by_class: Vec<u64>,
}

impl Outlived {
    /// A block ended.
    pub(super) fn see_end(&mut self, block: &Block, time_ns: u64, end: End) {
        if self.watches.gaps.is_empty() || block.site == SiteId::UNWATCHED {
            return;
        }
        let Some((_, watched)) = self.watches.since_burst(block.time_ns, Until::watched(time_ns))
        else {
            return;
        };
        let index = block.site.index();
        if self.ended.len() <= index {
            self.ended.resize(index + 1, Ended::default());
        }
        let ended = &mut self.ended[index];
        match end {
            End::Freed => ended.freed += 1,
            End::Reused => ended.reused += 1,
            End::Gone => ended.gone += 1,
        }
        ended.watched_ns += watched.watched_ns;
        self.ended_by_class.resize(CLASSES, 0);
        self.ended_by_class[class_of(block)] += 1;
    }

    /// The blocks that outlived a burst, when that ended, and how they were watched since.
    fn left<'b>(
        &self,
        blocks: impl Iterator<Item = &'b Block>,
        until: Until,
    ) -> impl Iterator<Item = (&'b Block, u64, Left)> {
        blocks.filter_map(move |block| {
            let (burst_ns, left) = self.watches.since_burst(block.time_ns, until)?;
            Some((block, burst_ns, left))
        })
    }
}

/// Classes of sizes: four to each doubling.
const CLASSES: usize = 4 * u64::BITS as usize;

/// Addresses of blocks of a class are handed out to each other.
fn class_of(block: &Block) -> usize {
    let size = block.size_bytes.max(4);
    let log = size.ilog2();
    (4 * log + (size >> (log - 2) & 3) as u32) as usize
}

/// Those of a site that outlived the same burst.
type Groups = BTreeMap<u64, Left>;

/// All blocks that outlived a burst.
struct Survey {
    mixtures: BTreeMap<SiteId, Mixture>,
    pools: Vec<Pool>,
}

impl Survey {
    fn of<'b>(
        outlived: &Outlived,
        blocks: impl Iterator<Item = &'b Block> + Clone,
        until: Until,
    ) -> Self {
        let mut sites: BTreeMap<SiteId, Groups> = BTreeMap::new();
        for (block, burst_ns, left) in outlived.left(blocks.clone(), until) {
            let group = sites.entry(block.site).or_default().entry(burst_ns);
            group.and_modify(|known| known.count += 1).or_insert(left);
        }
        let fit = |(site, groups): (SiteId, Groups)| {
            let ended = outlived.ended.get(site.index()).copied().unwrap_or_default();
            let left: Vec<Left> = groups.into_values().collect();
            (site, Mixture::fit(&ended, &left))
        };
        let mixtures: BTreeMap<SiteId, Mixture> = sites.into_iter().map(fit).collect();
        let mut all: Vec<f64> = outlived.ended_by_class.iter().map(|count| *count as f64).collect();
        all.resize(CLASSES, 0.0);
        let mut at_rest = vec![0.0; CLASSES];
        for (block, _, left) in outlived.left(blocks, until) {
            let class = class_of(block);
            all[class] += 1.0;
            at_rest[class] += mixtures.get(&block.site).map_or(1.0, |it| it.chance_of_rest(&left));
        }
        let watched = outlived.watches.watched_share(until);
        let pool = |(at_rest, all): (&f64, &f64)| Pool::new(at_rest / all.max(1.0), watched);
        Self { mixtures, pools: at_rest.iter().zip(&all).map(pool).collect() }
    }

    fn chance_of_life(&self, block: &Block, left: &Left) -> f64 {
        let mixture = self.mixtures.get(&block.site);
        mixture.map_or(1.0, |mixture| mixture.chance_of_life(left, &self.pools[class_of(block)]))
    }
}

impl Ledger {
    /// From here on nobody sees releases.
    pub fn releases_are_unseen_from(&mut self, time_ns: u64) {
        self.books.outlived.watches.stop(time_ns);
    }

    /// From here on somebody sees releases again.
    pub fn releases_are_seen_from(&mut self, time_ns: u64) {
        self.books.outlived.watches.resume(time_ns);
        self.releases_were_unseen_until(time_ns);
    }

    /// So many of the live blocks as were probably freed while nobody looked, and whose addresses are in
    /// use by others: by how often that was seen of their sites. Which ones of them is a guess. To be
    /// asked when the heap was. `pace` is how fast the target gets on while it is watched, compared with
    /// when it is not.
    pub fn probably_freed(&self, now_ns: u64, pace: f64) -> Vec<LiveBlock> {
        let (outlived, until) = (&self.books.outlived, Until { time_ns: now_ns, pace });
        let blocks: Vec<&Block> = self.heap.blocks().collect();
        let survey = Survey::of(outlived, blocks.iter().copied(), until);
        let left = outlived.left(blocks.iter().copied(), until);
        left.filter(|(block, _, left)| lot(block, DRAW) >= survey.chance_of_life(block, left))
            .map(|(block, ..)| LiveBlock::from(block))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_since_a_burst_is_divided_into_what_was_watched_and_what_was_not() {
        let mut watches = Watches::default();
        assert!(watches.since_burst(5, Until::watched(100)).is_none(), "all is seen");
        for (since_ns, until_ns) in [(10, 20), (40, 50)] {
            watches.stop(since_ns);
            watches.stop(since_ns + 1);
            watches.resume(until_ns);
            watches.resume(until_ns + 1);
        }
        watches.stop(90);
        let since = |born_ns, now_ns| {
            let (burst_ns, left) = watches.since_burst(born_ns, Until::watched(now_ns))?;
            Some((burst_ns, left.watched_ns as u64, left.unwatched_ns as u64))
        };
        assert_eq!(since(5, 30), Some((10, 10, 10)));
        assert_eq!(since(5, 95), Some((10, 60, 25)));
        assert_eq!(since(10, 15), Some((10, 0, 5)));
        assert_eq!(since(25, 45), Some((40, 0, 5)));
        assert_eq!(since(25, 39), None, "it is of the same burst");
        assert_eq!(since(60, 91), Some((90, 0, 1)), "the last gap is open");
        let slow = Until { time_ns: 95, pace: 0.5 };
        let (_, left) = watches.since_burst(5, slow).expect("a gap was in between");
        assert_eq!(
            (left.watched_ns, left.unwatched_ns),
            (60.0, 50.0),
            "twice as much happened in it"
        );
        assert_eq!(watches.watched_share(slow), 60.0 / 110.0);
    }
}
