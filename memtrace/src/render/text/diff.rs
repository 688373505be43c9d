//! Two captures side by side: what grew, where.

use std::io;

use super::{
    TextOptions,
    page::{Page, Style, cut},
    rss_table::{LABEL_COLUMNS, label},
    sites::{counted, cut_to_fit, write_stack},
};
use crate::{
    diff::{Diff, GroupChange, RssChange, RssRowChange, Side},
    model::size::{Units, count},
    render::{
        diff::{headline, program, rates, sides, signed_blocks, totals, verdict},
        label::plural,
    },
};

/// Rows of the table of RSS that changed by less than this part of the larger RSS are left out.
const SMALL_PARTS: u64 = 1000;

/// The column where a group's text begins.
const INDENT: usize = 4;

/// Writes the difference.
///
/// # Errors
/// Those of the writer.
pub fn write(diff: &Diff, options: TextOptions, out: &mut impl io::Write) -> io::Result<()> {
    let mut page = Page::new(options);
    header(&mut page, diff);
    if let Some(table) = &diff.rss_table {
        rss_table(&mut page, table);
    }
    groups(&mut page, diff, options.top);
    remarks(&mut page, diff);
    out.write_all(page.finish().as_bytes())
}

fn header(page: &mut Page, diff: &Diff) {
    let units = page.units();
    page.prose(Some(Style::Strong), 0, &format!("{}.", headline(diff, units)));
    diff.warnings.iter().for_each(|warning| page.prose(Some(Style::Warning), 0, warning));
    page.gap();
    for (label, side) in [("before", &diff.before), ("after", &diff.after)] {
        page.field(label, &format!("{}: {}", side.name, program(side)));
    }
    page.field("in all", &sides(&diff.total, units));
    page.field("by time", &rates(diff.total_rate, units));
    page.field("RSS", &rss(diff, units));
    match (verdict(&diff.before), verdict(&diff.after)) {
        (before, after) if before == after => page.field("verdicts", &format!("both: {after}")),
        (before, after) => {
            page.field("verdicts", &format!("before: {before}"));
            page.field("", &format!("after: {after}"));
        }
    }
}

fn rss(diff: &Diff, units: Units) -> String {
    let end = |side: &Side| side.rss.end_bytes;
    let growth = end(&diff.after).wrapping_sub(end(&diff.before)) as i64;
    let within = |side: &Side| {
        units.signed_bytes(side.rss.end_bytes.wrapping_sub(side.rss.start_bytes) as i64)
    };
    format!(
        "{} -> {} at the ends ({}); in the windows {} and {}",
        units.bytes(end(&diff.before)),
        units.bytes(end(&diff.after)),
        units.signed_bytes(growth),
        within(&diff.before),
        within(&diff.after),
    )
}

fn rss_table(page: &mut Page, table: &RssChange) {
    let units = page.units();
    let signed = |bytes: i64| {
        let sign = if bytes < 0 { "-" } else { "" };
        format!("{sign}{}", units.bytes(bytes.unsigned_abs()))
    };
    let row = |label: &str, before: i64, after: i64| {
        let growth = match after.wrapping_sub(before) {
            0 => String::new(),
            growth => units.signed_bytes(growth),
        };
        let label = cut(label, LABEL_COLUMNS);
        let (before, after) = (signed(before), signed(after));
        format!("{label:LABEL_COLUMNS$} {before:>11} {after:>11} {growth:>13}")
            .trim_end()
            .to_owned()
    };
    page.gap();
    let heading =
        format!("{:LABEL_COLUMNS$} {:>11} {:>11} {:>13}", "RSS", "before", "after", "growth");
    page.line(Some(Style::Faint), &heading);
    let small = table.before_bytes.max(table.after_bytes) / SMALL_PARTS;
    let (shown, hidden): (Vec<&RssRowChange>, Vec<&RssRowChange>) =
        table.rows.iter().partition(|row| row.growth_bytes.unsigned_abs() > small);
    for it in &shown {
        page.line(None, &row(&label(it.kind, &table.opaque), it.before_bytes, it.after_bytes));
    }
    if !hidden.is_empty() {
        let [before, after] = hidden.iter().fold([0_i64; 2], |[before, after], it| {
            [before.saturating_add(it.before_bytes), after.saturating_add(it.after_bytes)]
        });
        let number = hidden.len() as u64;
        let name = format!("{number} row{} that hardly differ{}", plural(number), {
            if number == 1 { "s" } else { "" }
        });
        page.line(Some(Style::Faint), &row(&name, before, after));
    }
    let all = row("RSS", table.before_bytes as i64, table.after_bytes as i64);
    page.line(Some(Style::Strong), &all);
}

