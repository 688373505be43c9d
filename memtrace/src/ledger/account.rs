//! The books of one site, or of one family of calls.

use crate::model::site::{Amount, SiteStats};

/// Amounts that always satisfy allocated = live + freed + discarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// What was allocated, freed and is live.
    pub stats: SiteStats,
    /// What was live when an exec threw the address space away.
    pub discarded: Amount,
}

impl Account {
    /// Books a new block or range of this many bytes.
    pub fn allocate(&mut self, bytes: u64) {
        self.add(Amount::one(bytes));
    }

    /// Books bytes that an existing range gained.
    pub fn extend(&mut self, bytes: u64) {
        self.add(Amount { bytes, count: 0 });
    }

    /// Books the release of bytes, and of their block or range when `count` is 1.
    pub fn release(&mut self, released: Amount) {
        self.stats.live -= released;
        self.stats.freed += released;
    }

    /// Books that everything live is gone without having been freed.
    pub fn discard(&mut self) {
        self.discarded += std::mem::take(&mut self.stats.live);
    }

    fn add(&mut self, amount: Amount) {
        let SiteStats { live, allocated, peak, .. } = &mut self.stats;
        *allocated += amount;
        *live += amount;
        peak.bytes = peak.bytes.max(live.bytes);
        peak.count = peak.count.max(live.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_the_largest_live_amount_and_not_the_last() {
        let mut account = Account::default();
        account.allocate(100);
        account.release(Amount::one(100));
        account.allocate(1);
        account.allocate(2);
        assert_eq!(account.stats.peak, Amount { bytes: 100, count: 2 });
        assert_eq!(account.stats.live, Amount { bytes: 3, count: 2 });
    }

    #[test]
    fn what_is_discarded_was_not_freed() {
        let mut account = Account::default();
        account.allocate(100);
        account.discard();
        assert_eq!(account.stats.live, Amount::default());
        assert_eq!(account.stats.freed, Amount::default());
        assert_eq!(account.discarded, Amount::one(100));
    }
}
