//! What is to be known of each of the two captures.

use serde::Serialize;

use crate::{
    model::{site::Amount, verdict::Verdict},
    report::{LossReport, Report, Rss, Target, Window},
};

/// One of the two.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// What it is called, e.g. the file.
    pub name: String,
    /// Who was traced.
    pub target: Target,
    /// When, how long.
    pub window: Window,
    /// What all sites weigh in the view.
    pub weight: Amount,
    /// The kernel's view of the target's memory.
    pub rss: Rss,
    /// What happened to its memory; `None` of a part of a capture.
    pub verdict: Option<Verdict>,
    /// No event was lost.
    pub complete: bool,
    /// Every loss that happened.
    pub losses: Vec<LossReport>,
    /// Anything else to be known of it, as sentences.
    pub notes: Vec<String>,
}

impl Side {
    pub(super) fn of(name: &str, report: &Report) -> Self {
        let completeness = &report.completeness;
        Self {
            name: name.to_owned(),
            target: report.target.clone(),
            window: report.window.clone(),
            weight: report.weight(),
            rss: report.rss,
            verdict: report.verdict.clone(),
            complete: completeness.complete,
            losses: completeness.losses.clone(),
            notes: completeness.notes.clone(),
        }
    }
}
