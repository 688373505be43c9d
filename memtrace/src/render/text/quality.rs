//! What the blocks were like, and how far to trust the numbers.

use crate::{
    model::{
        cost::Cost,
        size::{Units, count, duration_ns},
    },
    render::label::plural,
    report::{Completeness, Distribution, Report, Totals},
};

use super::page::{Page, Style};

pub(super) fn write(page: &mut Page, report: &Report) {
    let units = page.units();
    page.gap();
    if let Some(sizes) = &report.sizes {
        page.field("sizes", &percentiles(sizes, |it| units.bytes(it), ["largest", "allocated"]));
    }
    if let Some(lifetimes) = &report.lifetimes {
        page.field("lifetimes", &percentiles(lifetimes, duration_ns, ["longest", "freed"]));
    }
    page.field("events", &events(&report.completeness, &report.totals, units));
    for text in processes(report, units) {
        page.field("", &text);
    }
    page.field("memtrace", &own_cost(report, units));
    if let Some(cost) = &report.cost {
        write_cost(page, cost);
    }
    for note in &report.completeness.notes {
        page.field("note", note);
    }
    for (index, file) in report.files.iter().enumerate() {
        page.field(if index == 0 { "files" } else { "" }, file);
    }
    write_losses(page, &report.completeness);
}

fn write_cost(page: &mut Page, cost: &Cost) {
    if let Some(overhead) = cost.overhead {
        let limit = cost.max_overhead.map(|limit| format!(" (limit {})", percent(limit)));
        let setting = cost.setting.as_deref().unwrap_or_default();
        let text = format!(
            "the target was about {} slower{}; looked at {setting}",
            percent(overhead),
            limit.unwrap_or_default(),
        );
        page.field("cost", &text);
    }
    if let Some(covered) = cost.covered.filter(|covered| *covered < 1.0) {
        let text = format!("all probes were armed {} of the time", percent(covered));
        page.field("", &text);
    }
    for change in &cost.changes {
        let after = duration_ns(change.at_ns);
        page.field("", &format!("after {after}: {}, because {}", change.to, change.why));
    }
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent < 10.0 => format!("{percent:.1} %"),
        percent => format!("{percent:.0} %"),
    }
}

fn own_cost(report: &Report, units: Units) -> String {
    format!(
        "attached in {}, detached in {}, used {}",
        duration_ns(report.window.attach_ns),
        duration_ns(report.window.detach_ns),
        units.bytes(report.rss.own_peak_bytes),
    )
}

fn percentiles(of: &Distribution, show: impl Fn(u64) -> String, words: [&str; 2]) -> String {
    let [most, done] = words;
    format!(
        "median {}, p90 {}, p99 {}, {most} {} ({} block{} {done})",
        show(of.p50),
        show(of.p90),
        show(of.p99),
        show(of.max),
        count(of.count),
        plural(of.count),
    )
}

fn events(completeness: &Completeness, totals: &Totals, units: Units) -> String {
    let mut parts = vec![format!("{} received", count(completeness.events))];
    if completeness.complete {
        parts.push("none lost (complete)".to_owned());
    }
    if totals.unmatched_frees > 0 {
        let frees = totals.unmatched_frees;
        let text = format!("{} free{} of older blocks", count(frees), plural(frees));
        parts.push(text);
    }
    if totals.unmatched_unmapped_bytes > 0 {
        parts.push(format!(
            "{} of older mappings unmapped",
            units.bytes(totals.unmatched_unmapped_bytes)
        ));
    }
    if completeness.cut_calls > 0 {
        let calls = completeness.cut_calls;
        parts.push(format!("{} call{} in flight at the start or end", count(calls), plural(calls)));
    }
    parts.join("; ")
}

/// Processes that are not, or no longer, followed.
fn processes(report: &Report, units: Units) -> Vec<String> {
    let completeness = &report.completeness;
    let mut texts = Vec::new();
    if completeness.forks > 0 {
        let forks = completeness.forks;
        texts.push(format!("{} fork{}: {}", count(forks), plural(forks), fate(report)));
    }
    if completeness.execs > 0 {
        let (execs, lost) = (completeness.execs, completeness.discarded_by_exec);
        texts.push(format!(
            "{} exec{}: {} in {} live block{} went with the old program",
            count(execs),
            plural(execs),
            units.bytes(lost.bytes),
            count(lost.count),
            plural(lost.count),
        ));
    }
    texts
}

/// What became of children.
fn fate(report: &Report) -> String {
    let missed = &report.completeness.not_followed;
    if !report.processes.iter().any(|process| process.parent.is_some()) && missed.is_nothing() {
        return "children are not followed (see --follow-forks)".to_owned();
    }
    let followed = report.processes.iter().filter(|it| it.unseen_ns.is_some()).count() as u64;
    let parts = [
        (missed.ended_early, "ended before they could be"),
        (missed.beyond_limit, "were too many to be"),
        (missed.beyond_window, "came too late to be"),
        (missed.refused_count, "could not be"),
    ];
    let missed = parts.iter().filter(|(number, _)| *number > 0);
    let missed: String =
        missed.map(|(number, why)| format!(", {} {why}", count(*number))).collect();
    format!("{} of the children followed{missed}", count(followed))
}

fn write_losses(page: &mut Page, completeness: &Completeness) {
    if completeness.complete {
        return;
    }
    page.gap();
    page.line(Some(Style::Warning), "INCOMPLETE");
    for loss in &completeness.losses {
        let text = format!("{} {}", count(loss.count), loss.sentence);
        page.prose(Some(Style::Warning), 2, &text);
    }
    if completeness.losses.iter().any(|loss| loss.can_fake_a_survivor) {
        let text =
            "A free may be among what was lost: some of the blocks above may have been freed.";
        page.prose(Some(Style::Warning), 2, text);
    }
}
