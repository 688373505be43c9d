//! The verdict: what to know first, why, and what to try.

use crate::model::{
    size::Units,
    verdict::{Confidence, Level, Remedy, Verdict},
};

use super::page::{Page, Style};

pub(super) fn write(page: &mut Page, verdict: &Verdict) {
    let units = page.units();
    page.gap();
    page.prose(Some(Style::Strong), 0, &verdict.headline);
    page.field("confidence", &confidence(&verdict.confidence));
    let evidence = verdict.evidence.iter().map(|it| it.text.clone());
    list(page, "because", evidence);
    list(page, "try", verdict.remedies.iter().map(|it| remedy(it, units)));
    list(page, "and see", verdict.would_help_to_know.iter().cloned());
    page.gap();
}

/// The label once, and each text on its own lines.
fn list(page: &mut Page, label: &str, texts: impl Iterator<Item = String>) {
    for (index, text) in texts.enumerate() {
        page.field(if index == 0 { label } else { "" }, &text);
    }
}

fn confidence(confidence: &Confidence) -> String {
    let level = match confidence.level {
        Level::High => "high",
        Level::Medium => "medium",
        Level::Low => "low",
    };
    if confidence.doubts.is_empty() {
        return format!("{level} ({} of 100)", confidence.score);
    }
    format!("{level} ({} of 100): {}", confidence.score, confidence.doubts.join("; "))
}

fn remedy(remedy: &Remedy, units: Units) -> String {
    let expected = remedy.expected_bytes.map(|it| format!(" (up to {})", units.bytes(it)));
    format!("{}{}: {}.", remedy.action, expected.unwrap_or_default(), remedy.why)
}
