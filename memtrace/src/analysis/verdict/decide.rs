//! Which verdict.

use crate::model::verdict::VerdictKind;

use super::{
    attribution::{Attribution, Part, signed},
    facts::{Facts, HeapState, hides_heap, share},
    input::{SitePattern, TracedSite},
    shape::Shape,
};

/// A cause explains growth when it is at least this share of it.
pub(super) const EXPLAINS: f64 = 0.5;

/// A heap is fragmented when at least this share of its resident memory is trapped.
pub(super) const TRAPPED: f64 = 0.3;

/// The same for what the allocator could give back.
const KEPT: f64 = 0.3;

/// What is less than this share of RSS is not what RSS is about.
const MATTERS: f64 = 0.1;

/// At one look: memory outside of the heap is what RSS is about from this share on.
const OUTSIDE: f64 = 0.6;

/// RSS went up and came back when it rose by this share of its start, ...
const CAME_BACK: f64 = 0.1;

/// ... and by the noise times that.
const CAME_BACK_NOISES: u64 = 8;

/// A verdict, and by what it was reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Finding {
    pub(super) kind: VerdictKind,
    /// The part of RSS that it is about.
    pub(super) part: Option<Part>,
    /// How much of the growth, or of the heap, that is.
    pub(super) share: f64,
    /// It is about growth; otherwise about how memory is at the end.
    pub(super) of_growth: bool,
}

impl Finding {
    fn growth(kind: VerdictKind, part: Part, share: f64) -> Self {
        Self { kind, part: Some(part), share, of_growth: true }
    }

    fn state(kind: VerdictKind, part: Part, share: f64) -> Self {
        Self { kind, part: Some(part), share, of_growth: false }
    }

    fn cannot_tell() -> Self {
        Self { kind: VerdictKind::CannotTell, part: None, share: 0.0, of_growth: false }
    }
}

pub(super) fn decide(facts: &Facts) -> Finding {
    if facts.grew() {
        growing(facts)
    } else if facts.growth_known() {
        not_growing(facts)
    } else {
        state(facts)
    }
}

fn growing(facts: &Facts) -> Finding {
    let live = facts.share(Part::Live);
    let outside = Part::OUTSIDE
        .iter()
        .fold(0_i64, |sum, part| sum.saturating_add(facts.growth.get(*part).max(0)));
    let candidates = [
        (live, Part::Live),
        (facts.share(Part::Trapped), Part::Trapped),
        (facts.share(Part::Cached), Part::Cached),
        (share(outside, facts.grown), largest_outside(&facts.growth)),
        (facts.share(Part::Opaque), Part::Opaque),
        (facts.share(Part::Unknown), Part::Unknown),
    ];
    let (share, part) = candidates
        .into_iter()
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .unwrap_or((0.0, Part::Unknown));
    if let Some(finding) = trapped_growth(facts).filter(|_| is_free(part)) {
        return finding;
    }
    if share < EXPLAINS {
        return Finding::cannot_tell();
    }
    Finding::growth(kind(part, facts), part, share)
}

fn is_free(part: Part) -> bool {
    matches!(part, Part::Trapped | Part::Cached)
}

/// Free memory explains the growth, and a large part of it, or of the whole heap, is trapped: what
/// could be given back besides is no reason to call it a cache.
fn trapped_growth(facts: &Facts) -> Option<Finding> {
    let [trapped, cached] = [Part::Trapped, Part::Cached].map(|part| facts.share(part));
    let heap = facts.heap.is_some_and(|heap| trapped_share(&heap) >= TRAPPED);
    (trapped > 0.0 && (heap || trapped >= TRAPPED) && trapped + cached >= EXPLAINS)
        .then(|| Finding::growth(VerdictKind::Fragmentation, Part::Trapped, trapped))
}

fn trapped_share(heap: &HeapState) -> f64 {
    share_of(heap.trapped_bytes(), heap.walked_bytes())
}

fn kind(part: Part, facts: &Facts) -> VerdictKind {
    match part {
        Part::Live if is_bounded(facts) => VerdictKind::LiveGrowth,
        Part::Live => VerdictKind::Leak,
        Part::Trapped => VerdictKind::Fragmentation,
        Part::Cached => VerdictKind::AllocatorCache,
        Part::Files | Part::Shmem | Part::Stacks | Part::Mappings => VerdictKind::NotTheHeap,
        // Nobody has walked it, but blocks came and went and RSS stayed.
        Part::Opaque | Part::Unknown if facts.turns_over() => VerdictKind::Fragmentation,
        Part::Opaque | Part::Unknown => VerdictKind::CannotTell,
    }
}

