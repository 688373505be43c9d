//! How sure a verdict is: a score by how much its cause explains, lowered by every doubt.

use crate::model::{
    size::{bytes, duration_ns},
    verdict::{Confidence, Level, VerdictKind},
};

use super::{
    attribution::{Part, signed},
    decide::{Finding, is_mostly_freed, top_site, top_sites_are_bounded},
    facts::{Facts, hides_heap},
    shape::Shape,
};

/// From this score on, the confidence is high.
const HIGH: u8 = 75;

/// From this score on, it is medium.
const MEDIUM: u8 = 45;

/// A cause that explains this share explains all.
const ALL: f64 = 0.9;

/// Where nothing has to be explained.
const OBSERVED: f64 = 90.0;

/// Shorter windows prove little.
pub(super) const SHORT_NS: u64 = 10_000_000_000;

/// Growth below that can have many causes.
const SMALL_BYTES: u64 = 4 << 20;

/// Two sources disagree from this share of the growth on.
const DISAGREES: f64 = 0.25;

/// An estimate that can be off by less is good enough.
const WIDE_PERCENT: f64 = 25.0;

/// A doubt, and the points that it costs.
type Doubt = (f64, String);

pub(super) fn confidence(finding: &Finding, facts: &Facts) -> Confidence {
    if finding.kind == VerdictKind::CannotTell {
        return Confidence { level: Level::Low, score: 0, doubts: doubts(finding, facts).1 };
    }
    let (points, doubts) = doubts(finding, facts);
    let score = (base(finding) - points).clamp(0.0, 100.0).round() as u8;
    let level = match score {
        HIGH.. => Level::High,
        MEDIUM.. => Level::Medium,
        _ => Level::Low,
    };
    Confidence { level, score, doubts }
}

fn base(finding: &Finding) -> f64 {
    match finding.kind {
        VerdictKind::CannotTell => 0.0,
        VerdictKind::NotGrowing => OBSERVED,
        _ if !finding.of_growth || finding.part.is_none() => OBSERVED,
        _ => 100.0 * (finding.share / ALL).min(1.0),
    }
}

fn doubts(finding: &Finding, facts: &Facts) -> (f64, Vec<String>) {
    let all = [
        walk_error(finding, facts),
        losses(finding, facts),
        wide_interval(finding, facts),
        unwatched(finding, facts),
        window(finding, facts),
        no_walk(finding, facts),
        heap_hidden(facts),
        disagreement(facts),
        shape_unknown(finding, facts),
        freed(finding, facts),
        patterns(finding, facts),
        hidden_growth(finding, facts),
        small(finding, facts),
    ];
    let (points, doubts): (Vec<f64>, Vec<String>) = all.into_iter().flatten().unzip();
    (points.iter().sum(), doubts)
}

fn walk_error(finding: &Finding, facts: &Facts) -> Option<Doubt> {
    let error = facts.error_bytes();
    let about = if finding.of_growth {
        facts.grown.unsigned_abs()
    } else {
        facts.heap.map_or(0, |heap| heap.walked_bytes())
    };
    let percent = error as f64 * 100.0 / about.max(1) as f64;
    let text =
        || format!("the heap changed while it was walked: sums can be off by {}", bytes(error));
    (percent >= 5.0).then(|| (percent.min(40.0), text()))
}

fn losses(finding: &Finding, facts: &Facts) -> Option<Doubt> {
    let traced = facts.traced().filter(|traced| !traced.complete)?;
    Some(match finding.kind {
        VerdictKind::Leak if traced.frees_may_be_lost => {
            (25.0, "events were lost, perhaps frees of what looks live".to_owned())
        }
        _ => (10.0, "events were lost".to_owned()),
    })
}

/// What probes saw is an estimate that can be far off.
fn wide_interval(finding: &Finding, facts: &Facts) -> Option<Doubt> {
    let traced = facts.traced().filter(|_| rests_on_probes(finding))?;
    let live = top_site(facts).map_or(traced.heap_live, |site| site.survivors);
    let percent = live.bytes_bounds().relative(live.bytes) * 100.0;
    let text = || {
        format!(
            "what is kept is estimated from {} sample{}, within {percent:.0} %",
            live.samples(),
            if live.samples() == 1 { "" } else { "s" },
        )
    };
    (percent >= WIDE_PERCENT).then(|| ((percent / 2.0).min(40.0), text()))
}

/// Most of the time nobody looked.
fn unwatched(finding: &Finding, facts: &Facts) -> Option<Doubt> {
    let percent = facts.traced().filter(|_| rests_on_probes(finding))?.unwatched_percent;
    let text = || {
        format!("allocations were not watched {percent} % of the time, and are taken to be alike")
    };
    (percent >= 50).then(|| (10.0, text()))
}

