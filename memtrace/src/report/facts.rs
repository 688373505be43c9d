//! What a capture's live blocks tell of sites and of groups of them: their survivors, and how those
//! came to be.

use hashbrown::HashMap;

use super::{
    build::SiteInput,
    factors::Factors,
    group::{GroupBy, GroupFacts, group_slots},
    profile::{Birth, Births},
};
use crate::{
    analysis::{births, pattern::pattern_as_watched, survivors, watched::Watched},
    capture::Capture,
    model::{
        census::Extent,
        layout::HeapLayout,
        site::{Amount, LiveItem, Survivors},
    },
};

/// The groups whose survivors' pattern is looked for: those with the most bytes. Each takes about
/// 40 KB while it is.
const PATTERNS: usize = 64;

/// The window is cut into so many bins, for when survivors of each site were obtained.
const BINS: u32 = 120;

/// What is live at the end of a window, and since when.
pub(super) struct Survived<'c> {
    live: &'c [LiveItem],
    sites: usize,
    opened_ns: u64,
    closed_ns: u64,
    min_age_ns: u64,
    watched: Watched,
    /// How many times more there is than was seen.
    pub(super) factors: Factors<'c>,
}

impl<'c> Survived<'c> {
    /// What is at least `min_age_ns` old at the end.
    pub(super) fn of(capture: &'c Capture, min_age_ns: u64) -> Self {
        // Whoever allocates nothing needs no watching.
        let endings = capture.endings().into_iter();
        let endings = endings.filter(|it| it.totals.heap.allocated.count > 0);
        Self {
            live: &capture.live,
            sites: capture.sites.len(),
            opened_ns: capture.header.opened_ns,
            closed_ns: capture.ending.closed_ns,
            min_age_ns,
            watched: Watched::of(endings.map(|it| (&it.coverage, it.closed_ns))),
            factors: Factors::of(capture),
        }
    }

    /// Those that are old enough; what names a site that is not there is left out.
    fn items(&self) -> impl Iterator<Item = LiveItem> {
        let is_of_site = |item: &LiveItem| (item.site as usize) < self.sites;
        let is_old = |item: &LiveItem| item.age_ns(self.closed_ns) >= self.min_age_ns;
        self.live.iter().copied().filter(move |item| is_of_site(item) && is_old(item))
    }

    /// What an item stands for.
    fn amount_of(&self, item: &LiveItem) -> Amount {
        item.amount().scaled(self.factors.of_live(item))
    }

    /// Of each site; of those without any, nothing.
    pub(super) fn by_site(&self) -> Vec<Survivors> {
        self.by_slot(|item| item.site as usize, self.sites)
    }

    /// What of each site's is in memory: bytes on resident pages, and blocks that have any.
    pub(super) fn resident(&self, layout: &HeapLayout) -> Vec<Amount> {
        let mut of_sites = vec![Amount::default(); self.sites];
        for item in self.items() {
            let LiveItem { address, bytes, site, interval, .. } = item;
            let extent = Extent { start: address, end: address.saturating_add(bytes) };
            let resident = layout.resident_bytes(extent);
            if resident > 0 {
                of_sites[site as usize] += Amount::sampled_part(resident, bytes, interval)
                    .scaled(self.factors.of_live(&item));
            }
        }
        of_sites
    }

    fn by_slot(&self, slot_of: impl Fn(&LiveItem) -> usize, slots: usize) -> Vec<Survivors> {
        let mut of_slots = vec![Survivors::default(); slots];
        let amount_of = |item: &LiveItem| self.amount_of(item);
        let found = survivors::by_slot(|| self.items(), slot_of, amount_of, slots, self.closed_ns);
        for (slot, found) in found {
            of_slots[slot] = found;
        }
        of_slots
    }

    /// How the window is cut into bins.
    pub(super) fn bins(&self) -> Births {
        let window_ns = self.closed_ns.saturating_sub(self.opened_ns);
        Births { bins: BINS, bin_ns: window_ns / u64::from(BINS) + 1 }
    }

    /// When the survivors of each site were obtained.
    pub(super) fn births(&self) -> Vec<Vec<Birth>> {
        let Births { bins, bin_ns } = self.bins();
        let mut amounts: HashMap<(u32, u32), Amount> = HashMap::new();
        for item in self.items() {
            let bin = item.time_ns.saturating_sub(self.opened_ns) / bin_ns;
            let bin = bin.min(u64::from(bins) - 1) as u32;
            *amounts.entry((item.site, bin)).or_default() += self.amount_of(&item);
        }
        let mut of_sites = vec![Vec::new(); self.sites];
        for ((site, bin), amount) in amounts {
            of_sites[site as usize].push(Birth { bin, amount: amount.plain() });
        }
        of_sites.iter_mut().for_each(|births| births.sort_by_key(|birth| birth.bin));
        of_sites
    }