/// The part outside of the heap that grew most.
fn largest_outside(parts: &Attribution) -> Part {
    let largest = Part::OUTSIDE.into_iter().max_by_key(|part| parts.get(*part));
    largest.unwrap_or(Part::Mappings)
}

/// Memory in use grew, but there is an end to it.
fn is_bounded(facts: &Facts) -> bool {
    match facts.shape {
        Shape::LevelledOff | Shape::UpAndDown => true,
        Shape::Unknown => top_site(facts).is_some_and(is_mostly_freed),
        Shape::Flat | Shape::Steps { .. } | Shape::Slope => top_sites_are_bounded(facts),
    }
}

/// The site that holds most.
pub(super) fn top_site<'a>(facts: &Facts<'a>) -> Option<&'a TracedSite> {
    facts.traced()?.sites.first()
}

/// At least half of what it allocated was freed.
pub(super) fn is_mostly_freed(site: &TracedSite) -> bool {
    site.allocated.bytes > 0 && site.freed.bytes >= site.allocated.bytes / 2
}

/// Sites that are known to be bounded hold most of what the known ones hold.
pub(super) fn top_sites_are_bounded(facts: &Facts) -> bool {
    let held = |pattern| {
        let sites = facts.traced().into_iter().flat_map(|traced| &traced.sites);
        sites.filter(|it| it.pattern == pattern).map(|it| it.survivors.bytes as f64).sum::<f64>()
    };
    held(SitePattern::Bounded) > held(SitePattern::Growing)
}

fn not_growing(facts: &Facts) -> Finding {
    let rss = facts.input.rss;
    let risen = facts.input.timeline.rss_peak_bytes.saturating_sub(rss.start_bytes);
    let high = risen as f64 >= CAME_BACK * rss.start_bytes as f64
        && risen >= facts.noise.saturating_mul(CAME_BACK_NOISES);
    if high && facts.rss_shape == Shape::UpAndDown {
        let share = share(signed(risen), signed(risen.max(rss.start_bytes)));
        return Finding {
            part: None,
            ..Finding::growth(VerdictKind::LiveGrowth, Part::Live, share)
        };
    }
    match facts.heap.and_then(|heap| trapped(&heap)) {
        Some(finding) => finding,
        None => Finding { kind: VerdictKind::NotGrowing, part: None, share: 1.0, of_growth: true },
    }
}

/// What one look tells.
fn state(facts: &Facts) -> Finding {
    let Some(census) = &facts.input.after else { return Finding::cannot_tell() };
    let in_heap = facts.heap.and_then(|heap| trapped(&heap).or_else(|| kept(&heap)));
    in_heap.or_else(|| outside(census)).unwrap_or_else(Finding::cannot_tell)
}

fn trapped(heap: &HeapState) -> Option<Finding> {
    let share = trapped_share(heap);
    let matters = share >= TRAPPED && share_of(heap.trapped_bytes(), heap.rss_bytes) >= MATTERS;
    matters.then(|| Finding::state(VerdictKind::Fragmentation, Part::Trapped, share))
}

fn kept(heap: &HeapState) -> Option<Finding> {
    let bytes = heap.kept_bytes();
    let share = share_of(bytes, heap.walked_bytes());
    let matters = share >= KEPT && share_of(bytes, heap.rss_bytes) >= MATTERS;
    matters.then(|| Finding::state(VerdictKind::AllocatorCache, Part::Cached, share))
}

fn outside(census: &crate::model::census::Census) -> Option<Finding> {
    let parts = Attribution::of_state(census);
    // Nobody claims the memory of a heap that was not walked.
    let is_outside = |part: &&Part| **part != Part::Mappings || !hides_heap(census);
    let bytes = Part::OUTSIDE
        .iter()
        .filter(is_outside)
        .fold(0_i64, |sum, part| sum.saturating_add(parts.get(*part)));
    let share = share(bytes, signed(census.rss.rss_bytes));
    (share >= OUTSIDE)
        .then(|| Finding::state(VerdictKind::NotTheHeap, largest_outside(&parts), share))
}

/// A share of a number of bytes.
pub(super) fn share_of(part: u64, whole: u64) -> f64 {
    share(signed(part), signed(whole))
}
