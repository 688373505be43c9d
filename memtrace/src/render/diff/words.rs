//! What is said in the text and on the page alike.

use crate::{
    diff::{Change, Diff, GroupChange, Rate, Side},
    model::{
        site::Amount,
        size::{Units, count, duration_ns},
    },
    render::{
        estimate,
        label::{clean, described, plural},
    },
};

/// `What was never freed grew by 12.0 MiB`.
pub fn headline(diff: &Diff, units: Units) -> String {
    let what = format!("What was {}", diff.view.label());
    let mut by = units.bytes(diff.total.growth_bytes.unsigned_abs());
    if let Some(error) = estimate::growth_error(&diff.total, units) {
        by = format!("~ {by} {error}");
    }
    match diff.total.growth_bytes {
        0 => format!("{what} did not grow"),
        1.. => format!("{what} grew by {by}"),
        _ => format!("{what} shrank by {by}"),
    }
}

/// `load at model.cc:42`.
pub fn place(group: &GroupChange) -> String {
    described(&group.name.frame())
}

/// `1.0 KiB in 1 block -> 3.0 KiB in 2 blocks`.
pub(in crate::render) fn sides(change: &Change, units: Units) -> String {
    format!("{} -> {}", blocks(change.before, units), blocks(change.after, units))
}

fn blocks(amount: Amount, units: Units) -> String {
    match amount.count {
        0 => "nothing".to_owned(),
        blocks => {
            let (bytes, number) = (estimate::bytes(amount, units), estimate::blocks_count(amount));
            format!("{bytes} in {number} block{}", plural(blocks))
        }
    }
}

/// `+2.0 KiB in +1 block`.
pub(in crate::render) fn signed_blocks(change: &Change, units: Units) -> String {
    let mut bytes = units.signed_bytes(change.growth_bytes);
    if let Some(error) = estimate::growth_error(change, units) {
        bytes = format!("~ {bytes} {error}");
    }
    let sign = match change.growth_count {
        0 => return format!("{bytes} in as many blocks"),
        ..0 => '-',
        1.. => '+',
    };
    let blocks = change.growth_count.unsigned_abs();
    format!("{bytes} in {sign}{} block{}", count(blocks), plural(blocks))
}

/// `1.0 KiB -> 1.5 KiB a second`.
pub(in crate::render) fn rates(rate: Rate, units: Units) -> String {
    let [before, after] =
        [rate.before_bytes_per_s, rate.after_bytes_per_s].map(|rate| units.bytes(rate));
    format!("{before} -> {after} a second")
}

/// `model-server (pid 4242), 30.0 s from 2026-03-04T02:58:11Z`.
pub(in crate::render) fn program(side: &Side) -> String {
    let complete = if side.complete { "" } else { "; INCOMPLETE" };
    format!(
        "{} (pid {}), {} from {}{complete}",
        clean(&side.target.command),
        side.target.pid,
        duration_ns(side.window.duration_ns),
        clean(&side.window.started_at),
    )
}

/// What memtrace concluded of it.
pub(in crate::render) fn verdict(side: &Side) -> String {
    match &side.verdict {
        Some(verdict) => clean(&verdict.headline),
        None => "none, of a part".to_owned(),
    }
}

/// `2 new, 1 grown, 5 unchanged`.
pub(in crate::render) fn totals(diff: &Diff) -> String {
    let counted = crate::diff::Status::ALL.map(|status| (diff.count(status), status.label()));
    let some = counted.iter().filter(|(count, _)| *count > 0);
    let words: Vec<_> = some.map(|(number, label)| format!("{} {label}", count(*number))).collect();
    words.join(", ")
}
