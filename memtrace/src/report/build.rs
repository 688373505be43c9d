//! From what a session gathered to the report.

use std::cmp::Reverse;

use hashbrown::HashMap;

use crate::{
    capture::Selected,
    model::{
        AllocFn,
        cost::Cost,
        growth::GrowthPattern,
        incident::Incident,
        loss::Loss,
        place::Place,
        site::{Amount, SiteStats, Survivors},
        stack::NamedStack,
        timeline::Timeline,
    },
};

use super::{
    ArenaPinsReport, BlameReport, Completeness, Distribution, FunctionReport, GrowthReport,
    HeapReport, LossReport, Module, PinnedCells, ProcessReport, Report, Rss, SCHEMA, SiteReport,
    Target, Totals, UnwindTables, Walks, Window, allocator,
    group::{self, Caller, GroupBy, GroupFacts, GroupReport, slots_of_places},
    key_frame::key_frame,
    process,
    profile::{Births, SiteExtras, View, threads},
    sampling::Sampling,
    site_function,
    stacks::StackNumbers,
    summary, verdict,
};

/// What a session gathered.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportInput {
    /// Who was traced.
    pub target: Target,
    /// The processes, where there are several.
    pub processes: Vec<ProcessReport>,
    /// Where it ran.
    pub place: Place,
    /// When, how long, why it ended.
    pub window: Window,
    /// Which part of it this is.
    pub selected: Selected,
    /// The kernel's view of the target's memory.
    pub rss: Rss,
    /// How memory went in between.
    pub timeline: Timeline,
    /// Walks of the heap at both ends.
    pub walks: Walks,
    /// Who keeps free memory from being given back.
    pub blame: Option<BlameReport>,
    /// Who keeps CPython's arenas, where that is known.
    pub arena_pins: Option<ArenaPinsReport>,
    /// Where the blocks lie that keep the most free memory.
    pub pinned_cells: Vec<PinnedCells>,
    /// What numbers are estimates of; `None` where they are none.
    pub sampling: Option<Sampling>,
    /// Sums over all sites. `survivors` is ignored: it is summed over `sites`.
    pub totals: Totals,
    /// In any order; more than one may have the same function and names.
    pub sites: Vec<SiteInput>,
    /// What sites are taken together by.
    pub group_by: GroupBy,
    /// What is known of the groups, in the order of [`super::group_slots`]; of those that are not in it,
    /// only what follows from their sites.
    pub groups: Vec<GroupFacts>,
    /// What grew, where that was followed.
    pub growth: Option<GrowthReport>,
    /// Requested bytes per heap block.
    pub sizes: Option<Distribution>,
    /// Nanoseconds from allocation to free.
    pub lifetimes: Option<Distribution>,
    /// Calls by function.
    pub functions: Vec<FunctionReport>,
    /// `complete` and `losses` are ignored: they follow from `losses` below.
    pub completeness: Completeness,
    /// Every loss and how often it happened; those that did not happen may be in it.
    pub losses: Vec<(Loss, u64)>,
    /// What stacks were walked by.
    pub unwind_tables: Option<UnwindTables>,
    /// What sites are weighed by.
    pub view: View,
    /// How the window is cut into the bins of births.
    pub births: Births,
    /// The objects that stacks lead through.
    pub modules: Vec<Module>,
    /// What it cost the target.
    pub cost: Option<Cost>,
    /// Files written.
    pub files: Vec<String>,
}

/// One site of the ledger, with the names of its stack.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteInput {
    /// The function that the stack calls; `None` for the sites that found no room.
    pub function: Option<AllocFn>,
    /// Whose function that is; `None` where it is not known.
    pub allocator: Option<String>,
    /// Leaf first.
    pub stack: NamedStack,
    /// Accounting over the window.
    pub stats: SiteStats,
    /// Live blocks that are old enough.
    pub survivors: Survivors,
    /// What else is known.
    pub extras: SiteExtras,
}

