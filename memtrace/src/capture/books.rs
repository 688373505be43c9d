//! A ledger's books as a capture keeps them.

use super::{Capture, CapturedSite, KeptEvent};
use crate::{
    ledger::Ledger,
    model::{
        event::Action,
        site::{Amount, LiveItem},
        trace::{Distribution, Totals},
    },
};

/// What a ledger knows of a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Books {
    /// See [`Capture::sites`].
    pub sites: Vec<CapturedSite>,
    /// See [`Capture::live`]; ascending by address.
    pub live: Vec<LiveItem>,
    /// See [`super::Ending::totals`].
    pub totals: Totals,
    /// See [`super::Ending::sizes`].
    pub sizes: Option<Distribution>,
    /// See [`super::Ending::lifetimes`].
    pub lifetimes: Option<Distribution>,
}

impl Books {
    /// As they are at this time; survivors are at least so old.
    pub fn of(ledger: &Ledger, now_ns: u64, min_age_ns: u64) -> Self {
        let mut places = Vec::new();
        let mut sites = Vec::new();
        for (id, entry) in ledger.sites() {
            places.resize(id.index() + 1, sites.len() as u32);
            let (stack, function) =
                (entry.site.map(|it| it.stack), entry.site.map(|it| it.function));
            let object = entry.site.map(|it| it.object).unwrap_or_default();
            sites.push(CapturedSite {
                stack,
                function,
                object,
                stats: entry.account.stats(),
                process: 0,
            });
        }
        let live = live(ledger, |site| places.get(site as usize).copied().unwrap_or_default());
        let old_enough = |it: &&LiveItem| now_ns.saturating_sub(it.time_ns) >= min_age_ns;
        let mut totals = totals(ledger);
        live.iter().filter(old_enough).for_each(|it| totals.survivors += it.amount());
        let (sizes, lifetimes) = (ledger.sizes().summary(), ledger.lifetimes().summary());
        Self { sites, live, totals, sizes, lifetimes }
    }

    /// Puts them into a capture.
    pub fn put_into(self, capture: &mut Capture) {
        let Self { sites, live, totals, sizes, lifetimes } = self;
        (capture.sites, capture.live) = (sites, live);
        capture.ending.totals = totals;
        (capture.ending.sizes, capture.ending.lifetimes) = (sizes, lifetimes);
    }
}

/// Books an event as it was when it was kept.
pub fn apply(ledger: &mut Ledger, kept: &KeptEvent) {
    match kept.event.action {
        Action::Free { address } if kept.is_unseen => {
            ledger.free_unseen_at(address, kept.event.time_ns);
        }
        _ if kept.is_arena => ledger.apply_arena(&kept.event),
        _ => ledger.apply(&kept.event),
    }
}

/// How live records are ordered.
pub(super) fn order(item: &LiveItem) -> impl Ord + use<> {
    (item.address, item.bytes, item.time_ns, item.site)
}

fn live(ledger: &Ledger, place: impl Fn(u32) -> u32) -> Vec<LiveItem> {
    let mut live: Vec<_> =
        ledger.live_items().map(|item| LiveItem { site: place(item.site), ..item }).collect();
    live.sort_unstable_by_key(order);
    live
}

/// The sums of a ledger, but for survivors.
pub(super) fn totals(ledger: &Ledger) -> Totals {
    let totals = ledger.totals();
    Totals {
        heap: totals.heap,
        mappings: totals.mappings,
        allocator_mappings: totals.allocator_mappings,
        pymalloc_arenas: totals.pymalloc_arenas,
        survivors: Amount::default(),
        unmatched_frees: totals.unmatched_frees,
        unmatched_unmapped_bytes: totals.unmatched_unmapped_bytes,
    }
}
