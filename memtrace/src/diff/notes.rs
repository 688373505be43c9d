//! What makes two captures less comparable than they look.

use crate::{
    model::size::duration_ns,
    report::{Report, Target, View},
};

use super::matching::{file_name, is_rebuilt};

/// Windows that differ by more of the longer are said to differ.
const SIMILAR: f64 = 0.10;

/// Whether bytes of the two windows had about the same time to come about.
pub(super) fn lengths_differ(before: &Report, after: &Report) -> bool {
    let [one, other] = [before, after].map(|report| report.window.duration_ns as f64);
    (one - other).abs() > SIMILAR * one.max(other)
}

/// As sentences, the most important first.
pub(super) fn warnings(before: &Report, after: &Report) -> Vec<String> {
    let found = [
        the_same(before, after),
        programs(&before.target, &after.target),
        order(before, after),
        lengths(before, after),
        ages(before, after),
        losses(before, after),
        builds(before, after),
    ];
    found.into_iter().flatten().collect()
}

fn the_same(before: &Report, after: &Report) -> Option<String> {
    let is_same = (&before.target, &before.window) == (&after.target, &after.window)
        && !before.window.started_at.is_empty();
    is_same.then(|| "Both are captures of the same window.".to_owned())
}

fn program(target: &Target) -> &str {
    match file_name(&target.executable) {
        "" => &target.command,
        name => name,
    }
}

fn programs(before: &Target, after: &Target) -> Option<String> {
    let has_both = !before.executable.is_empty() && !after.executable.is_empty();
    let names = [before, after].map(|it| if has_both { program(it) } else { &it.command });
    (names[0] != names[1]).then(|| {
        format!(
            "These are different programs ({} and {}): stacks that are equal in both are hardly \
             more than libraries.",
            names[0], names[1]
        )
    })
}

/// Both are RFC 3339 in UTC, so that they compare as texts.
fn order(before: &Report, after: &Report) -> Option<String> {
    let [one, other] = [before, after].map(|report| &report.window.started_at);
    (!other.is_empty() && one > other)
        .then(|| "The first was traced after the second: are they the wrong way round?".to_owned())
}

fn lengths(before: &Report, after: &Report) -> Option<String> {
    lengths_differ(before, after).then(|| {
        let [one, other] = [before, after].map(|report| duration_ns(report.window.duration_ns));
        format!(
            "The windows differ in length ({one} and {other}), and what is counted grows with it: \
             compare the bytes a second."
        )
    })
}

fn ages(before: &Report, after: &Report) -> Option<String> {
    let [one, other] = [before, after].map(|report| report.window.min_age_ns);
    (before.view == View::NeverFreed && one != other).then(|| {
        format!(
            "Blocks count from an age of {} in the first and of {} in the second: --min-age makes \
             that one.",
            duration_ns(one),
            duration_ns(other)
        )
    })
}

fn losses(before: &Report, after: &Report) -> Option<String> {
    let which = match (before.completeness.complete, after.completeness.complete) {
        (true, true) => return None,
        (false, true) => "the first",
        (true, false) => "the second",
        (false, false) => "both",
    };
    Some(format!("Events were lost in {which}: a difference may be what is missing."))
}

fn builds(before: &Report, after: &Report) -> Option<String> {
    is_rebuilt(before, after).then(|| {
        "The program was built anew in between: functions that were renamed, or inlined in another \
         way, look new and gone."
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn said(change: impl FnOnce(&mut Report)) -> String {
        let before = sample::leaking();
        let mut after = sample::leaking();
        after.window.started_at = "2999-01-01T00:00:00Z".to_owned();
        change(&mut after);
        warnings(&before, &after).join(" ")
    }

    #[test]
    fn windows_that_can_be_compared_are_not_remarked_on() {
        assert_eq!(said(|_| {}), "");
        assert_eq!(said(|after| after.window.duration_ns += after.window.duration_ns / 20), "");
    }

    #[test]
    fn what_makes_a_difference_is_said() {
        type Case = (fn(&mut Report), &'static str);
        let cases: [Case; 7] = [
            (|it| it.window.started_at = sample::leaking().window.started_at, "the same window"),
            (|it| it.window.started_at = "1999-01-01T00:00:00Z".to_owned(), "traced after"),
            (|it| it.target.executable = "/usr/bin/other".to_owned(), "different programs"),
            (|it| it.window.duration_ns *= 2, "differ in length (30.0 s and 60.0 s)"),
            (|it| it.window.min_age_ns = 1, "--min-age"),
            (|it| it.completeness.complete = false, "lost in the second"),
            (|it| it.modules[0].build_id = Some("00".to_owned()), "built anew"),
        ];
        for (change, expected) in cases {
            let said = said(change);
            assert!(said.contains(expected), "{said:?} lacks {expected:?}");
        }
    }
}
