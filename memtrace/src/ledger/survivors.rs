//! What is left at the end, by site, and how old it is.

use super::sites::SiteId;
use crate::model::site::{Amount, Survivors};

/// Something live.
#[derive(Clone, Copy, Debug)]
pub struct LiveItem {
    /// Who obtained it.
    pub site: SiteId,
    /// Bytes that are left of it.
    pub bytes: u64,
    /// When it was obtained, `CLOCK_MONOTONIC`.
    pub time_ns: u64,
}

impl LiveItem {
    fn age_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.time_ns)
    }
}

/// Sums up, by site, what is at least `min_age_ns` old; `site_count` is above every site's index.
///
/// `items` is asked for twice, so that the ages can be sorted into one array by site: 8 bytes a
/// survivor, whatever the number of sites.
pub fn by_site<Items: Iterator<Item = LiveItem>>(
    items: impl Fn() -> Items,
    site_count: usize,
    now_ns: u64,
    min_age_ns: u64,
) -> Vec<(SiteId, Survivors)> {
    let old_enough = || items().filter(|item| item.age_ns(now_ns) >= min_age_ns);
    let groups = sum_up(old_enough(), site_count);
    let mut ages = sort_by_site(old_enough(), &groups, now_ns);
    let mut rest = ages.as_mut_slice();
    let mut result = Vec::new();
    for group in groups.iter().filter(|group| group.amount.count > 0) {
        let (of_site, others) = rest.split_at_mut(group.amount.count as usize);
        rest = others;
        result.push((group.site, describe(group.amount, of_site)));
    }
    result
}

/// The survivors of one site.
#[derive(Clone, Copy, Default)]
struct Group {
    site: SiteId,
    amount: Amount,
}

fn sum_up(items: impl Iterator<Item = LiveItem>, site_count: usize) -> Vec<Group> {
    let mut groups = vec![Group::default(); site_count];
    for item in items {
        let group = &mut groups[item.site.index()];
        group.site = item.site;
        group.amount += Amount::one(item.bytes);
    }
    groups
}

/// The ages of all items, those of the first site first.
fn sort_by_site(items: impl Iterator<Item = LiveItem>, groups: &[Group], now_ns: u64) -> Vec<u64> {
    let mut next = Vec::with_capacity(groups.len());
    let mut total = 0;
    for group in groups {
        next.push(total);
        total += group.amount.count as usize;
    }
    let mut ages = vec![0; total];
    for item in items {
        let at = &mut next[item.site.index()];
        ages[*at] = item.age_ns(now_ns);
        *at += 1;
    }
    ages
}

/// `ages` is not empty; of an even number of ages, the median is the lower middle one.
fn describe(amount: Amount, ages: &mut [u64]) -> Survivors {
    let middle = (ages.len() - 1) / 2;
    let (younger, median_age_ns, older) = ages.select_nth_unstable(middle);
    let median_age_ns = *median_age_ns;
    Survivors {
        amount,
        oldest_age_ns: older.iter().copied().max().unwrap_or(median_age_ns),
        median_age_ns,
        youngest_age_ns: younger.iter().copied().min().unwrap_or(median_age_ns),
    }
}