    /// Of each group, in the order of [`group_slots`].
    pub(super) fn groups(&self, by: GroupBy, sites: &[SiteInput]) -> Vec<GroupFacts> {
        let (slots, count) = group_slots(by, sites);
        let slot_of = |item: &LiveItem| slots[item.site as usize];
        let mut facts: Vec<GroupFacts> = self
            .by_slot(slot_of, count)
            .into_iter()
            .map(|survivors| GroupFacts { survivors, pattern: None })
            .collect();
        let largest = largest(&facts);
        let mut places = vec![None; count];
        for (place, slot) in largest.iter().enumerate() {
            places[*slot] = Some(place);
        }
        let of_largest: Vec<Survivors> =
            largest.iter().map(|slot| facts[*slot].survivors).collect();
        let place_of = |item: &LiveItem| places[slot_of(item)];
        let bursts = births::by_slot(self.items(), place_of, &of_largest, self.closed_ns);
        let to_ns = self.closed_ns.saturating_sub(self.min_age_ns);
        for (slot, bursts) in largest.into_iter().zip(&bursts) {
            let bytes = facts[slot].survivors.amount.bytes;
            let pattern = pattern_as_watched(bursts, self.opened_ns, to_ns, &self.watched, bytes);
            facts[slot].pattern = Some(pattern);
        }
        facts
    }
}

/// The groups with the most bytes, as far as they have any survivors.
fn largest(facts: &[GroupFacts]) -> Vec<usize> {
    let survivors = |slot: usize| facts[slot].survivors.amount;
    let mut slots: Vec<usize> =
        (0..facts.len()).filter(|slot| survivors(*slot).count > 0).collect();
    slots.sort_by_key(|slot| std::cmp::Reverse((survivors(*slot).bytes, survivors(*slot).count)));
    slots.truncate(PATTERNS);
    slots
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        capture::{CapturedSite, Ending, Header},
        model::{
            AllocFn,
            growth::GrowthPattern,
            stack::{Frame, NamedStack},
        },
    };

    const SECOND: u64 = 1_000_000_000;

    /// A minute's window of blocks, each of a site, a time and a size.
    fn capture(sites: usize, blocks: impl Iterator<Item = (u32, u64, u64)>) -> Capture {
        let item = |(site, time_ns, bytes)| {
            let address = time_ns | 1;
            LiveItem { address, bytes, time_ns, site, ..LiveItem::default() }
        };
        Capture {
            header: Header { opened_ns: 0, ..Header::default() },
            sites: vec![CapturedSite::default(); sites],
            live: blocks.map(item).collect(),
            ending: Ending { closed_ns: 60 * SECOND, ..Ending::default() },
            ..Capture::default()
        }
    }

    /// The site of a stack whose only function is `function`.
    fn site(function: &str) -> SiteInput {
        let frame = Frame { function: function.to_owned(), ..Frame::default() };
        SiteInput {
            allocator: None,
            function: Some(AllocFn::Malloc),
            stack: NamedStack { frames: vec![Arc::new(frame)], missing_root: None },
            stats: Default::default(),
            survivors: Survivors::default(),
            extras: Default::default(),
        }
    }

    #[test]
    fn the_survivors_of_a_line_are_told_over_all_of_its_stacks() {
        let steps = (0..6).map(|n| (n % 2, u64::from(n) * 10 * SECOND, 1000));
        let once = (0..3).map(|n| (2, SECOND + n, 7));
        let capture = capture(3, steps.chain(once));
        let survived = Survived::of(&capture, 0);
        let sites = ["load", "load", "init"].map(site);
        let facts = survived.groups(GroupBy::Line, &sites);
        let [load, init] = facts[..] else { panic!("{facts:?}") };
        let interval_ns = 10 * SECOND;
        let expected = GrowthPattern::Steps { count: 6, step_bytes: 1000, interval_ns };
        assert_eq!((load.pattern, load.survivors.amount.count), (Some(expected), 6));
        assert_eq!(init.pattern, Some(GrowthPattern::Once));
        let by_stack = survived.groups(GroupBy::Stack, &sites);
        assert_eq!(by_stack.len(), 2, "names that are equal are one stack");
    }

    #[test]
    fn a_window_without_allocations_has_no_groups() {
        assert_eq!(Survived::of(&capture(0, [].into_iter()), 0).groups(GroupBy::Line, &[]), []);
    }

    #[test]
    fn the_young_are_left_out_and_births_are_told_by_site_and_time() {
        let of_one = [(0, 0, 5), (0, SECOND, 5), (0, 1, 7), (0, 59 * SECOND, 100)];
        let capture = capture(2, of_one.into_iter());
        let survived = Survived::of(&capture, 2 * SECOND);
        let [known, nothing] = survived.by_site()[..] else { panic!("two sites") };
        assert_eq!((known.amount, nothing), (Amount::new(17, 3), Survivors::default()));
        let births = survived.births();
        let bins: Vec<_> = births[0].iter().map(|birth| (birth.bin, birth.amount.bytes)).collect();
        assert_eq!((bins, births[1].len()), (vec![(0, 12), (1, 5)], 0));
    }

    #[test]
    fn blocks_are_in_memory_as_far_as_their_pages_are() {
        let mut capture = capture(3, [(0, 0, 0x1800), (0, 0, 8), (1, 0, 0x3000)].into_iter());
        for (item, address) in capture.live.iter_mut().zip([0x1000, 0x9000, 0x2800]) {
            item.address = address;
        }
        let resident = vec![Extent { start: 0x1000, end: 0x3000 }];
        let layout = HeapLayout { resident, ..HeapLayout::default() };
        let resident = Survived::of(&capture, 0).resident(&layout);
        assert_eq!(resident, [Amount::one(0x1800), Amount::one(0x800), Amount::default()]);
    }

    #[test]
    fn what_names_a_site_that_is_not_there_is_left_out() {
        let capture = capture(1, [(7, 0, 5)].into_iter());
        assert_eq!(Survived::of(&capture, 0).by_site(), [Survivors::default()]);
    }
}
