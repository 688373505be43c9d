//! The books of one site, or of one family of calls.

use memtrace_common::sample::Interval;

use super::unseen::{Seen, Unseen};
use crate::model::{
    estimate::Spread,
    site::{Amount, SiteStats},
};

/// Something that is booked: a block, a range, or a part of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its bytes.
    pub bytes: u64,
    /// 1, or 0 for a part of a range.
    pub count: u64,
    /// How densely blocks were looked at when it was obtained.
    pub interval: Interval,
}

impl Entry {
    /// A block or a range that was sure to be seen.
    pub fn one(bytes: u64) -> Self {
        Self { bytes, count: 1, interval: Interval::EXACT }
    }

    /// What it stands for.
    pub fn amount(self) -> Amount {
        match self.interval.is_exact() {
            true => Amount::new(self.bytes, self.count),
            false => Amount::sampled(self.bytes, self.interval),
        }
    }

    fn seen(self) -> Seen {
        Seen { bytes: self.bytes, count: self.count }
    }

    fn unseen(self) -> Unseen {
        Unseen::of_block(self.bytes, self.interval)
    }
}

/// Amounts that always satisfy allocated = live + freed + discarded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    live: Seen,
    allocated: Seen,
    freed: Seen,
    peak: Seen,
    discarded: Seen,
    /// From the first block on that stands for others.
    sampled: Option<Box<Sampled>>,
}

/// What the blocks of an account stand for beyond themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sampled {
    live: Unseen,
    allocated: Unseen,
    freed: Unseen,
    discarded: Unseen,
    /// The estimates at the highest numbers of bytes and of blocks.
    peak: Amount,
    coarsest: Interval,
}

impl Account {
    /// Books a new block or range.
    pub fn allocate(&mut self, entry: Entry) {
        match entry.interval.is_exact() && self.sampled.is_none() {
            true => self.add(entry),
            false => self.add_sampled(entry),
        }
    }

    /// Books bytes that an existing range gained.
    pub fn extend(&mut self, bytes: u64) {
        self.allocate(Entry { bytes, ..Entry::default() });
    }

    /// Books a release.
    pub fn release(&mut self, released: Entry) {
        self.live.subtract(released.seen());
        self.freed.add(released.seen());
        if let Some(sampled) = &mut self.sampled {
            sampled.live.subtract(released.unseen());
            sampled.freed.add(released.unseen());
        }
    }

    /// Books that everything live is gone without having been freed.
    pub fn discard(&mut self) {
        self.discarded.add(std::mem::take(&mut self.live));
        if let Some(sampled) = &mut self.sampled {
            sampled.discarded.add(std::mem::take(&mut sampled.live));
        }
    }

    /// What was allocated, freed and is live.
    pub fn stats(&self) -> SiteStats {
        let Self { live, allocated, freed, peak, .. } = *self;
        match &self.sampled {
            None => SiteStats {
                live: live.amount(),
                allocated: allocated.amount(),
                freed: freed.amount(),
                peak: peak.amount(),
            },
            Some(sampled) => SiteStats {
                live: sampled.estimate(sampled.live, live),
                allocated: sampled.estimate(sampled.allocated, allocated),
                freed: sampled.estimate(sampled.freed, freed),
                peak: sampled.peak,
            },
        }
    }

    /// What is live.
    pub fn live(&self) -> Amount {
        match &self.sampled {
            None => self.live.amount(),
            Some(sampled) => sampled.estimate(sampled.live, self.live),
        }
    }

    /// What was live when an exec threw the address space away.
    pub fn discarded(&self) -> Amount {
        match &self.sampled {
            None => self.discarded.amount(),
            Some(sampled) => sampled.estimate(sampled.discarded, self.discarded),
        }
    }

    /// Whether anything was ever allocated.
    pub fn is_used(&self) -> bool {
        self.allocated.count > 0
    }

    /// The largest interval of all blocks; exact where no block stands for others.
    pub fn coarsest(&self) -> Interval {
        self.sampled.as_ref().map_or(Interval::EXACT, |sampled| sampled.coarsest)
    }

    fn add(&mut self, entry: Entry) {
        let Self { live, allocated, peak, .. } = self;
        allocated.add(entry.seen());
        live.add(entry.seen());
        peak.bytes = peak.bytes.max(live.bytes);
        peak.count = peak.count.max(live.count);
    }

    fn add_sampled(&mut self, entry: Entry) {
        let peak = self.peak.amount();
        let sampled = self.sampled.get_or_insert_with(|| Box::new(Sampled::after(peak)));
        if entry.interval.exponent() > sampled.coarsest.exponent() {
            sampled.coarsest = entry.interval;
        }
        self.allocated.add(entry.seen());
        self.live.add(entry.seen());
        sampled.allocated.add(entry.unseen());
        sampled.live.add(entry.unseen());
        let live = sampled.estimate(sampled.live, self.live);
        sampled.peak = higher(sampled.peak, live);
    }
}

impl Sampled {
    /// After a time in which every block was looked at.
    fn after(peak: Amount) -> Self {
        Self { peak, ..Self::default() }
    }

    fn estimate(&self, unseen: Unseen, seen: Seen) -> Amount {
        unseen.with(seen, self.coarsest).amount()
    }
}

/// The larger of the bytes and the larger of the counts, each with what it was estimated from.
fn higher(peak: Amount, live: Amount) -> Amount {
    let (old, new) = (Spread::of(peak), Spread::of(live));
    let of_bytes = if live.bytes > peak.bytes { new } else { old };
    let of_count = if live.count > peak.count { new } else { old };
    let spread = Spread {
        samples: of_count.samples,
        unseen_count: of_count.unseen_count,
        count_variance: of_count.count_variance,
        unit_bytes: old.unit_bytes.max(new.unit_bytes),
        ..of_bytes
    };
    spread.amount()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_the_largest_live_amount_and_not_the_last() {
        let mut account = Account::default();
        account.allocate(Entry::one(100));
        account.release(Entry::one(100));
        account.allocate(Entry::one(1));
        account.allocate(Entry::one(2));
        assert_eq!(account.stats().peak, Amount::new(100, 2));
        assert_eq!(account.stats().live, Amount::new(3, 2));
    }

    #[test]
    fn what_is_discarded_was_not_freed() {
        let mut account = Account::default();
        account.allocate(Entry::one(100));
        account.discard();
        assert_eq!(account.stats().live, Amount::default());
        assert_eq!(account.stats().freed, Amount::default());
        assert_eq!(account.discarded(), Amount::one(100));
    }

    #[test]
    fn what_is_sampled_is_estimated_and_what_was_exact_stays_in_it() {
        let mut account = Account::default();
        let sampled = Entry { interval: Interval::from_exponent(10), ..Entry::one(16) };
        account.allocate(Entry::one(5000));
        account.release(Entry::one(5000));
        account.allocate(sampled);
        let SiteStats { live, allocated, freed, peak } = account.stats();
        assert_eq!((live.bytes, live.count), (sampled.amount().bytes, sampled.amount().count));
        assert_eq!(freed.bytes, 5000);
        assert_eq!((allocated.bytes, allocated.samples()), (5000 + live.bytes, 2));
        assert_eq!((peak.bytes, peak.count), (5000, live.count));
        account.release(sampled);
        let live = account.live();
        assert_eq!((live.bytes, live.count, live.samples()), (0, 0, 0));
        assert!(!live.is_exact() && live.bytes_bounds().high > 3 << 10);
    }
}
