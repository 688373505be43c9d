//! What speaks for a verdict, in sentences with their numbers.

use crate::model::{
    size::{bytes, count, duration_ns, signed_bytes},
    timeline::PeakSource,
    verdict::{Evidence, VerdictKind},
};

use super::{
    attribution::{Part, signed},
    confidence::{SHORT_NS, hidden_live},
    decide::{Finding, share_of},
    facts::Facts,
    headline::about,
    headline::percent,
    input::TracedSite,
    pins,
    shape::Shape,
};

/// Sites that are named.
const SITES: usize = 3;

/// Parts of the growth that are named, from this share on.
const PART: f64 = 0.05;

/// What was kept is clearly more than the growth, from this factor on.
const EXCEEDS: f64 = 1.5;

const HOUR_NS: f64 = 3.6e12;

pub(super) fn evidence(finding: &Finding, facts: &Facts) -> Vec<Evidence> {
    let one = [growth(facts), idle(facts), parts(facts), exceeding(facts), line(finding, facts)];
    let more =
        [turnover(facts), heap(facts), pymalloc(facts), stranded(facts), hidden(finding, facts)];
    let last = [pace(finding, facts), peak(facts)];
    let pinning =
        if finding.kind == VerdictKind::Fragmentation { pins::evidence(facts) } else { Vec::new() };
    let who = sites(finding, facts).into_iter().chain(pinning.into_iter().map(Some));
    let all = one.into_iter().chain(who).chain(more).chain(last);
    all.flatten().collect()
}

