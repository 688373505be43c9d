//! From a capture to its report.

use hashbrown::HashMap;

use super::{
    BlameReport, GroupBy, GrowthReport, GrowthView, Report, View, allocator,
    arena_pins::ArenaPinsReport,
    build::{ReportInput, SiteInput},
    facts::Survived,
    pin_cells,
    process::processes,
    profile::{Birth, SiteExtras, ThreadShare},
    sampling::{self, Sampling},
    trapped::Trapped,
};
use crate::{
    capture::{Capture, CapturedExtras, CapturedShare, CapturedSite, Header, LossCount, growth},
    model::{
        loss::Loss,
        place::Place,
        size,
        stack::{NamedStack, StackId, UNREADABLE_PYTHON},
        trace::{Completeness, Window},
    },
};

/// How a report is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportOptions {
    /// Blocks younger than this are no survivors; `None`: as the capture says.
    pub min_age_ns: Option<u64>,
    /// What sites are taken together by.
    pub group_by: GroupBy,
    /// What they are weighed by.
    pub view: View,
    /// What of growth, where that was followed.
    pub growth: GrowthView,
    /// With what each site traps, whatever the view.
    pub with_trapped: bool,
    /// Also with what traps memory and is no site, and where in the maps of arenas: for a page that
    /// has all views.
    pub all_that_traps: bool,
}

impl ReportOptions {
    fn wants_trapped(self) -> bool {
        self.with_trapped || self.all_that_traps || self.view == View::Trapped
    }
}

impl Report {
    /// The report of a capture: of one that was just made and of one from a file alike.
    pub fn of(capture: &Capture, options: ReportOptions) -> Self {
        match capture.header.growth {
            None => Self::of_part(capture, options),
            Some(_) => Self::of_part(&growth::only(capture, options.growth), options),
        }
    }

    fn of_part(capture: &Capture, options: ReportOptions) -> Self {
        // Of pages, the one would be that of the samples and the other of no calls.
        let is_growth = capture.header.growth.is_some();
        // At the end it may be more than was asked for at the beginning.
        let usual_ns = capture.header.min_age_ns.max(capture.ending.window.min_age_ns);
        let min_age_ns = options.min_age_ns.unwrap_or(usual_ns);
        let survived = Survived::of(capture, min_age_ns);
        let trapped = match options.wants_trapped() {
            true => Trapped::of(capture),
            false => Trapped::default(),
        };
        let mut sites = sites(capture, &survived, &trapped);
        if options.all_that_traps || options.view == View::Trapped {
            sites.extend(trapped.others);
        }
        let totals = sampling::totals(capture, &sites);
        let ending = &capture.ending;
        let (losses, unknown) = losses(&ending.losses);
        let mut completeness: Completeness = ending.completeness.clone();
        completeness.notes.extend(unknown);
        completeness.notes.extend(unreadable_note(&sites));
        let report = ReportInput {
            target: ending.target.clone(),
            processes: processes(capture, options),
            place: place(&capture.header),
            window: Window { min_age_ns, ..ending.window.clone() },
            selected: capture.selected.clone(),
            rss: ending.rss,
            timeline: capture.timeline.clone(),
            walks: sampling::walks(capture, &totals),
            blame: BlameReport::of(capture, options.group_by),
            arena_pins: ArenaPinsReport::of(capture, options.group_by, &sites),
            pinned_cells: match options.all_that_traps {
                true => pin_cells::of(capture, options.group_by, &sites),
                false => Vec::new(),
            },
            sampling: Sampling::of(capture),
            totals,
            groups: survived.groups(options.group_by, &sites),
            group_by: options.group_by,
            sites,
            growth: GrowthReport::of(capture, options.growth),
            sizes: ending.sizes.filter(|_| !is_growth),
            lifetimes: ending.lifetimes.filter(|_| !is_growth),
            functions: ending.functions.clone(),
            completeness,
            losses,
            unwind_tables: ending.unwind_tables,
            cost: ending.cost.clone(),
            view: options.view,
            births: survived.bins(),
            modules: capture.modules.clone(),
            files: Vec::new(),
        }
        .build();
        Self { incident: ending.incident.clone(), ..report }
    }
}

