//! From the report's numbers to its verdict.

use crate::{
    analysis::verdict::{
        Pin, Pins, RssChange, SitePattern, Traced, TracedSite, VerdictInput, verdict,
    },
    model::{AllocFn, growth::GrowthPattern, verdict::Verdict},
};

use super::{
    BlameReport, CulpritKind, CulpritReport, Report, Sampling, SiteReport, Walks,
    frame_name::frame_name,
};

/// Sites that the verdict looks at; those beyond hold little.
const SITES: usize = 100;

/// Stacks that are taken together to those.
const MOST_STACKS: usize = 10_000;

/// A walk that was not the closing one is of the end when it began in the last of so many parts of
/// the window.
const END_PARTS: u64 = 10;

/// The verdict on a report that is complete but for it, and on walks at both ends of its window;
/// `patterns` are those of its sites.
pub(super) fn of(report: &Report, patterns: &[Option<GrowthPattern>], walks: Walks) -> Verdict {
    let rss = report.rss;
    let window_ns = report.window.duration_ns;
    let is_late = walks.at_ns >= window_ns - window_ns / END_PARTS;
    let is_of_the_end = is_late || walks.traced_in_use.is_some();
    verdict(&VerdictInput {
        window_ns,
        rss: RssChange {
            start_bytes: rss.start_bytes,
            end_bytes: rss.end_bytes,
            start_parts: rss.start_parts,
            end_parts: rss.end_parts,
        },
        timeline: report.timeline.clone(),
        before: walks.before,
        after: walks.after.filter(|_| is_of_the_end),
        // Who made it grow is not who holds it.
        traced: report.growth.is_none().then(|| traced(report, patterns)),
        limit_bytes: rss.limit_bytes,
        pins: report.blame.as_ref().map(pins),
    })
}

/// Who pins what is trapped. What the allocator has cached is a verdict of its own.
fn pins(blame: &BlameReport) -> Pins {
    let is_unknown = |it: &&CulpritReport| {
        matches!(it.name.kind, CulpritKind::BeforeAttach | CulpritKind::NotSampled)
    };
    let pin = |it: &CulpritReport| Pin {
        name: it.name.name.clone(),
        trapped_bytes: it.trapped_bytes,
        drop_bytes: it.drop_bytes,
        chunk_bytes: it.chunk_bytes,
        chunks: it.chunks,
    };
    let sites = blame.culprits.iter().filter(|it| it.name.kind == CulpritKind::Site);
    Pins {
        trapped_bytes: blame.trapped_bytes,
        unknown_bytes: blame.culprits.iter().filter(is_unknown).map(|it| it.trapped_bytes).sum(),
        sites: sites.take(SITES).map(pin).collect(),
    }
}

fn traced(report: &Report, patterns: &[Option<GrowthPattern>]) -> Traced {
    let totals = &report.totals;
    let completeness = &report.completeness;
    Traced {
        allocated: totals.heap.allocated,
        freed: totals.heap.freed,
        heap_live: totals.heap.live,
        mapped_live: totals.mappings.live,
        allocator_mapped_bytes: totals.allocator_mappings.live.bytes,
        frees_of_older: totals.unmatched_frees,
        sites: sites(&report.sites, patterns),
        unwatched_percent: report.sampling.as_ref().map_or(0, unwatched_percent),
        complete: completeness.complete,
        frees_may_be_lost: completeness.losses.iter().any(|loss| loss.can_fake_a_survivor),
    }
}

/// The part of the time that probes of a family were not armed.
fn unwatched_percent(sampling: &Sampling) -> u8 {
    ((1.0 - sampling.share()) * 100.0).round() as u8
}

/// Those of one name, as the stacks that lead to a line, are one.
fn sites(sites: &[SiteReport], patterns: &[Option<GrowthPattern>]) -> Vec<TracedSite> {
    let patterns = patterns.iter().copied().chain(std::iter::repeat(None));
    let surviving = sites.iter().zip(patterns).filter(|(it, _)| it.survivors.amount.count > 0);
    let mut joined: Vec<TracedSite> = Vec::new();
    for next in surviving.take(MOST_STACKS).map(|(site, pattern)| self::site(site, pattern)) {
        let is_same = |it: &TracedSite| (&it.name, it.maps) == (&next.name, next.maps);
        match joined.iter().position(is_same) {
            Some(at) => {
                let site = &mut joined[at];
                site.survivors += next.survivors;
                site.allocated += next.allocated;
                site.freed += next.freed;
            }
            None if joined.len() < SITES => joined.push(next),
            None => {}
        }
    }
    joined.sort_by_key(|site| std::cmp::Reverse(site.survivors.bytes));
    joined
}

fn pattern_of(growth: Option<GrowthPattern>) -> SitePattern {
    match growth {
        Some(GrowthPattern::Steps { .. } | GrowthPattern::Steady { .. }) => SitePattern::Growing,
        Some(GrowthPattern::Once) => SitePattern::Bounded,
        Some(GrowthPattern::Lately | GrowthPattern::Uneven | GrowthPattern::Few) | None => {
            SitePattern::Unknown
        }
    }
}

fn site(site: &SiteReport, pattern: Option<GrowthPattern>) -> TracedSite {
    TracedSite {
        name: name(site),
        survivors: site.survivors.amount,
        allocated: site.stats.allocated,
        freed: site.stats.freed,
        maps: maps(site.function),
        pattern: pattern_of(pattern),
    }
}

/// `function (file:line)` of the frame to look at first.
fn name(site: &SiteReport) -> String {
    let frame = site.key_frame.and_then(|index| site.stack.frames.get(index));
    frame.map_or_else(|| site.function.to_owned(), |frame| frame_name(frame))
}

fn maps(function: &str) -> bool {
    AllocFn::ALL.into_iter().any(|it| it.name() == function && it.shape().is_mapping())
}

#[cfg(test)]
mod tests {
    use crate::{model::verdict::VerdictKind, report::sample};

    #[test]
    fn a_leak_is_called_one_and_its_line_is_named() {
        let verdict = sample::leaking().verdict.unwrap();
        assert_eq!(verdict.kind, VerdictKind::Leak);
        let named = "Model::load_weights (model.cc:42)";
        assert!(verdict.headline.contains(named), "{}", verdict.headline);
        let held = verdict.remedies.iter().map(|it| it.expected_bytes).collect::<Vec<_>>();
        assert_eq!(held, [Some(470 << 20)], "the mapping is not the heap's");
    }

    #[test]
    fn lost_frees_make_it_doubtful() {
        let [sure, doubtful] =
            [sample::leaking(), sample::lossy()].map(|it| it.verdict.unwrap().confidence);
        assert!(doubtful.score < sure.score, "{sure:?} {doubtful:?}");
    }

    #[test]
    fn nothing_that_grows_is_nothing() {
        for report in [sample::tidy(), sample::idle()] {
            assert_eq!(report.verdict.unwrap().kind, VerdictKind::NotGrowing);
        }
    }
}