/// A sentence with its numbers.
fn seen<const N: usize>(text: String, numbers: [(&'static str, i64); N]) -> Option<Evidence> {
    Some(Evidence { text, numbers: numbers.into() })
}

fn growth(facts: &Facts) -> Option<Evidence> {
    let rss = facts.input.rss;
    if !facts.growth_known() {
        let census = facts.input.after.as_ref()?;
        let rss_bytes = census.rss.rss_bytes;
        return seen(format!("RSS is {}.", bytes(rss_bytes)), [("rss_bytes", signed(rss_bytes))]);
    }
    seen(
        format!(
            "RSS went from {} to {} ({}) in {}.",
            bytes(rss.start_bytes),
            bytes(rss.end_bytes),
            signed_bytes(facts.grown),
            duration_ns(facts.input.window_ns),
        ),
        [
            ("grown_bytes", facts.grown),
            ("start_bytes", signed(rss.start_bytes)),
            ("end_bytes", signed(rss.end_bytes)),
            ("window_ns", signed(facts.input.window_ns)),
        ],
    )
}

/// What the growth consists of, largest first.
fn parts(facts: &Facts) -> Option<Evidence> {
    if !facts.grew() {
        return None;
    }
    let mut parts = Part::ALL.map(|part| (facts.growth.get(part), part));
    parts.sort_by_key(|(bytes, _)| std::cmp::Reverse(bytes.unsigned_abs()));
    let large = |bytes: i64| bytes.unsigned_abs() as f64 >= PART * facts.grown as f64;
    let named: Vec<_> =
        parts.into_iter().filter(|(bytes, _)| *bytes != 0 && large(*bytes)).collect();
    let texts: Vec<_> = named
        .iter()
        .map(|(bytes, part)| format!("{} {}", signed_bytes(*bytes), part.words()))
        .collect();
    let numbers = named.iter().map(|(bytes, part)| (part.name(), *bytes)).collect();
    let by = if facts.walked_twice() { "two walks of the heap" } else { "probes and kernel" };
    Some(Evidence { text: format!("By {by}: {}.", texts.join(", ")), numbers })
}

fn line(finding: &Finding, facts: &Facts) -> Option<Evidence> {
    if !matches!(finding.kind, VerdictKind::Leak | VerdictKind::LiveGrowth) {
        return None;
    }
    match facts.shape {
        Shape::Steps { count, step_bytes } => seen(
            format!(
                "It rises in {count} steps of about {}, and is level between.",
                bytes(step_bytes)
            ),
            [("steps_count", signed(count)), ("step_bytes", signed(step_bytes))],
        ),
        Shape::Slope => seen("It rises all the time, to the end of the window.".to_owned(), []),
        Shape::LevelledOff => seen("It rose and then levelled off.".to_owned(), []),
        Shape::UpAndDown => seen("It rises and falls.".to_owned(), []),
        Shape::Flat | Shape::Unknown => None,
    }
}

fn sites(finding: &Finding, facts: &Facts) -> Vec<Option<Evidence>> {
    let asked = match (finding.kind, finding.part) {
        (VerdictKind::Leak | VerdictKind::LiveGrowth, _) => Some(false),
        (VerdictKind::NotTheHeap, Some(Part::Mappings)) => Some(true),
        _ => None,
    };
    let (Some(maps), Some(traced)) = (asked, facts.traced()) else { return Vec::new() };
    let total: u64 = traced.sites.iter().fold(0, |sum, it| sum.saturating_add(it.survivors.bytes));
    let holds = |it: &&TracedSite| it.maps == maps && share_of(it.survivors.bytes, total) >= PART;
    traced.sites.iter().filter(holds).take(SITES).map(site).collect()
}

fn site(site: &TracedSite) -> Option<Evidence> {
    let freed = match site.freed.count {
        0 => "none was freed".to_owned(),
        freed => format!("{} of {} were freed", count(freed), count(site.allocated.count)),
    };
    let blocks = if site.survivors.count == 1 { "block" } else { "blocks" };
    seen(
        format!(
            "{} holds {} in {} {blocks}; {freed}.",
            site.name,
            about(site.survivors, bytes(site.survivors.bytes)),
            about(site.survivors, count(site.survivors.count)),
        ),
        [
            ("held_bytes", signed(site.survivors.bytes)),
            ("held_count", signed(site.survivors.count)),
            ("freed_count", signed(site.freed.count)),
        ],
    )
}

/// Without allocations there is nothing that the probes could tell.
fn idle(facts: &Facts) -> Option<Evidence> {
    let traced = facts.traced()?;
    let sites_or_mappings = !traced.sites.is_empty() || traced.mapped_live.count > 0;
    if traced.allocated.count > 0 || sites_or_mappings {
        return None;
    }
    let text = "No allocation was seen in this window: the target was idle, or it allocates \
                through functions that are not probed (a static or custom allocator).";
    seen(text.to_owned(), [])
}

/// More was kept than RSS grew by.
fn exceeding(facts: &Facts) -> Option<Evidence> {
    let traced = facts.traced().filter(|_| facts.grew())?;
    let live = traced.heap_live.bytes.saturating_add(traced.mapped_live.bytes);
    let exceeds = live as f64 > EXCEEDS * facts.grown as f64;
    let text = || {
        format!(
            "{} was allocated and kept, more than RSS grew by: part of it was never touched, or \
             older memory was freed meanwhile.",
            bytes(live)
        )
    };
    exceeds.then(|| seen(text(), [("kept_bytes", signed(live))])).flatten()
}

fn turnover(facts: &Facts) -> Option<Evidence> {
    let traced = facts.traced().filter(|_| facts.turns_over())?;
    seen(
        format!(
            "{} was allocated in the window, and {} of that freed again.",
            bytes(traced.allocated.bytes),
            percent(share_of(traced.freed.bytes, traced.allocated.bytes)),
        ),
        [
            ("allocated_bytes", signed(traced.allocated.bytes)),
            ("freed_bytes", signed(traced.freed.bytes)),
        ],
    )
}

fn heap(facts: &Facts) -> Option<Evidence> {
    let heap = facts.heap.filter(|heap| heap.arenas.total_bytes() > 0)?;
    let (arenas, total) = (heap.arenas, heap.arenas.total_bytes());
    seen(
        format!(
            "Of {} resident in the heap's arenas, {} is in use and {} ({}) is free but trapped; \
             malloc_trim(0) would give back {}.",
            bytes(total),
            bytes(arenas.in_use_bytes),
            bytes(arenas.trapped_bytes),
            percent(share_of(arenas.trapped_bytes, total)),
            bytes(heap.trim_bytes),
        ),
        [
            ("heap_resident_bytes", signed(total)),
            ("in_use_bytes", signed(arenas.in_use_bytes)),
            ("trapped_bytes", signed(arenas.trapped_bytes)),
            ("trim_bytes", signed(heap.trim_bytes)),
        ],
    )
}

fn pymalloc(facts: &Facts) -> Option<Evidence> {
    let heap = facts.heap?;
    let (own, total) = (heap.pymalloc, heap.pymalloc.total_bytes());
    if share_of(total, heap.rss_bytes) < PART {
        return None;
    }
    seen(
        format!(
            "Of {} resident in Python's own arenas, {} is in use and {} is free in arenas that \
             are in use.",
            bytes(total),
            bytes(own.in_use_bytes),
            bytes(own.trapped_bytes),
        ),
        [
            ("pymalloc_resident_bytes", signed(total)),
            ("pymalloc_in_use_bytes", signed(own.in_use_bytes)),
            ("pymalloc_trapped_bytes", signed(own.trapped_bytes)),
        ],
    )
}

fn stranded(facts: &Facts) -> Option<Evidence> {
    let (arenas, resident) = facts.stranded_arenas();
    if share_of(resident, facts.heap?.walked_bytes()) < PART {
        return None;
    }
    seen(
        format!(
            "{arenas} of {} arenas belong to no thread any more; they hold {}.",
            facts.glibc_arenas().count(),
            bytes(resident)
        ),
        [("stranded_count", signed(arenas)), ("stranded_bytes", signed(resident))],
    )
}

fn hidden(finding: &Finding, facts: &Facts) -> Option<Evidence> {
    let live = hidden_live(finding, facts)?;
    seen(
        format!(
            "{} was allocated and kept in the window, in memory that was resident before; when \
             that is used up, RSS will grow.",
            bytes(live)
        ),
        [("kept_bytes", signed(live))],
    )
}

/// How fast it grows and when that ends; not of short windows, which are more noise than trend.
fn pace(finding: &Finding, facts: &Facts) -> Option<Evidence> {
    let ends = matches!(facts.shape, Shape::LevelledOff | Shape::UpAndDown);
    let goes_on = finding.kind != VerdictKind::LiveGrowth || !ends;
    let window_ns = facts.input.window_ns;
    if !facts.grew() || !goes_on || window_ns < SHORT_NS - SHORT_NS / 20 {
        return None;
    }
    let hourly = facts.grown as f64 * HOUR_NS / window_ns as f64;
    let pace = format!("If that goes on, RSS grows by {} an hour", bytes(hourly as u64));
    let Some(limit) = facts.input.limit_bytes.filter(|limit| *limit > 0) else {
        return seen(format!("{pace}."), [("hourly_bytes", hourly as i64)]);
    };
    let room = limit.saturating_sub(facts.input.rss.end_bytes);
    let left_ns = room as f64 * HOUR_NS / hourly;
    seen(
        format!(
            "{pace}; the limit of {} is reached in {}.",
            bytes(limit),
            duration_ns(left_ns as u64)
        ),
        [
            ("hourly_bytes", hourly as i64),
            ("limit_bytes", signed(limit)),
            ("left_ns", left_ns as i64),
        ],
    )
}

fn peak(facts: &Facts) -> Option<Evidence> {
    let timeline = &facts.input.timeline;
    let rss = facts.input.rss;
    let ends = rss.end_bytes.max(rss.start_bytes);
    let source = timeline.rss_peak_source?;
    if !facts.growth_known() || timeline.rss_peak_bytes <= ends.saturating_add(facts.noise) {
        return None;
    }
    let how = match source {
        PeakSource::Samples => "the highest sample; it may have been higher in between",
        PeakSource::HighWaterMark | PeakSource::ResetHighWaterMark => {
            "exactly, by the kernel's high-water mark"
        }
    };
    seen(
        format!("RSS peaked at {} ({how}).", bytes(timeline.rss_peak_bytes)),
        [("rss_peak_bytes", signed(timeline.rss_peak_bytes))],
    )
}
