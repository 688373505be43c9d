//! What each site weighs, by thread as far as that is known.

use std::ops::AddAssign;

use crate::{
    model::site::Amount,
    report::{SiteReport, ThreadShare, View},
};

/// A part of what a site did: that of one thread, or the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::render) struct Sample<'a> {
    /// Whose; `None` where that is not known.
    pub(in crate::render) thread: Option<&'a ThreadShare>,
    /// What was allocated in the window.
    pub(in crate::render) allocated: Amount,
    /// What it weighs in the view.
    pub(in crate::render) held: Amount,
}

impl Sample<'_> {
    /// In the order of [`super::value_types`]. Larger numbers than the formats know are their
    /// largest.
    pub(in crate::render) fn values(&self) -> [i64; 4] {
        let Self { allocated, held, .. } = self;
        [allocated.count, allocated.bytes, held.count, held.bytes]
            .map(|value| i64::try_from(value).unwrap_or(i64::MAX))
    }

    fn is_empty(&self) -> bool {
        self.values() == [0; 4]
    }
}

/// The parts of a site, without empty ones; they add up to the site.
pub(in crate::render) fn samples(site: &SiteReport, view: View) -> Vec<Sample<'_>> {
    let mut rest =
        Sample { thread: None, allocated: site.stats.allocated, held: site.weight(view) };
    let held = held_by_thread(site, view);
    let mut samples = Vec::with_capacity(held.len() + 1);
    for (share, held) in site.threads.iter().zip(held) {
        let allocated = share.allocated;
        rest.allocated = without(rest.allocated, allocated);
        rest.held = without(rest.held, held);
        samples.push(Sample { thread: Some(share), allocated, held });
    }
    samples.push(rest);
    samples.retain(|sample| !sample.is_empty());
    samples
}

/// What each thread obtained of a site's weight, as far as it follows from what is known: a share
/// is at most what the thread obtained, so if these limits add up to the weight they are the
/// shares, and if one thread alone can have obtained it, it did. Otherwise nobody is accused.
fn held_by_thread(site: &SiteReport, view: View) -> Vec<Amount> {
    let weight = site.weight(view);
    let mut limits: Vec<_> = site.threads.iter().map(|share| limit(share, view)).collect();
    if sum(&limits) == weight {
        return limits;
    }
    let is_only = limits.iter().filter(|limit| limit.count > 0).count() == 1;
    for limit in &mut limits {
        *limit = if is_only && limit.count > 0 { weight } else { Amount::default() };
    }
    limits
}

/// The most that a thread can have of a site's weight.
fn limit(share: &ThreadShare, view: View) -> Amount {
    match view {
        View::NeverFreed | View::Live | View::Resident | View::Trapped => share.live,
        View::Freed => without(share.allocated, share.live),
        View::Allocated | View::Peak | View::Temporary => share.allocated,
    }
}

fn without(amount: Amount, part: Amount) -> Amount {
    let bytes = amount.bytes.saturating_sub(part.bytes);
    Amount::new(bytes, amount.count.saturating_sub(part.count))
}

fn sum(amounts: &[Amount]) -> Amount {
    let mut sum = Amount::default();
    amounts.iter().for_each(|amount| sum.add_assign(*amount));
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::site::SiteStats, report::sample};

    fn amount(bytes: u64) -> Amount {
        Amount::new(bytes, u64::from(bytes > 0))
    }

    fn share(tid: u32, allocated: u64, live: u64) -> ThreadShare {
        ThreadShare { allocated: amount(allocated), live: amount(live), ..ThreadShare::none(tid) }
    }

    /// A site that kept `kept` long enough.
    fn site(threads: Vec<ThreadShare>, allocated: u64, kept: u64) -> SiteReport {
        let mut site = sample::leaking().sites.remove(0);
        let count = threads.len() as u64;
        site.stats = SiteStats { allocated: Amount::new(allocated, count), ..SiteStats::default() };
        let kept_count = threads.iter().filter(|it| it.live.count > 0).count() as u64;
        site.survivors.amount = Amount::new(kept, kept_count);
        site.threads = threads;
        site
    }

    fn parts(site: &SiteReport) -> Vec<(Option<u32>, u64, u64)> {
        let part = |it: Sample| (it.thread.map(|it| it.tid), it.allocated.bytes, it.held.bytes);
        samples(site, View::NeverFreed).into_iter().map(part).collect()
    }

    #[test]
    fn each_thread_has_a_sample_of_its_own() {
        let site = site(vec![share(1, 30, 20), share(2, 10, 5)], 40, 25);
        assert_eq!(parts(&site), [(Some(1), 30, 20), (Some(2), 10, 5)]);
    }

    #[test]
    fn what_only_one_thread_can_have_kept_is_its() {
        let site = site(vec![share(1, 30, 20), share(2, 10, 0)], 40, 15);
        assert_eq!(parts(&site), [(Some(1), 30, 15), (Some(2), 10, 0)]);
    }

    #[test]
    fn what_several_threads_can_have_kept_is_nobodys() {
        let site = site(vec![share(1, 30, 20), share(2, 10, 10)], 40, 15);
        assert_eq!(parts(&site), [(Some(1), 30, 0), (Some(2), 10, 0), (None, 0, 15)]);
    }

    #[test]
    fn what_no_thread_is_known_of_stays_in_the_sum() {
        let site = site(vec![share(1, 30, 20)], 100, 20);
        assert_eq!(parts(&site), [(Some(1), 30, 20), (None, 70, 0)]);
    }

    #[test]
    fn what_was_freed_is_known_by_thread() {
        let mut site = site(vec![share(1, 30, 20), share(2, 10, 0)], 40, 20);
        site.stats.freed = Amount::new(20, 1);
        let freed: Vec<_> = samples(&site, View::Freed).iter().map(|it| it.held.bytes).collect();
        assert_eq!(freed, [10, 10]);
    }

    #[test]
    fn numbers_beyond_the_formats_are_their_largest() {
        let sample =
            Sample { thread: None, allocated: Amount::one(u64::MAX), held: Amount::one(7) };
        assert_eq!(sample.values(), [1, i64::MAX, 1, 7]);
    }
}
