//! The verdict in one sentence.

use crate::model::{
    site::Amount,
    size::{bytes, duration_ns},
    verdict::VerdictKind,
};

use super::{
    attribution::Part,
    decide::{Finding, top_site},
    facts::Facts,
    input::TracedSite,
    pins,
    shape::Shape,
};

pub(super) fn headline(finding: &Finding, facts: &Facts) -> String {
    match finding.kind {
        VerdictKind::Leak => leak(finding, facts),
        VerdictKind::LiveGrowth => live_growth(finding, facts),
        VerdictKind::Fragmentation => fragmentation(finding, facts),
        VerdictKind::AllocatorCache => cache(finding, facts),
        VerdictKind::NotTheHeap => not_the_heap(finding, facts),
        VerdictKind::NotGrowing => not_growing(facts),
        VerdictKind::CannotTell => cannot_tell(facts),
    }
}

/// A number of an amount in words, marked where it is an estimate.
pub(super) fn about(amount: Amount, number: String) -> String {
    if amount.is_exact() { number } else { format!("~ {number}") }
}

/// `97 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn grown(facts: &Facts) -> String {
    bytes(facts.grown.unsigned_abs())
}

fn leak(finding: &Finding, facts: &Facts) -> String {
    let how = match facts.shape {
        Shape::Steps { count, step_bytes } => {
            format!(", in {count} steps of about {}", bytes(step_bytes))
        }
        Shape::Slope => ", steadily".to_owned(),
        _ => String::new(),
    };
    let who = top_site(facts).filter(|site| !site.maps).map(|site| who(site, facts));
    let who = who.unwrap_or_default();
    format!(
        "Leak: memory in use explains {} of the {} that RSS grew by{how}{who}.",
        percent(finding.share),
        grown(facts),
    )
}

/// Who holds the most. Much more than RSS grew by is no part of that.
fn who(site: &TracedSite, facts: &Facts) -> String {
    let grown = facts.grown.unsigned_abs();
    if site.survivors.bytes <= grown.saturating_add(grown / 4) {
        let held = about(site.survivors, bytes(site.survivors.bytes));
        return format!("; {} holds {held} of it", site.name);
    }
    let kept =
        facts.traced().map_or(0, |it| it.heap_live.bytes.saturating_add(it.mapped_live.bytes));
    let share = site.survivors.bytes as f64 / kept.max(site.survivors.bytes) as f64;
    format!("; {} holds {} of what was kept", site.name, about(site.survivors, percent(share)))
}

fn live_growth(finding: &Finding, facts: &Facts) -> String {
    if finding.part.is_none() {
        let peak = bytes(facts.input.timeline.rss_peak_bytes);
        return format!("Not a leak: RSS rose to {peak} and came back.");
    }
    let why = match facts.shape {
        Shape::LevelledOff => "it has levelled off",
        Shape::UpAndDown => "it falls as well as it rises",
        _ => "what allocates it also frees it",
    };
    format!(
        "Growth of memory in use, but perhaps no leak: it explains {} of the {} that RSS grew by, \
         and {why}.",
        percent(finding.share),
        grown(facts),
    )
}

fn fragmentation(finding: &Finding, facts: &Facts) -> String {
    let who = pins::clause(facts);
    match finding.part {
        Some(Part::Trapped) if finding.of_growth => format!(
            "Fragmentation, not a leak: {} of the {} that RSS grew by is free memory, trapped on \
             pages with blocks in use{who}.",
            percent(finding.share),
            grown(facts),
        ),
        Some(Part::Trapped) => format!(
            "Fragmentation: {} of the heap's resident memory is free and trapped on pages with \
             blocks in use{who}; {}.",
            percent(finding.share),
            if facts.growth_known() {
                "RSS did not grow now"
            } else {
                "whether it grows is not known"
            },
        ),
        _ => format!(
            "Probably fragmentation: {} of the {} that RSS grew by is not in use, while blocks \
             come and go.",
            percent(finding.share),
            grown(facts),
        ),
    }
}

fn cache(finding: &Finding, facts: &Facts) -> String {
    if finding.of_growth {
        return format!(
            "Allocator cache: {} of the {} that RSS grew by is free memory that the allocator \
             keeps for later and could give back.",
            percent(finding.share),
            grown(facts),
        );
    }
    format!(
        "Allocator cache: {} of the heap's resident memory is free, and the allocator could give \
         it back; whether it grows is not known.",
        percent(finding.share),
    )
}

fn not_the_heap(finding: &Finding, facts: &Facts) -> String {
    let what = finding.part.unwrap_or(Part::Unknown).words();
    if !finding.of_growth {
        return format!(
            "Not the heap: {} of RSS is outside of it, most of that {what}; whether it grows is \
             not known.",
            percent(finding.share),
        );
    }
    format!(
        "Not the heap: {} of the {} that RSS grew by is outside of it, most of that {what}.",
        percent(finding.share),
        grown(facts),
    )
}

fn not_growing(facts: &Facts) -> String {
    let window = duration_ns(facts.input.window_ns);
    match facts.grown {
        down if down < 0 && down.unsigned_abs() > facts.noise => {
            format!("Not growing: RSS fell by {} in {window}.", grown(facts))
        }
        _ => {
            format!("Not growing: RSS stayed at {} for {window}.", bytes(facts.input.rss.end_bytes))
        }
    }
}

fn cannot_tell(facts: &Facts) -> String {
    if !facts.growth_known() {
        return match &facts.input.after {
            Some(_) => "One look does not tell why: most of RSS is in use, and whether it grows \
                        is not known."
                .to_owned(),
            None => "Cannot tell: neither a walk of the heap nor a window is there.".to_owned(),
        };
    }
    let (part, share) = Part::ALL
        .into_iter()
        .map(|part| (part, facts.share(part)))
        .reduce(|best, next| if next.1 > best.1 { next } else { best })
        .unwrap_or((Part::Unknown, 0.0));
    format!(
        "Cannot tell why RSS grew by {}: the largest part of it, {}, is {}.",
        grown(facts),
        percent(share),
        part.words(),
    )
}