impl ReportInput {
    /// The finished report.
    pub fn build(self) -> Report {
        let allocators = allocator::totals(&self.sites);
        let places = Places::of(self.group_by, &self.sites);
        let sites = sites(self.view, self.sites, &places);
        let groups = groups(self.view, self.group_by, &sites, &self.groups);
        let patterns = patterns(&sites, &self.groups);
        let sites: Vec<SiteReport> = sites.into_iter().map(|(_, site)| site).collect();
        let mut report = Report {
            schema: SCHEMA,
            target: self.target,
            processes: self.processes,
            place: self.place,
            window: self.window,
            selection: self.selected.what,
            incident: Incident::default(),
            rss: self.rss,
            rss_table: self.walks.after.as_ref().map(|census| census.rss.clone()),
            rss_table_before: self.walks.before.as_ref().map(|census| census.rss.clone()),
            heap: HeapReport::of(&self.walks),
            blame: self.blame,
            arena_pins: self.arena_pins,
            pinned_cells: self.pinned_cells,
            timeline: self.timeline,
            verdict: None,
            sampling: self.sampling,
            totals: self.totals,
            growth: self.growth,
            allocators,
            threads: threads(sites.iter().flat_map(|site| &site.threads)),
            summary: Vec::new(),
            grouped_by: self.group_by,
            groups,
            view: self.view,
            sites,
            births: self.births,
            modules: self.modules,
            sizes: self.sizes,
            lifetimes: self.lifetimes,
            functions: self.functions,
            completeness: completeness(self.completeness, &self.losses),
            unwind_tables: self.unwind_tables,
            cost: self.cost,
            files: self.files,
        };
        report.totals.survivors = survivors(&report.sites);
        if report.processes.len() > 1 {
            report.summary = summary::of_processes(&report.processes);
            report.verdict = process::verdict(&report.processes);
        } else if !self.selected.is_slice {
            report.summary = summary::sentences(&report);
            report.verdict = Some(verdict::of(&report, &patterns, self.walks));
        }
        report
    }
}

/// How each site's group came to be.
fn patterns(sites: &[(usize, SiteReport)], facts: &[GroupFacts]) -> Vec<Option<GrowthPattern>> {
    sites.iter().map(|(slot, _)| facts.get(*slot)?.pattern).collect()
}

fn survivors(sites: &[SiteReport]) -> Amount {
    let mut sum = Amount::default();
    for site in sites {
        sum += site.survivors.amount;
    }
    sum
}

/// Where sites belong, one for each.
struct Places {
    key_frames: Vec<Option<usize>>,
    /// Which are one site: equal for sites of equal names.
    merged: Vec<usize>,
    /// Its group, of which all that are merged are.
    slots: Vec<usize>,
}

impl Places {
    fn of(by: GroupBy, sites: &[SiteInput]) -> Self {
        let key_frames: Vec<_> = sites.iter().map(|site| key_frame(&site.stack.frames)).collect();
        let numbers = StackNumbers::of(sites.iter().map(|site| &site.stack));
        let places = sites.iter().zip(&numbers).zip(&key_frames);
        let places = places.map(|((site, number), key_frame)| Caller {
            allocator: site_function(site.function),
            stack: &site.stack,
            number: *number,
            key_frame: *key_frame,
        });
        let (slots, _) = slots_of_places(by, places);
        Self { merged: merged(sites, &numbers), key_frames, slots }
    }
}

/// Numbers in the order of first appearance.
fn merged(sites: &[SiteInput], stacks: &[u32]) -> Vec<usize> {
    let mut known = HashMap::new();
    let merged = sites.iter().zip(stacks).map(|(site, stack)| {
        let next = known.len();
        *known.entry((*stack, site.function, site.allocator.as_deref())).or_insert(next)
    });
    merged.collect()
}

/// Merged by function and names (one line of source can hold several calls), largest first; the
/// names decide between equals, so that equal input gives equal output. Each with its group.
fn sites(view: View, input: Vec<SiteInput>, places: &Places) -> Vec<(usize, SiteReport)> {
    let mut sites: Vec<(usize, SiteReport)> = Vec::with_capacity(input.len());
    for (index, site) in input.into_iter().enumerate() {
        match sites.get_mut(places.merged[index]) {
            Some((_, known)) => join(known, site),
            None => sites.push((places.slots[index], site_report(site, places.key_frames[index]))),
        }
    }
    for (_, site) in &mut sites {
        site.threads.sort_by_key(|share| (Reverse(share.allocated.bytes), share.tid));
    }
    sorted(sites, |(_, site)| importance(site.weight(view), &site.stats))
}

/// By the key, and by the names where that is equal. What is sorted are numbers: sites are large.
fn sorted<K: Ord>(
    sites: Vec<(usize, SiteReport)>,
    key: impl Fn(&(usize, SiteReport)) -> K,
) -> Vec<(usize, SiteReport)> {
    let names = |at: usize| {
        let (_, site) = &sites[at];
        (&site.stack, site.function, &site.allocator)
    };
    let mut order: Vec<(K, usize)> = sites.iter().map(key).zip(0..).collect();
    order.sort_unstable_by(|(one, one_at), (other, other_at)| {
        one.cmp(other).then_with(|| names(*one_at).cmp(&names(*other_at)))
    });
    let mut sites: Vec<Option<_>> = sites.into_iter().map(Some).collect();
    order.into_iter().filter_map(|(_, at)| sites[at].take()).collect()
}

