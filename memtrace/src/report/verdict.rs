//! From the report's numbers to its verdict.

use crate::{
    analysis::verdict::{RssChange, SitePattern, Traced, TracedSite, VerdictInput, verdict},
    model::{AllocFn, census::Census, verdict::Verdict},
};

use super::{Report, SiteReport};

/// Sites that the verdict looks at; those beyond hold little.
const SITES: usize = 100;

/// The verdict on a report that is complete but for it, and on walks at both ends of its window.
pub(super) fn of(report: &Report, before: Option<Census>, after: Option<Census>) -> Verdict {
    let rss = report.rss;
    verdict(&VerdictInput {
        window_ns: report.window.duration_ns,
        rss: RssChange {
            start_bytes: rss.start_bytes,
            end_bytes: rss.end_bytes,
            start_parts: rss.start_parts,
            end_parts: rss.end_parts,
        },
        timeline: report.timeline.clone(),
        before,
        after,
        traced: Some(traced(report)),
        limit_bytes: rss.limit_bytes,
    })
}

fn traced(report: &Report) -> Traced {
    let totals = &report.totals;
    let completeness = &report.completeness;
    Traced {
        allocated: totals.heap.allocated,
        freed: totals.heap.freed,
        heap_live: totals.heap.live,
        mapped_live: totals.mappings.live,
        allocator_mapped_bytes: totals.allocator_mappings.live.bytes,
        frees_of_older: totals.unmatched_frees,
        sites: report.sites.iter().filter(|it| survives(it)).take(SITES).map(site).collect(),
        complete: completeness.complete,
        frees_may_be_lost: completeness.losses.iter().any(|loss| loss.can_fake_a_survivor),
    }
}

fn survives(site: &SiteReport) -> bool {
    site.survivors.amount.count > 0
}

fn site(site: &SiteReport) -> TracedSite {
    TracedSite {
        name: name(site),
        survivors: site.survivors.amount,
        allocated: site.stats.allocated,
        freed: site.stats.freed,
        maps: maps(site.function),
        pattern: SitePattern::Unknown,
    }
}

/// `function (file:line)` of the frame to look at first.
fn name(site: &SiteReport) -> String {
    let Some(frame) = site.key_frame.and_then(|index| site.stack.frames.get(index)) else {
        return site.function.to_owned();
    };
    let file = frame.file.as_deref().map(|file| file.rsplit('/').next().unwrap_or(file));
    match (file, frame.line) {
        (Some(file), Some(line)) => format!("{} ({file}:{line})", frame.function),
        (Some(file), None) => format!("{} ({file})", frame.function),
        _ => frame.function.clone(),
    }
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
        let named = "Model::load_weights(Path const&) (model.cc:42)";
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
