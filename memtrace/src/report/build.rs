//! From what a session gathered to the report.

use std::collections::BTreeMap;

use crate::model::{
    AllocFn,
    census::Census,
    loss::Loss,
    site::{Amount, SiteStats, Survivors},
    stack::NamedStack,
    timeline::Timeline,
};

use super::{
    Completeness, Distribution, FunctionReport, LossReport, OTHER_SITES, Report, Rss, SCHEMA,
    SiteReport, Target, Totals, UnwindTables, Window, key_frame::key_frame, summary, verdict,
};

/// What a session gathered.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportInput {
    /// Who was traced.
    pub target: Target,
    /// When, how long, why it ended.
    pub window: Window,
    /// The kernel's view of the target's memory.
    pub rss: Rss,
    /// How memory went in between.
    pub timeline: Timeline,
    /// A walk of the heap near the start.
    pub before: Option<Census>,
    /// A walk of the heap near the end.
    pub after: Option<Census>,
    /// Sums over all sites. `survivors` is ignored: it is summed over `sites`.
    pub totals: Totals,
    /// In any order; more than one may have the same function and names.
    pub sites: Vec<SiteInput>,
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
    /// Files written.
    pub files: Vec<String>,
}

/// One site of the ledger, with the names of its stack.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteInput {
    /// The function that the stack calls; `None` for the sites that found no room.
    pub function: Option<AllocFn>,
    /// Leaf first.
    pub stack: NamedStack,
    /// Accounting over the window.
    pub stats: SiteStats,
    /// Live blocks that are old enough.
    pub survivors: Survivors,
}

impl ReportInput {
    /// The finished report.
    pub fn build(self) -> Report {
        let mut report = Report {
            schema: SCHEMA,
            target: self.target,
            window: self.window,
            rss: self.rss,
            timeline: self.timeline,
            verdict: None,
            totals: self.totals,
            summary: Vec::new(),
            sites: sites(self.sites),
            sizes: self.sizes,
            lifetimes: self.lifetimes,
            functions: self.functions,
            completeness: completeness(self.completeness, &self.losses),
            unwind_tables: self.unwind_tables,
            files: self.files,
        };
        report.totals.survivors = survivors(&report.sites);
        report.summary = summary::sentences(&report);
        report.verdict = Some(verdict::of(&report, self.before, self.after));
        report
    }
}

fn survivors(sites: &[SiteReport]) -> Amount {
    let mut sum = Amount::default();
    for site in sites {
        sum += site.survivors.amount;
    }
    sum
}

/// Merged by function and names (one line of source can hold several calls), largest first; the
/// names decide between equals, so that equal input gives equal output.
fn sites(input: Vec<SiteInput>) -> Vec<SiteReport> {
    let mut merged: BTreeMap<(NamedStack, &'static str), (SiteStats, Survivors)> = BTreeMap::new();
    for site in input {
        let function = site.function.map_or(OTHER_SITES, AllocFn::name);
        let (stats, survivors) = merged.entry((site.stack, function)).or_default();
        add_stats(stats, &site.stats);
        *survivors = joined(*survivors, site.survivors);
    }
    let mut sites: Vec<SiteReport> = merged
        .into_iter()
        .map(|((stack, function), (stats, survivors))| SiteReport {
            function,
            key_frame: key_frame(&stack.frames),
            stack,
            stats,
            survivors,
        })
        .collect();
    sites.sort_by_key(|site| {
        std::cmp::Reverse((
            site.survivors.amount.bytes,
            site.survivors.amount.count,
            site.stats.allocated.bytes,
        ))
    });
    sites
}

fn add_stats(sum: &mut SiteStats, other: &SiteStats) {
    sum.live += other.live;
    sum.allocated += other.allocated;
    sum.freed += other.freed;
    sum.peak += other.peak;
}

/// The median of two parts is not known from theirs: that of the part with more blocks stands for
/// both.
fn joined(one: Survivors, other: Survivors) -> Survivors {
    let (mut larger, smaller) =
        if one.amount.count >= other.amount.count { (one, other) } else { (other, one) };
    if smaller.amount.count > 0 {
        larger.amount += smaller.amount;
        larger.oldest_age_ns = larger.oldest_age_ns.max(smaller.oldest_age_ns);
        larger.youngest_age_ns = larger.youngest_age_ns.min(smaller.youngest_age_ns);
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
        name: loss.name(),
        count,
        sentence: loss.sentence(),
        can_fake_a_survivor: loss.can_fake_a_survivor(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn amount(bytes: u64, count: u64) -> Amount {
        Amount { bytes, count }
    }

    fn site(function: &'static str, bytes: u64, count: u64, ages: [u64; 3]) -> SiteInput {
        SiteInput {
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
            },
        }
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
        assert_eq!((completeness.losses[0].name, completeness.losses[0].count), ("unpaired", 2));
    }
}
