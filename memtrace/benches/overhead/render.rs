//! Results as a table, for a terminal or for a document.

use std::fmt::Write as _;

use memtrace::model::size;

use crate::{
    matrix,
    results::{Requirement, Results, Row, Unit},
};

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub enum Format {
    Text,
    Markdown,
}

const HEAD: [&str; 6] = ["figure", "min", "median", "max", "required", ""];

/// The whole of it.
pub fn render(results: &Results, format: Format) -> String {
    let mut text = format!("{}\n", results.machine);
    if results.quick {
        text.push_str("A quick look: few rounds, short runs.\n");
    }
    if let Some(lines) = matrix::lines(results) {
        table(&mut text, matrix::TITLE, &lines, format);
    }
    for group in groups(results) {
        let of = results.rows.iter().filter(|row| row.group == group);
        let head = HEAD.map(str::to_owned).to_vec();
        let lines: Vec<_> = std::iter::once(head).chain(of.map(cells)).collect();
        table(&mut text, group, &lines, format);
    }
    if !results.commands.is_empty() {
        text.push_str("\nWhat was run, by hand:\n\n");
    }
    for command in &results.commands {
        let _ = writeln!(text, "- {}: `{}`", command.about, command.text);
    }
    for skipped in &results.skipped {
        // Writing to a string cannot fail.
        let _ = write!(text, "\nNot measured: {}.\n", skipped.text);
    }
    text
}

/// In the order of their first figures: later ones may have been added elsewhere meanwhile.
fn groups(results: &Results) -> Vec<&str> {
    let mut groups = Vec::new();
    for row in &results.rows {
        if !groups.contains(&row.group.as_str()) {
            groups.push(row.group.as_str());
        }
    }
    groups
}

fn cells(row: &Row) -> Vec<String> {
    let write = |value| written(value, row.unit);
    let mark = row.passes().map_or("", |passes| if passes { "pass" } else { "FAIL" });
    vec![
        row.name.clone(),
        write(row.min),
        write(row.median),
        write(row.max),
        row.requirement.map(|required| requirement(required, row.unit)).unwrap_or_default(),
        mark.to_owned(),
    ]
}

fn requirement(requirement: Requirement, unit: Unit) -> String {
    match requirement {
        Requirement::MedianAtMost(limit) => format!("≤ {}", written(limit, unit)),
        Requirement::MedianAtLeast(limit) => format!("≥ {}", written(limit, unit)),
        Requirement::AllBelow(limit) => format!("< {}", written(limit, unit)),
        Requirement::AllEqual(value) => format!("= {}", written(value, unit)),
        Requirement::AllAtLeast(value) => format!("≥ {}", written(value, unit)),
    }
}

fn written(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Ns if value < 1e4 => format!("{value:.0} ns"),
        Unit::Ns if value < 1e6 => format!("{:.1} µs", value / 1e3),
        Unit::Ns => format!("{:.0} ms", value / 1e6),
        Unit::Bytes => size::bytes(value as u64),
        Unit::Ratio => slow_down(value),
        // Rounded down: 99.999 % are not all.
        Unit::Percent => format!("{:.3} %", (value * 1e3).floor() / 1e3),
        Unit::Decimal => format!("{value:.1}"),
        Unit::Count => format!("{value:.0}"),
        Unit::Rank if value == 0.0 => "not there".to_owned(),
        Unit::Rank => format!("{value:.0}"),
        Unit::PerSecond if value < 1e4 => format!("{value:.0}/s"),
        Unit::PerSecond => format!("{:.0}k/s", value / 1e3),
        Unit::BytesPerSecond => format!("{:.0} MB/s", value / 1e6),
    }
}

fn table(text: &mut String, group: &str, lines: &[Vec<String>], format: Format) {
    match format {
        Format::Text => text_table(text, group, lines),
        Format::Markdown => markdown_table(text, group, lines),
    }
}

fn text_table(text: &mut String, group: &str, lines: &[Vec<String>]) {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let _ = write!(text, "\n{group}\n");
    for line in lines {
        let _ = write!(text, "  {:<width$}", line[0], width = width(0).unwrap_or(0));
        for (column, cell) in line.iter().enumerate().skip(1) {
            let _ = write!(text, "  {cell:>width$}", width = width(column).unwrap_or(0));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
}

fn markdown_table(text: &mut String, group: &str, lines: &[Vec<String>]) {
    let _ = write!(text, "\n### {group}\n\n");
    for (index, line) in lines.iter().enumerate() {
        let _ = writeln!(text, "| {} |", line.join(" | "));
        if index == 0 {
            text.push_str(&rule(line));
        }
    }
}

/// Figures are aligned to the right; the first column, and the last where it has no name, are not.
fn rule(head: &[String]) -> String {
    let columns = head.iter().enumerate();
    let words = columns.map(|(column, name)| column == 0 || name.is_empty());
    let cells: Vec<&str> = words.map(|is_words| if is_words { "---" } else { "---:" }).collect();
    format!("|{}|\n", cells.join("|"))
}

/// A quotient, with as many digits as mean something.
pub fn slow_down(ratio: f64) -> String {
    match ratio {
        ratio if ratio < 10.0 => format!("{ratio:.2}x"),
        ratio if ratio < 100.0 => format!("{ratio:.1}x"),
        ratio => format!("{ratio:.0}x"),
    }
}
