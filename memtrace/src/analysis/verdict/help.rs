//! What would make a verdict surer.

use crate::model::verdict::VerdictKind;

use super::{attribution::Part, confidence::SHORT_NS, decide::Finding, facts::Facts, shape::Shape};

pub(super) fn would_help(finding: &Finding, facts: &Facts) -> Vec<String> {
    let all = [
        window(finding, facts),
        walk(finding, facts),
        sites(finding, facts),
        an_end(finding),
        opaque(facts),
        refusals(facts),
    ];
    all.into_iter().flatten().collect()
}

fn window(finding: &Finding, facts: &Facts) -> Option<String> {
    if !facts.growth_known() {
        return Some("Whether it grows: look twice, or attach for a while under load.".to_owned());
    }
    let needs = finding.of_growth && facts.shape == Shape::Unknown
        || finding.kind == VerdictKind::CannotTell;
    (needs || facts.input.window_ns < SHORT_NS)
        .then(|| "How it goes on: a longer window, over several rounds of the work.".to_owned())
}

fn walk(finding: &Finding, facts: &Facts) -> Option<String> {
    let sure = matches!(finding.kind, VerdictKind::NotGrowing | VerdictKind::NotTheHeap);
    (facts.input.after.is_none() && !sure).then(|| {
        "What of the heap is in use and what is free: `memtrace inspect -p PID`.".to_owned()
    })
}

fn sites(finding: &Finding, facts: &Facts) -> Option<String> {
    let asked = match finding.kind {
        VerdictKind::Leak | VerdictKind::LiveGrowth | VerdictKind::CannotTell => true,
        VerdictKind::NotTheHeap => finding.part == Some(Part::Mappings),
        _ => false,
    };
    (asked && facts.traced().is_none())
        .then(|| "Which code it is: `memtrace attach -p PID`.".to_owned())
}

fn an_end(finding: &Finding) -> Option<String> {
    (finding.kind == VerdictKind::Leak).then(|| {
        "Whether it ends: a cache that is still filling up looks the same. Trace again later."
            .to_owned()
    })
}

fn opaque(facts: &Facts) -> Option<String> {
    let names: Vec<&str> = facts
        .input
        .after
        .iter()
        .flat_map(|census| &census.opaque)
        .map(|it| it.name.as_str())
        .collect();
    (!names.is_empty()).then(|| {
        format!("What {} keeps free: its own statistics tell, a walk cannot.", names.join(", "))
    })
}

fn refusals(facts: &Facts) -> Option<String> {
    let refusals = facts.input.after.iter().flat_map(|census| &census.refusals);
    let parts: Vec<&str> = refusals.map(|it| it.part.as_str()).collect();
    (!parts.is_empty()).then(|| format!("What could not be looked into: {}.", parts.join(", ")))
}