fn rests_on_probes(finding: &Finding) -> bool {
    matches!(finding.kind, VerdictKind::Leak | VerdictKind::LiveGrowth)
}

fn window(finding: &Finding, facts: &Facts) -> Option<Doubt> {
    let window_ns = facts.input.window_ns;
    let short = finding.of_growth && window_ns > 0 && window_ns < SHORT_NS;
    short.then(|| (15.0, format!("the window is short ({})", duration_ns(window_ns))))
}

/// What is in use and what is free is only known from walks.
fn no_walk(finding: &Finding, facts: &Facts) -> Option<Doubt> {
    if !finding.of_growth || facts.walked_twice() || finding.part.is_none() {
        return None;
    }
    let older = facts.traced().map_or(0, |traced| traced.frees_of_older);
    let allocated = facts.traced().map_or(0, |traced| traced.allocated.count);
    match finding.kind {
        VerdictKind::Fragmentation => {
            Some((50.0, "free memory was concluded from what is not in use, not seen".to_owned()))
        }
        VerdictKind::Leak | VerdictKind::LiveGrowth if older > allocated / 10 => Some((
            15.0,
            "blocks from before the window were freed, too, and their size is not known".to_owned(),
        )),
        _ => None,
    }
}

/// What it holds is taken for something else.
fn heap_hidden(facts: &Facts) -> Option<Doubt> {
    let hidden = facts.input.after.as_ref().is_some_and(hides_heap);
    hidden.then(|| (40.0, "a heap could not be walked, and its memory is in other rows".to_owned()))
}

/// Walks and probes tell of the same memory.
fn disagreement(facts: &Facts) -> Option<Doubt> {
    let traced = facts.traced().filter(|_| facts.walked_twice())?;
    let walked = facts.growth.get(Part::Live);
    let seen = signed(traced.heap_live.bytes);
    let apart = (walked.saturating_sub(seen)).unsigned_abs();
    let explained = seen > walked && traced.frees_of_older > 0;
    let large = apart > facts.noise
        && apart as f64 > DISAGREES * facts.grown.unsigned_abs().max(facts.noise) as f64;
    (large && !explained).then(|| {
        let text = format!(
            "walks and probes disagree: memory in use grew by {}, but {} was seen to be allocated \
             and kept",
            bytes(walked.max(0).unsigned_abs()),
            bytes(traced.heap_live.bytes),
        );
        (30.0, text)
    })
}

fn shape_unknown(finding: &Finding, facts: &Facts) -> Option<Doubt> {
    let asked = matches!(finding.kind, VerdictKind::Leak | VerdictKind::LiveGrowth);
    let unknown = asked && facts.shape == Shape::Unknown;
    unknown.then(|| (10.0, "there are too few samples to see how it grows".to_owned()))
}

fn freed(finding: &Finding, facts: &Facts) -> Option<Doubt> {
    let site = top_site(facts).filter(|site| is_mostly_freed(site))?;
    let text = || format!("most of what {} allocated was freed", site.name);
    (finding.kind == VerdictKind::Leak).then(|| (15.0, text()))
}

/// The line of the whole and the lines of its sites.
fn patterns(finding: &Finding, facts: &Facts) -> Option<Doubt> {
    let goes_on = matches!(facts.shape, Shape::Steps { .. } | Shape::Slope);
    let asked = matches!(finding.kind, VerdictKind::LiveGrowth) && finding.part.is_some();
    (asked && goes_on && top_sites_are_bounded(facts)).then(|| {
        (20.0, "the largest sites seem to be bounded, but memory in use still grows".to_owned())
    })
}

/// RSS does not grow as long as there is free memory in the heap.
fn hidden_growth(finding: &Finding, facts: &Facts) -> Option<Doubt> {
    let live = hidden_live(finding, facts)?;
    Some((20.0, format!("{} was allocated and kept, in memory that was there", bytes(live))))
}

/// What was allocated and kept without a growth of RSS, if that is much.
pub(super) fn hidden_live(finding: &Finding, facts: &Facts) -> Option<u64> {
    let asked = finding.kind == VerdictKind::NotGrowing;
    let live = match (facts.walked_twice(), facts.traced()) {
        (true, _) => facts.growth.get(Part::Live).max(0).unsigned_abs(),
        (false, Some(traced)) => traced.heap_live.bytes,
        (false, None) => 0,
    };
    (asked && live > facts.noise.saturating_mul(4)).then_some(live)
}

fn small(finding: &Finding, facts: &Facts) -> Option<Doubt> {
    let small = finding.of_growth && facts.grew() && facts.grown.unsigned_abs() < SMALL_BYTES;
    small.then(|| (15.0, "the growth is small".to_owned()))
}
