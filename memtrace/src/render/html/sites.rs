//! Sites as columns, in the order of their stacks in the tree.

use serde::Serialize;

use super::{column::Column, tree::Tree};
use crate::{
    model::site::Amount,
    report::{Birth, SiteReport, Survivors},
};

/// Bytes and counts.
#[derive(Debug, Default, Serialize)]
struct Amounts {
    bytes: Column,
    count: Column,
}

impl Amounts {
    fn push(&mut self, amount: Amount) {
        self.bytes.push(amount.bytes);
        self.count.push(amount.count);
    }

    fn push_difference(&mut self, amount: Amount, expected: Amount) {
        self.bytes.push_difference(amount.bytes, expected.bytes);
        self.count.push_difference(amount.count, expected.count);
    }
}

/// All sites.
#[derive(Debug, Default, Serialize)]
pub(super) struct Sites {
    /// The node of the allocation function: how far it is from that of the site before.
    leaf: Column,
    /// The frame to look at first: how many levels above the leaf; 0 for none.
    key: Column,
    never_freed: Amounts,
    allocated: Amounts,
    /// More than was never freed.
    live: Amounts,
    /// More than was allocated and is not live.
    freed: Amounts,
    /// More than is live; there if it is known of any site.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak: Option<Amounts>,
    /// There if it is known of any site.
    #[serde(skip_serializing_if = "Option::is_none")]
    temporary: Option<Amounts>,
    /// Microseconds.
    youngest_age: Column,
    /// More than the youngest.
    median_age: Column,
    /// More than the median.
    oldest_age: Column,
    /// How many births there are, and for each: bins since the one before, bytes, blocks.
    births: Column,
    #[serde(skip)]
    last_leaf: u64,
}

impl Sites {
    /// Those of a report, with columns for what is known.
    pub(super) fn of<'a>(
        sites: impl Iterator<Item = (&'a [u32], &'a SiteReport)> + Clone,
        tree: &mut Tree,
    ) -> Self {
        let known = |is_known: fn(&SiteReport) -> bool| sites.clone().any(|(_, it)| is_known(it));
        let mut columns = Self {
            peak: known(|site| site.at_peak.is_some()).then(Amounts::default),
            temporary: known(|site| site.temporary.is_some()).then(Amounts::default),
            ..Self::default()
        };
        for (stack, site) in sites {
            columns.push(tree.add(stack), site);
        }
        columns
    }

    fn push(&mut self, leaf: u64, site: &SiteReport) {
        self.leaf.push(leaf - self.last_leaf);
        self.last_leaf = leaf;
        self.key.push(site.key_frame.map_or(0, |index| index as u64 + 1));
        self.push_amounts(site);
        self.push_ages(&site.survivors);
        self.push_births(&site.births);
    }

    fn push_amounts(&mut self, site: &SiteReport) {
        let stats = &site.stats;
        let mut gone = stats.allocated;
        gone -= stats.live;
        self.never_freed.push(site.survivors.amount);
        self.allocated.push(stats.allocated);
        self.live.push_difference(stats.live, site.survivors.amount);
        self.freed.push_difference(stats.freed, gone);
        if let Some(peak) = &mut self.peak {
            peak.push_difference(site.at_peak.unwrap_or_default(), stats.live);
        }
        if let Some(temporary) = &mut self.temporary {
            temporary.push(site.temporary.unwrap_or_default());
        }
    }

    fn push_ages(&mut self, survivors: &Survivors) {
        let us = |age_ns: u64| age_ns / 1000;
        let (youngest, median) = (us(survivors.youngest_age_ns), us(survivors.median_age_ns));
        self.youngest_age.push(youngest);
        self.median_age.push(median.saturating_sub(youngest));
        self.oldest_age.push(us(survivors.oldest_age_ns).saturating_sub(median));
    }

    fn push_births(&mut self, births: &[Birth]) {
        self.births.push(births.len() as u64);
        let mut last_bin = 0;
        for birth in births {
            self.births.push(u64::from(birth.bin.saturating_sub(last_bin)));
            self.births.push(birth.amount.bytes);
            self.births.push(birth.amount.count);
            last_bin = birth.bin;
        }
    }
}