fn place(header: &Header) -> Place {
    Place::new(header.host.clone(), &header.cgroup, header.limit_bytes)
}

fn sites(capture: &Capture, survived: &Survived, trapped: &Trapped) -> Vec<SiteInput> {
    let stacks: HashMap<StackId, &NamedStack> =
        capture.stacks.iter().map(|(id, stack)| (*id, stack)).collect();
    let name = |id: Option<StackId>| id.and_then(|id| stacks.get(&id)).copied().cloned();
    let allocator_of = |site: &CapturedSite| {
        let own = &capture.ending_of(site).target.allocators;
        site.function.and_then(|_| own.get(site.object.position()).map(allocator::label))
    };
    let layout = capture.layouts.after.as_deref();
    let resident = layout.map(|layout| survived.resident(layout));
    let facts = survived.by_site().into_iter().zip(survived.births());
    let extras = capture.extras.iter().map(Some).chain(std::iter::repeat(None));
    capture
        .sites
        .iter()
        .zip(extras)
        .zip(facts)
        .enumerate()
        .map(|(at, ((site, known), (survivors, births)))| {
            let extras = SiteExtras {
                resident: resident.as_ref().map(|resident| resident[at]),
                trapped: trapped.of_site(at),
                ..extras_of(capture, known, births)
            };
            let input = SiteInput {
                function: site.function,
                allocator: allocator_of(site),
                stack: name(site.stack).unwrap_or_default(),
                stats: site.stats,
                survivors,
                extras,
            };
            let factors = &survived.factors;
            sampling::scaled(input, factors.of_done(at), factors.of_all_live(at))
        })
        .collect()
}

fn extras_of(capture: &Capture, known: Option<&CapturedExtras>, births: Vec<Birth>) -> SiteExtras {
    let Some(known) = known else { return SiteExtras { births, ..SiteExtras::default() } };
    let share = |share: &CapturedShare| ThreadShare {
        tid: share.tid,
        name: capture.thread_name(share.tid),
        allocated: share.allocated,
        live: share.live,
        survivors: share.survivors,
    };
    SiteExtras {
        at_peak: known.at_peak,
        temporary: known.temporary,
        resident: None,
        trapped: None,
        threads: known.threads.iter().map(share).collect(),
        births,
    }
}

/// What a reader must know of survivors whose Python frames were gone before they could be read.
fn unreadable_note(sites: &[SiteInput]) -> Option<String> {
    let survivors = sites.iter().filter(|site| site.survivors.amount.count > 0);
    let is_unreadable = |site: &&SiteInput| {
        site.stack.frames.iter().any(|frame| frame.function == UNREADABLE_PYTHON)
    };
    let bytes: Vec<u64> =
        survivors.filter(is_unreadable).map(|site| site.survivors.amount.bytes).collect();
    (!bytes.is_empty()).then(|| {
        format!(
            "Python frames are unknown in {} of the stacks, with {} never freed: their code (of a \
             module, exec or eval) had run and was freed before its names could be read",
            bytes.len(),
            size::bytes(bytes.iter().sum())
        )
    })
}

/// Those that this version knows, and a note for each of the others.
fn losses(counts: &[LossCount]) -> (Vec<(Loss, u64)>, Vec<String>) {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for LossCount { name, count } in counts {
        match Loss::from_name(name) {
            Some(loss) => known.push((loss, *count)),
            None => unknown.push(format!(
                "{count} losses of a kind that this version of memtrace does not know: {name}"
            )),
        }
    }
    (known, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_known_by_their_names_and_others_are_said() {
        let count = |name: &str| LossCount { name: name.to_owned(), count: 3 };
        let (known, unknown) = losses(&[count("ring_full"), count("of_the_future")]);
        assert_eq!(known, [(Loss::RingFull, 3)]);
        assert!(unknown[0].ends_with("of_the_future"), "{unknown:?}");
    }
}