fn groups(page: &mut Page, diff: &Diff, top: usize) {
    page.gap();
    if diff.groups.is_empty() {
        let text = format!("In neither window is anything that was {}.", diff.view.label());
        return page.prose(None, 0, &text);
    }
    let number = counted(diff.grouped_by, diff.groups.len() as u64);
    let heading =
        format!("{number}: {}; on {} stacks", totals(diff), count(diff.sites.len() as u64));
    page.prose(Some(Style::Strong), 0, &heading);
    let grown = diff.groups.iter().filter(|it| it.change.growth_bytes > 0).collect::<Vec<_>>();
    let less = |it: &&GroupChange| it.change.growth_bytes < 0;
    let shrunk = diff.groups.iter().rev().filter(less).collect::<Vec<_>>();
    for (index, group) in grown.iter().take(top).enumerate() {
        page.gap();
        write_group(page, diff, group, &format!("#{}", index + 1));
        let Some(site) = diff.sites.get(group.largest_site) else { continue };
        write_stack(page, site.function, &site.stack, site.key_frame);
    }
    hidden(page, &grown, top);
    for group in shrunk.iter().take(top) {
        page.gap();
        write_group(page, diff, group, "-");
    }
    hidden(page, &shrunk, top);
}

fn write_group(page: &mut Page, diff: &Diff, group: &GroupChange, mark: &str) {
    let units = page.units();
    let change = &group.change;
    let head = format!("{}, {}", signed_blocks(change, units), change.status.label());
    page.line(Some(Style::Strong), &format!("{mark:<INDENT$}{head}"));
    let title = cut_to_fit(&group.name.frame(), page.room(INDENT));
    page.line(Some(Style::Strong), &format!("{:INDENT$}{title}", ""));
    page.prose(None, INDENT, &sides(change, units));
    if diff.lengths_differ {
        page.prose(None, INDENT, &rates(group.rate, units));
    }
    if group.sites > 1 {
        let more = if change.growth_bytes > 0 { "; the one that changed the most:" } else { "" };
        page.prose(None, INDENT, &format!("on {} stacks{more}", count(group.sites)));
    }
}

fn hidden(page: &mut Page, groups: &[&GroupChange], top: usize) {
    let hidden = groups.get(top..).unwrap_or_default();
    if hidden.is_empty() {
        return;
    }
    let bytes = hidden.iter().fold(0, |sum: i64, it| sum.saturating_add(it.change.growth_bytes));
    let number = count(hidden.len() as u64);
    page.gap();
    page.prose(
        None,
        0,
        &format!("... {number} more with {} (--top)", page.units().signed_bytes(bytes)),
    );
}

/// What is to be known of either capture.
fn remarks(page: &mut Page, diff: &Diff) {
    for (which, side) in [("before", &diff.before), ("after", &diff.after)] {
        let losses =
            side.losses.iter().map(|loss| format!("{} {}", count(loss.count), loss.sentence));
        for (index, text) in losses.chain(side.notes.iter().cloned()).enumerate() {
            if index == 0 {
                page.gap();
                page.prose(
                    Some(Style::Warning),
                    0,
                    &format!("To be known of the capture {which}:"),
                );
            }
            page.prose(None, INDENT, &text);
        }
    }
}
