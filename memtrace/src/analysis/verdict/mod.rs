//! What happens to a process's memory, and what to try: one verdict from everything that is known.
//! docs/verdict.md tells people how it is reached.

mod attribution;
mod confidence;
mod decide;
mod evidence;
mod facts;
mod headline;
mod help;
mod input;
mod pins;
mod remedy;
mod shape;
#[cfg(test)]
mod tests;

use self::facts::Facts;
pub use self::{
    input::{Pin, Pins, RssChange, SitePattern, Traced, TracedSite, VerdictInput},
    shape::{Shape, shape},
};
use crate::model::verdict::Verdict;

/// The verdict. It works with whatever is there: a walk without a window, a window without walks,
/// RSS alone.
pub fn verdict(input: &VerdictInput) -> Verdict {
    let facts = Facts::of(input);
    let finding = decide::decide(&facts);
    Verdict {
        kind: finding.kind,
        growth_known: facts.growth_known(),
        confidence: confidence::confidence(&finding, &facts),
        headline: headline::headline(&finding, &facts),
        evidence: evidence::evidence(&finding, &facts),
        remedies: remedy::remedies(&finding, &facts),
        would_help_to_know: help::would_help(&finding, &facts),
    }
}