fn site_report(site: SiteInput, key_frame: Option<usize>) -> SiteReport {
    let SiteExtras { at_peak, temporary, resident, trapped, threads, births } = site.extras;
    SiteReport {
        function: site_function(site.function),
        allocator: site.allocator,
        key_frame,
        stack: site.stack,
        stats: site.stats,
        survivors: site.survivors,
        at_peak,
        temporary,
        resident,
        trapped,
        threads,
        births,
    }
}

/// Adds a site of equal names.
fn join(sum: &mut SiteReport, other: SiteInput) {
    add_stats(&mut sum.stats, &other.stats);
    sum.survivors = joined(sum.survivors, other.survivors);
    let mut extras = SiteExtras {
        at_peak: sum.at_peak,
        temporary: sum.temporary,
        resident: sum.resident,
        trapped: sum.trapped,
        threads: std::mem::take(&mut sum.threads),
        births: std::mem::take(&mut sum.births),
    };
    extras.join(other.extras);
    (sum.at_peak, sum.temporary) = (extras.at_peak, extras.temporary);
    (sum.resident, sum.trapped) = (extras.resident, extras.trapped);
    (sum.threads, sum.births) = (extras.threads, extras.births);
}

/// What is listed first: the largest weight, then the most traffic.
fn importance(weight: Amount, stats: &SiteStats) -> impl Ord + use<> {
    Reverse((weight.bytes, weight.count, stats.allocated.bytes))
}

fn groups(
    view: View,
    by: GroupBy,
    sites: &[(usize, SiteReport)],
    facts: &[GroupFacts],
) -> Vec<GroupReport> {
    let count = sites.iter().map(|(slot, _)| slot + 1).max().unwrap_or_default();
    let mut by_slot: Vec<Option<GroupReport>> = vec![None; count];
    for (index, (slot, site)) in sites.iter().enumerate() {
        let of_site = group::of_site(view, by, site, index);
        match &mut by_slot[*slot] {
            none @ None => *none = Some(of_site),
            Some(group) => {
                add_stats(&mut group.stats, &of_site.stats);
                group.survivors = joined(group.survivors, of_site.survivors);
                group.weight += of_site.weight;
                group.sites += of_site.sites;
            }
        }
    }
    for (group, known) in by_slot.iter_mut().zip(facts) {
        if let Some(group) = group {
            (group.survivors, group.pattern) = (known.survivors, known.pattern);
            if view == View::NeverFreed {
                group.weight = known.survivors.amount;
            }
        }
    }
    let mut groups: Vec<GroupReport> = by_slot.into_iter().flatten().collect();
    groups.sort_by_cached_key(|group| (importance(group.weight, &group.stats), group.largest_site));
    groups
}

fn add_stats(sum: &mut SiteStats, other: &SiteStats) {
    sum.live += other.live;
    sum.allocated += other.allocated;
    sum.freed += other.freed;
    sum.peak += other.peak;
}

/// The medians of two parts are not known from theirs: those of the part with more blocks stand for
/// both.
fn joined(one: Survivors, other: Survivors) -> Survivors {
    let (mut larger, smaller) =
        if one.amount.count >= other.amount.count { (one, other) } else { (other, one) };
    if smaller.amount.count > 0 {
        larger.amount += smaller.amount;
        larger.oldest_age_ns = larger.oldest_age_ns.max(smaller.oldest_age_ns);
        larger.youngest_age_ns = larger.youngest_age_ns.min(smaller.youngest_age_ns);
        larger.smallest_bytes = larger.smallest_bytes.min(smaller.smallest_bytes);
        larger.largest_bytes = larger.largest_bytes.max(smaller.largest_bytes);
    }
    larger
}

fn completeness(input: Completeness, losses: &[(Loss, u64)]) -> Completeness {
    let happened = losses.iter().filter(|(_, count)| *count > 0);
    let losses: Vec<LossReport> =
        happened.map(|(loss, count)| loss_report(*loss, *count)).collect();
    Completeness { complete: losses.is_empty(), losses, ..input }
}

