//! When the target was looked at more or less closely.

use crate::{model::cost::SettingChange, render::label::clean, report::Report};

/// Most that are marked: where the setting goes up and down all the time, the first ones and their
/// number tell.
const SHOWN: usize = 6;

/// Of the chart's height: labels of neighbours do not cover each other.
const HEIGHTS: [f64; 3] = [0.16, 0.10, 0.04];

/// A line at a time, with words.
pub(super) struct Mark {
    /// Since the window's start.
    pub(super) at_ns: u64,
    pub(super) label: String,
    /// Of the line, as a part of the chart's.
    pub(super) height: f64,
}

pub(super) fn marks(report: &Report) -> Vec<Mark> {
    let changes = report.cost.iter().flat_map(|cost| &cost.changes);
    let count = changes.clone().count();
    let mark = |(change, index): (&SettingChange, usize)| Mark {
        at_ns: change.at_ns,
        label: label(change, (index + 1 == SHOWN).then(|| count.saturating_sub(SHOWN))),
        height: HEIGHTS[index % HEIGHTS.len()],
    };
    changes.zip(0..SHOWN).map(mark).collect()
}

fn label(change: &SettingChange, more: Option<usize>) -> String {
    match more {
        Some(more @ 1..) => format!("{}, and {more} more changes", clean(&change.to)),
        _ => clean(&change.to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::cost::Cost, report::sample};

    #[test]
    fn the_first_changes_are_marked_and_the_others_are_counted() {
        let change = |at_ns| SettingChange { at_ns, to: format!("n{at_ns}"), ..Default::default() };
        let cost = Cost { changes: (0..9).map(change).collect(), ..Cost::default() };
        let marks = marks(&Report { cost: Some(cost), ..sample::leaking() });
        let labels: Vec<&str> = marks.iter().map(|mark| mark.label.as_str()).collect();
        assert_eq!(labels, ["n0", "n1", "n2", "n3", "n4", "n5, and 3 more changes"]);
        assert!(marks.windows(2).all(|pair| pair[0].height != pair[1].height));
    }

    #[test]
    fn without_a_limit_there_is_nothing_to_mark() {
        assert!(marks(&Report { cost: None, ..sample::leaking() }).is_empty());
    }
}
