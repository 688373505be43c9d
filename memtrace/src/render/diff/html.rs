//! One page with everything in it: no network, no other file. The flamegraph is the one of
//! [`super::flamegraph`], in place.

use std::io::{self, Write as _};

use super::{flamegraph, headline, program, rates, sides, totals, verdict};
use crate::{
    diff::{Diff, GroupChange, RssChange, Status},
    model::size::{Units, count},
    render::{
        label::{clean, described_long, plural},
        text::rss_table,
    },
};

const STYLE: &str = include_str!("style.css");

/// Groups in the table. Those beyond change little, and are in the JSON.
const GROUPS: usize = 500;

/// Nothing is loaded from anywhere; the flamegraph's own script may run.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// Writes the page.
///
/// # Errors
/// Those of the writer.
pub fn write(diff: &Diff, units: Units, out: &mut impl io::Write) -> io::Result<()> {
    let title = headline(diff, units);
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n",
        title = escape(&title),
    )?;
    summary(diff, units, out)?;
    if let Some(table) = &diff.rss_table {
        rss(table, units, out)?;
    }
    groups(diff, units, out)?;
    writeln!(out, "<h2>Where it grew</h2>\n<div class=\"graph\">")?;
    out.write_all(picture(diff, units)?.as_bytes())?;
    writeln!(out, "</div>\n</body>\n</html>")
}

fn summary(diff: &Diff, units: Units, out: &mut impl io::Write) -> io::Result<()> {
    for warning in &diff.warnings {
        writeln!(out, "<p class=\"warning\">{}</p>", escape(warning))?;
    }
    let mut facts =
        vec![(format!("all that was {}", diff.view.label()), sides(&diff.total, units))];
    facts.push(("by time".to_owned(), rates(diff.total_rate, units)));
    for (label, side) in [("before", &diff.before), ("after", &diff.after)] {
        facts.push((label.to_owned(), format!("{}: {}", side.name, program(side))));
        facts.push((format!("verdict {label}"), verdict(side)));
        let losses = side.losses.iter().map(|it| format!("{} {}", count(it.count), it.sentence));
        let notes = losses.chain(side.notes.iter().cloned());
        facts.extend(notes.map(|note| (format!("of {label}"), note)));
    }
    writeln!(out, "<dl>")?;
    for (label, text) in facts {
        writeln!(out, "<dt>{}</dt><dd>{}</dd>", escape(&label), escape(&text))?;
    }
    writeln!(out, "</dl>")
}

fn rss(table: &RssChange, units: Units, out: &mut impl io::Write) -> io::Result<()> {
    writeln!(
        out,
        "<h2>What RSS is made of</h2>\n<div class=\"wide\"><table>\n<thead><tr><th scope=\"col\">part</th>\
         <th scope=\"col\">growth</th><th scope=\"col\">before</th><th scope=\"col\">after</th></tr>\
         </thead>\n<tbody>"
    )?;
    let [before, after] = [table.before_bytes, table.after_bytes].map(|bytes| bytes as i64);
    let rows = table
        .rows
        .iter()
        .map(|row| (rss_table::label(row.kind, &table.opaque), row.before_bytes, row.after_bytes));
    for (label, before, after) in rows.chain([("RSS".to_owned(), before, after)]) {
        let growth = after.wrapping_sub(before);
        writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"{}\">{}</td><td>{}</td><td>{}</td></tr>",
            escape(&label),
            class(growth),
            units.signed_bytes(growth),
            size(before, units),
            size(after, units),
        )?;
    }
    writeln!(out, "</tbody></table></div>")
}

fn size(bytes: i64, units: Units) -> String {
    match bytes {
        ..0 => units.signed_bytes(bytes),
        _ => units.bytes(bytes.unsigned_abs()),
    }
}

fn class(growth_bytes: i64) -> &'static str {
    match growth_bytes {
        ..0 => "less",
        0 => "same",
        1.. => "more",
    }
}

fn groups(diff: &Diff, units: Units, out: &mut impl io::Write) -> io::Result<()> {
    let heading = if diff.groups.is_empty() { "nothing".to_owned() } else { totals(diff) };
    writeln!(out, "<h2>Places: {heading}</h2>")?;
    writeln!(
        out,
        "<div class=\"wide\"><table>\n<thead><tr><th scope=\"col\">place</th>\
         <th scope=\"col\">growth</th><th scope=\"col\">before</th><th scope=\"col\">after</th>\
         <th scope=\"col\">blocks</th><th scope=\"col\">a second</th><th scope=\"col\"></th></tr>\
         </thead>\n<tbody>"
    )?;
    let chosen = chosen(&diff.groups);
    chosen.iter().try_for_each(|group| self::group(diff, group, units, out))?;
    writeln!(out, "</tbody></table></div>")?;
    match diff.groups.len() - chosen.len() {
        0 => Ok(()),
        more => writeln!(
            out,
            "<p>{} more place{} that changed less: see --format json.</p>",
            count(more as u64),
            plural(more as u64)
        ),
    }
}

/// The ones that grew the most and those that shrank the most, in their order.
fn chosen(groups: &[GroupChange]) -> Vec<&GroupChange> {
    let half = GROUPS / 2;
    match groups.len() {
        0..=GROUPS => groups.iter().collect(),
        all => groups[..half].iter().chain(&groups[all - half..]).collect(),
    }
}

fn group(
    diff: &Diff,
    group: &GroupChange,
    units: Units,
    out: &mut impl io::Write,
) -> io::Result<()> {
    let change = &group.change;
    let status = if change.status == Status::Unchanged { "" } else { change.status.label() };
    writeln!(
        out,
        "<tr><th scope=\"row\"><details><summary>{}</summary><ol>{}</ol></details></th>\
         <td class=\"{}\">{}</td><td>{}</td><td>{}</td><td>{} &rarr; {}</td><td>{}</td>\
         <td>{status}</td></tr>",
        escape(&described_long(&group.name.frame())),
        stack(diff, group),
        class(change.growth_bytes),
        units.signed_bytes(change.growth_bytes),
        units.bytes(change.before.bytes),
        units.bytes(change.after.bytes),
        count(change.before.count),
        count(change.after.count),
        escape(&rates(group.rate, units).replace(" a second", "")),
    )
}

/// Of the place that changed the most.
fn stack(diff: &Diff, group: &GroupChange) -> String {
    let Some(site) = diff.sites.get(group.largest_site) else { return String::new() };
    let frames = site.stack.frames.iter().map(|frame| described_long(frame));
    let missing = site.stack.missing_root.iter().map(|label| label.to_string());
    let all = [site.function.to_owned()].into_iter().chain(frames).chain(missing);
    all.map(|frame| format!("<li>{}</li>", escape(&frame))).collect()
}

/// Without what is before the element, which is for files.
fn picture(diff: &Diff, units: Units) -> io::Result<String> {
    let mut svg = Vec::new();
    flamegraph::write(diff, units, &mut svg)?;
    svg.flush()?;
    let svg = String::from_utf8(svg).map_err(io::Error::other)?;
    let start = svg.find("<svg").unwrap_or(0);
    Ok(svg[start..].to_owned())
}

fn escape(text: &str) -> String {
    let clean = clean(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    clean.replace('"', "&quot;").replace('\'', "&#39;")
}
