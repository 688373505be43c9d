//! The processes of a window, one after the other: which of them is it?

use crate::{
    model::size::{Units, count, duration_ns},
    render::{
        estimate::blocks,
        label::{clean, described, plural},
    },
    report::{ProcessReport, Report},
};

use super::page::{Page, Style, cut};

/// Most processes that are shown; the rest is in the JSON report.
const SHOWN: usize = 16;

/// The column where what is said of one begins.
const INDENT: usize = 4;

/// A page is held by blocks of its own process.
const ONE_BY_ONE: &str = "memtrace report CAPTURE --process PID tells of one of them alone what its \
                          heap is like, and what pins trapped memory.";

/// Of a command.
const COMMAND_COLUMNS: usize = 60;

/// Writes them, those with the most that was never freed first.
pub(super) fn write(page: &mut Page, report: &Report) {
    if report.processes.is_empty() {
        return;
    }
    let mut processes: Vec<&ProcessReport> = report.processes.iter().collect();
    processes.sort_by_key(|it| (std::cmp::Reverse(it.survivors.bytes), it.pid));
    page.gap();
    page.prose(Some(Style::Strong), 0, &heading(report));
    for process in processes.iter().take(SHOWN) {
        write_process(page, process);
    }
    let hidden = processes.len().saturating_sub(SHOWN) as u64;
    if hidden > 0 {
        page.prose(
            Some(Style::Faint),
            0,
            &format!("... {} more process{}", count(hidden), es(hidden)),
        );
    }
    page.prose(Some(Style::Faint), 0, ONE_BY_ONE);
}

fn es(number: u64) -> &'static str {
    if number == 1 { "" } else { "es" }
}

fn heading(report: &Report) -> String {
    let all = report.processes.len() as u64;
    format!("Processes: {} traced, by what they never freed", count(all))
}

fn write_process(page: &mut Page, process: &ProcessReport) {
    let units = page.units();
    let command = cut(&process.command_line.join(" "), COMMAND_COLUMNS);
    let name = if command.is_empty() { process.command.clone() } else { command };
    page.line(None, &format!("{:<8}{}", process.pid, clean(&name)));
    page.prose(None, INDENT, &memory(process, units));
    if let Some(top) = &process.top {
        let place = described(&top.name.frame());
        page.prose(None, INDENT, &format!("most at {place}: {}", blocks(top.survivors, units)));
    }
    if let Some(verdict) = &process.verdict {
        page.prose(None, INDENT, &clean(&verdict.headline));
    }
    if let Some(text) = inherited(process, units) {
        page.prose(None, INDENT, &text);
    }
    page.prose(Some(Style::Faint), INDENT, &times(process));
    if !process.complete {
        page.prose(Some(Style::Warning), INDENT, &lost(process));
    }
}

fn memory(process: &ProcessReport, units: Units) -> String {
    let (start, end) = (process.rss_start_bytes, process.rss_end_bytes);
    let pages = process.pages_after.map(|pages| {
        format!(
            " (PSS {}, private {})",
            units.bytes(pages.pss_bytes),
            units.bytes(pages.private_bytes)
        )
    });
    format!(
        "RSS {} -> {}{}; own live {}, never freed {}",
        units.bytes(start),
        units.bytes(end),
        pages.unwrap_or_default(),
        units.bytes(process.live.bytes),
        blocks(process.survivors, units),
    )
}

/// What it has of its parent is not its own.
fn inherited(process: &ProcessReport, units: Units) -> Option<String> {
    let inherited = process.inherited.filter(|it| it.at_fork.count > 0)?;
    let at_fork = blocks(inherited.at_fork, units);
    Some(match process.inherited_live {
        Some(live) => format!(
            "inherited from its parent at the fork: {at_fork}, of which {} {} still there",
            blocks(live, units),
            if live.count == 1 { "is" } else { "are" },
        ),
        None => format!(
            "inherited from its parent at the fork: {at_fork}; too many to follow what is freed"
        ),
    })
}

fn times(process: &ProcessReport) -> String {
    let parent = process.parent.map_or("given".to_owned(), |pid| format!("child of {pid}"));
    let begun = match (process.began_ns, process.unseen_ns) {
        (began_ns, Some(unseen_ns)) => format!(
            ", traced from {} on ({} after its fork: what it did before was not seen)",
            duration_ns(began_ns),
            duration_ns(unseen_ns)
        ),
        (0, None) => String::new(),
        (began_ns, None) => format!(", traced from {} on", duration_ns(began_ns)),
    };
    let end =
        process.ended_ns.map_or(String::new(), |at| format!(", ended at {}", duration_ns(at)));
    format!("{parent}{begun}{end}; {} event{}", count(process.events), plural(process.events))
}

fn lost(process: &ProcessReport) -> String {
    let losses: Vec<String> =
        process.losses.iter().map(|loss| format!("{} {}", count(loss.count), loss.name)).collect();
    format!("INCOMPLETE: {}", losses.join(", "))
}
