//! Who obtained what survives, where that was asked for.

use crate::{
    model::size::count,
    render::{
        estimate,
        label::{clean, plural},
    },
    report::{Report, ThreadShare},
};

use super::page::{Page, Style};

/// Most that are shown; all are in the JSON report.
const SHOWN: usize = 8;

/// The column where a thread's text begins.
const INDENT: usize = 4;

pub(super) fn write(page: &mut Page, report: &Report) {
    if report.threads.is_empty() {
        return;
    }
    page.gap();
    page.prose(Some(Style::Strong), 0, "Threads, by what they obtained and nobody freed");
    for thread in report.threads.iter().take(SHOWN) {
        let text = described(page, thread);
        page.prose(None, INDENT, &text);
    }
    let more = report.threads.len().saturating_sub(SHOWN) as u64;
    if more > 0 {
        let text = format!("... {} more thread{}", count(more), plural(more));
        page.prose(Some(Style::Faint), INDENT, &text);
    }
}

fn described(page: &Page, thread: &ThreadShare) -> String {
    let name = thread.name.as_ref().map_or(String::new(), |name| format!(" ({})", clean(name)));
    let [kept, live, allocated] = [thread.survivors, thread.live, thread.allocated]
        .map(|amount| estimate::bytes(amount, page.units()));
    format!("{}{name}: {kept} never freed, {live} live of {allocated} allocated", thread.tid)
}