fn loss_report(loss: Loss, count: u64) -> LossReport {
    LossReport {
        name: loss.name().into(),
        count,
        sentence: loss.sentence().into(),
        can_fake_a_survivor: loss.can_fake_a_survivor(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn amount(bytes: u64, count: u64) -> Amount {
        Amount::new(bytes, count)
    }

    fn site(function: &'static str, bytes: u64, count: u64, ages: [u64; 3]) -> SiteInput {
        SiteInput {
            allocator: None,
            function: Some(AllocFn::Malloc),
            stack: sample::stack(&[(function, "app", None)], None),
            stats: SiteStats {
                live: amount(bytes, count),
                allocated: amount(bytes, count),
                freed: Amount::default(),
                peak: amount(bytes, count),
            },
            survivors: Survivors {
                amount: amount(bytes, count),
                oldest_age_ns: ages[0],
                median_age_ns: ages[1],
                youngest_age_ns: ages[2],
                smallest_bytes: bytes / count.max(1),
                median_bytes: bytes / count.max(1),
                largest_bytes: bytes / count.max(1),
            },
            extras: SiteExtras::default(),
        }
    }

    fn sites(input: Vec<SiteInput>) -> Vec<SiteReport> {
        let places = Places::of(GroupBy::Line, &input);
        super::sites(View::NeverFreed, input, &places).into_iter().map(|(_, site)| site).collect()
    }

    #[test]
    fn sites_of_equal_names_are_one_site() {
        let merged = sites(vec![
            site("load", 10, 1, [9, 9, 9]),
            site("load", 20, 3, [50, 40, 30]),
            site("load", 0, 0, [0, 0, 0]),
        ]);
        let [only] = &merged[..] else { panic!("{merged:?}") };
        assert_eq!(only.survivors.amount, amount(30, 4));
        assert_eq!(only.stats.peak, amount(30, 4));
        let ages = &only.survivors;
        let ages = (ages.oldest_age_ns, ages.median_age_ns, ages.youngest_age_ns);
        assert_eq!(ages, (50, 40, 9));
    }

    #[test]
    fn sites_of_different_functions_stay_apart() {
        let mut other = site("load", 10, 1, [1, 1, 1]);
        other.function = Some(AllocFn::Calloc);
        assert_eq!(sites(vec![site("load", 10, 1, [1, 1, 1]), other]).len(), 2);
    }

    #[test]
    fn the_largest_survivors_come_first_and_then_the_largest_traffic() {
        let mut busy = site("busy", 0, 0, [0, 0, 0]);
        busy.stats.allocated = amount(1 << 40, 9);
        let sorted = sites(vec![
            site("idle", 0, 0, [0, 0, 0]),
            busy,
            site("small", 10, 1, [1, 1, 1]),
            site("large", 20, 1, [1, 1, 1]),
        ]);
        let names: Vec<_> = sorted.iter().map(|site| &*site.stack.frames[0].function).collect();
        assert_eq!(names, ["large", "small", "busy", "idle"]);
    }

    #[test]
    fn a_group_has_the_sum_of_its_sites_and_leads_to_the_largest() {
        let mut input = sample::leaking_input();
        (input.groups, input.group_by) = (Vec::new(), GroupBy::Module);
        input.sites.iter_mut().for_each(|site| site.function = Some(AllocFn::Malloc));
        let report = input.build();
        let [server, plugin] = &report.groups[..] else { panic!("{:?}", report.groups) };
        assert_eq!((server.module.as_str(), server.function.as_ref()), ("model-server", None));
        assert_eq!((server.sites, server.largest_site), (3, 0));
        let sum = server.survivors.amount.bytes + plugin.survivors.amount.bytes;
        assert_eq!(sum, report.totals.survivors.bytes);
        assert_eq!(plugin.stats, report.sites[plugin.largest_site].stats);
    }

    #[test]
    fn what_is_known_of_a_group_goes_before_what_follows_from_its_sites() {
        let mut input = sample::leaking_input();
        let known = Survivors { median_age_ns: 7, ..input.sites[1].survivors };
        input.groups = vec![GroupFacts::default(); input.sites.len()];
        input.groups[1] = GroupFacts { survivors: known, pattern: Some(GrowthPattern::Once) };
        let group = &input.build().groups[0];
        assert_eq!((group.survivors, group.pattern), (known, Some(GrowthPattern::Once)));
    }

    #[test]
    fn survivors_are_the_sum_over_the_sites() {
        let mut input = sample::leaking_input();
        input.totals.survivors = amount(1, 1);
        let expected = input.sites.iter().map(|site| site.survivors.amount.bytes).sum::<u64>();
        assert_eq!(input.build().totals.survivors.bytes, expected);
    }

    #[test]
    fn a_report_is_complete_when_no_loss_happened() {
        let mut input = sample::leaking_input();
        input.losses = vec![(Loss::RingFull, 0)];
        assert!(input.clone().build().completeness.complete);
        input.losses = vec![(Loss::RingFull, 0), (Loss::Unpaired, 2)];
        let completeness = input.build().completeness;
        assert!(!completeness.complete);
        assert_eq!(completeness.losses.len(), 1);
        assert_eq!((&*completeness.losses[0].name, completeness.losses[0].count), ("unpaired", 2));
    }
}
