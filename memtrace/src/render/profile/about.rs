//! What a profile says of itself: of what it is, and what is missing.

use crate::{
    model::size,
    render::{
        estimate,
        label::{clean, end_reason},
    },
    report::{LossReport, Report, View},
};

use super::{held, shown_first};

/// The start of the window, in nanoseconds since 1970; 0 where it is not known.
pub(in crate::render) fn start_unix_ns(report: &Report) -> i64 {
    let start = report.window.started_at.parse::<jiff::Timestamp>();
    start.ok().and_then(|start| start.as_nanosecond().try_into().ok()).unwrap_or_default()
}

/// Sentences for a person, the most important first.
pub(in crate::render) fn comments(report: &Report) -> Vec<String> {
    let mut comments = vec![
        format!("memtrace {}", env!("CARGO_PKG_VERSION")),
        window(report),
        meaning(report),
        "alloc: allocated in the window".to_owned(),
    ];
    comments.extend(estimate::explanation(report));
    comments.extend(losses(report));
    comments.extend(report.completeness.notes.iter().map(|note| clean(note)));
    comments
}

/// What was lost, a sentence each; that nothing was, where it was not.
pub(in crate::render) fn losses(report: &Report) -> Vec<String> {
    let sentence = |loss: &LossReport| {
        format!("INCOMPLETE: {} {}", size::count(loss.count), clean(&loss.sentence))
    };
    match report.completeness.complete {
        true => vec!["complete: no event was lost".to_owned()],
        false => report.completeness.losses.iter().map(sentence).collect(),
    }
}

fn window(report: &Report) -> String {
    format!(
        "{} (pid {}): traced from {} for {}, {}",
        clean(&report.target.command),
        report.target.pid,
        clean(&report.window.started_at),
        size::duration_ns(report.window.duration_ns),
        end_reason(report.window.ended_by),
    )
}

/// `inuse: never freed, at least 10.0 s old`.
fn meaning(report: &Report) -> String {
    let view = held(report.view);
    let name = shown_first(view).name.trim_end_matches("_space");
    let age = match (view, report.window.min_age_ns) {
        (View::NeverFreed, age) if age > 0 => {
            format!(", at least {} old", size::duration_ns(age))
        }
        _ => String::new(),
    };
    let what = if name == view.label() { "in the window" } else { view.label() };
    format!("{name}: {what}{age}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_profile_says_what_it_is_of() {
        let comments = comments(&sample::leaking());
        let expected = [
            "model-server (pid 4242): traced from 2026-03-04T02:58:11Z for 30.0 s, \
             until the time was over",
            "inuse: never freed, at least 10.0 s old",
            "alloc: allocated in the window",
            "complete: no event was lost",
        ];
        assert_eq!(comments[1..5], expected);
    }

    #[test]
    fn every_loss_is_told() {
        let report = sample::lossy();
        let comments = comments(&report);
        assert!(comments.iter().any(|it| it.starts_with("INCOMPLETE: 5,321 events lost")));
        let lost = comments.iter().filter(|it| it.starts_with("INCOMPLETE"));
        assert_eq!(lost.count(), report.completeness.losses.len());
        assert!(!comments.contains(&"complete: no event was lost".to_owned()));
    }

    #[test]
    fn the_meaning_follows_the_view() {
        let mut report = sample::leaking();
        let mut meaning_of = |view| {
            report.view = view;
            meaning(&report)
        };
        assert_eq!(meaning_of(View::Peak), "inuse: live at the peak");
        assert_eq!(meaning_of(View::Allocated), "inuse: never freed, at least 10.0 s old");
        assert_eq!(meaning_of(View::Freed), "freed: in the window");
    }

    #[test]
    fn a_start_that_is_no_date_is_not_known() {
        let mut report = sample::leaking();
        assert_eq!(start_unix_ns(&report), 1_772_593_091_000_000_000);
        report.window.started_at = "yesterday".to_owned();
        assert_eq!(start_unix_ns(&report), 0);
    }
}
