//! Sites as columns, in the order of their stacks in the tree.

use serde::Serialize;

use super::column::Column;
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
    /// The frame to look at first: how many levels above the allocation function; 0 for none.
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
    /// There if it is known of any site.
    #[serde(skip_serializing_if = "Option::is_none")]
    resident: Option<Amounts>,
    /// There if it is known of any site.
    #[serde(skip_serializing_if = "Option::is_none")]
    trapped: Option<Amounts>,
    /// Milliseconds.
    youngest_age: Column,
    /// More than the youngest.
    median_age: Column,
    /// More than the median.
    oldest_age: Column,
    /// How many births there are, and for each: bins since the one before, bytes, blocks.
    births: Column,
}

impl Sites {
    /// Those of a report, with columns for what is known.
    pub(super) fn of<'a>(sites: impl Iterator<Item = &'a SiteReport> + Clone) -> Self {
        let known = |is_known: fn(&SiteReport) -> bool| sites.clone().any(is_known);
        let mut columns = Self {
            peak: known(|site| site.at_peak.is_some()).then(Amounts::default),
            temporary: known(|site| site.temporary.is_some()).then(Amounts::default),
            resident: known(|site| site.resident.is_some()).then(Amounts::default),
            trapped: known(|site| site.trapped.is_some()).then(Amounts::default),
            ..Self::default()
        };
        sites.for_each(|site| columns.push(site));
        columns
    }

    fn push(&mut self, site: &SiteReport) {
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
        if let Some(resident) = &mut self.resident {
            resident.push(site.resident.unwrap_or_default());
        }
        if let Some(trapped) = &mut self.trapped {
            trapped.push(site.trapped.unwrap_or_default());
        }
    }

    fn push_ages(&mut self, survivors: &Survivors) {
        let ms = |age_ns: u64| age_ns / 1_000_000;
        let (youngest, median) = (ms(survivors.youngest_age_ns), ms(survivors.median_age_ns));
        self.youngest_age.push(youngest);
        self.median_age.push(median.saturating_sub(youngest));
        self.oldest_age.push(ms(survivors.oldest_age_ns).saturating_sub(median));
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
