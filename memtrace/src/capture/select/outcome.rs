//! From the books of a replay to a capture.

use hashbrown::HashMap;

use super::replay::Replayed;
use crate::{
    capture::{Capture, CapturedExtras, CapturedShare, CapturedSite, books},
    ledger::LedgerTotals,
    model::{
        site::{Amount, LiveItem, Site, SiteStats},
        trace::Completeness,
    },
};

/// The whole capture, with what the events tell of its sites.
pub fn with_extras(capture: &Capture, replayed: &Replayed) -> Capture {
    let known = capture.sites.iter().map(site_of).collect();
    let sums = SiteSums::of(replayed, known);
    let extras = sums.extras.into_iter().take(capture.sites.len()).collect();
    Capture { extras, ..capture.clone() }
}

/// What the books hold.
pub fn of_part(capture: &Capture, replayed: &Replayed) -> Capture {
    let sums = SiteSums::of(replayed, Vec::new());
    let ledger = &replayed.ledger;
    let mut selected = Capture {
        live: sums.live(replayed),
        sites: sums.sites(),
        extras: sums.extras,
        ..capture.clone()
    };
    let ending = &mut selected.ending;
    let totals = ledger.totals();
    ending.totals = books::totals(ledger);
    ending.sizes = ledger.sizes().summary();
    ending.lifetimes = ledger.lifetimes().summary();
    // The kernel counted them over the whole window.
    ending.functions = Vec::new();
    ending.completeness = completeness(&ending.completeness, &totals);
    selected
}

fn site_of(site: &CapturedSite) -> Option<Site> {
    Some(Site { stack: site.stack?, function: site.function?, object: site.object })
}

/// The ledger's sites by what they are: those of threads taken together.
#[derive(Default)]
struct SiteSums {
    sites: Vec<Option<Site>>,
    stats: Vec<SiteStats>,
    extras: Vec<CapturedExtras>,
    /// By the ledger's ids.
    places: Vec<u32>,
}

impl SiteSums {
    /// Sites that are known come first, in their order.
    fn of(replayed: &Replayed, known: Vec<Option<Site>>) -> Self {
        let mut place_of: HashMap<_, _> = (0_u32..).zip(&known).map(|(at, it)| (*it, at)).collect();
        let mut sums = Self::default();
        known.into_iter().for_each(|site| sums.add(site, replayed));
        let survivors = replayed.keys.as_ref().map(|_| replayed.survivors()).unwrap_or_default();
        for (id, entry) in replayed.ledger.sites() {
            let (site, tid) = replayed.site(entry.site);
            let place = *place_of.entry(site).or_insert_with(|| {
                sums.add(site, replayed);
                sums.sites.len() as u32 - 1
            });
            sums.places.resize(id.index() + 1, 0);
            sums.places[id.index()] = place;
            let share = tid.map(|tid| {
                let SiteStats { allocated, live, .. } = entry.account.stats();
                let survivors = survivors.get(&(id.index() as u32)).copied().unwrap_or_default();
                CapturedShare { tid, allocated, live, survivors }
            });
            let at_peak = replayed.ledger.at_summit(id);
            sums.join(place as usize, entry.account.stats(), share, at_peak);
        }
        sums.extras.iter_mut().for_each(|it| it.threads.sort_by_key(|share| share.tid));
        sums
    }

    fn add(&mut self, site: Option<Site>, replayed: &Replayed) {
        let of_site = |amounts: &HashMap<Site, Amount>| {
            site.and_then(|site| amounts.get(&site)).copied().unwrap_or_default()
        };
        self.sites.push(site);
        self.stats.push(SiteStats::default());
        self.extras.push(CapturedExtras {
            at_peak: replayed.ledger.summit().map(|_| Amount::default()),
            temporary: replayed.temporary.as_ref().map(of_site),
            threads: Vec::new(),
        });
    }

    /// The peak of threads together is at most the sum of theirs.
    fn join(
        &mut self,
        place: usize,
        stats: SiteStats,
        share: Option<CapturedShare>,
        at_peak: Option<Amount>,
    ) {
        let sum = &mut self.stats[place];
        sum.live += stats.live;
        sum.allocated += stats.allocated;
        sum.freed += stats.freed;
        sum.peak += stats.peak;
        let extras = &mut self.extras[place];
        if let (Some(sum), Some(at_peak)) = (&mut extras.at_peak, at_peak) {
            *sum += at_peak;
        }
        extras.threads.extend(share);
    }

    fn sites(&self) -> Vec<CapturedSite> {
        let site = |(site, stats): (&Option<Site>, &SiteStats)| CapturedSite {
            stack: site.map(|site| site.stack),
            function: site.map(|site| site.function),
            object: site.map(|site| site.object).unwrap_or_default(),
            stats: *stats,
            process: 0,
        };
        self.sites.iter().zip(&self.stats).map(site).collect()
    }

    fn live(&self, replayed: &Replayed) -> Vec<LiveItem> {
        let place =
            |item: LiveItem| Some(LiveItem { site: *self.places.get(item.site as usize)?, ..item });
        let mut live: Vec<LiveItem> = replayed.ledger.live_items().filter_map(place).collect();
        live.sort_unstable_by_key(books::order);
        live
    }
}

impl Replayed {
    /// What a site of the books is, and of which thread.
    fn site(&self, site: Option<Site>) -> (Option<Site>, Option<u32>) {
        let (Some(keys), Some(number)) = (&self.keys, site) else { return (site, None) };
        match keys.pair(number.stack) {
            Some((stack, tid)) => (Some(Site { stack, ..number }), Some(tid)),
            None => (None, None),
        }
    }
}

fn completeness(of_whole: &Completeness, totals: &LedgerTotals) -> Completeness {
    Completeness {
        events: totals.events,
        cut_calls: totals.open_calls,
        forks: totals.forks,
        execs: totals.execs,
        discarded_by_exec: totals.discarded_by_exec,
        ..of_whole.clone()
    }
}
