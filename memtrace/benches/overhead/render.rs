//! Results as a table, for a terminal or for a document.

use std::fmt::Write as _;

use memtrace::model::size;

use crate::results::{Requirement, Results, Row, Unit};

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
    let mut groups: Vec<&str> = results.rows.iter().map(|row| row.group.as_str()).collect();
    groups.dedup();
    for group in groups {
        let of = results.rows.iter().filter(|row| row.group == group);
        let lines: Vec<_> = std::iter::once(HEAD.map(str::to_owned)).chain(of.map(cells)).collect();
        match format {
            Format::Text => text_table(&mut text, group, &lines),
            Format::Markdown => markdown_table(&mut text, group, &lines),
        }
    }
    for skipped in &results.skipped {
        // Writing to a string cannot fail.
        let _ = write!(text, "\nNot measured: {skipped}.\n");
    }
    text
}

fn cells(row: &Row) -> [String; 6] {
    let write = |value| written(value, row.unit);
    let mark = row.passes().map_or("", |passes| if passes { "pass" } else { "FAIL" });
    [
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
        Unit::Ratio => format!("{value:.2}x"),
        // Rounded down: 99.999 % are not all.
        Unit::Percent => format!("{:.3} %", (value * 1e3).floor() / 1e3),
        Unit::Decimal => format!("{value:.1}"),
        Unit::Count => format!("{value:.0}"),
        Unit::PerSecond => format!("{:.0}k/s", value / 1e3),
        Unit::BytesPerSecond => format!("{:.0} MB/s", value / 1e6),
    }
}

fn text_table(text: &mut String, group: &str, lines: &[[String; 6]]) {
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

fn markdown_table(text: &mut String, group: &str, lines: &[[String; 6]]) {
    let _ = write!(text, "\n### {group}\n\n");
    for (index, line) in lines.iter().enumerate() {
        let _ = writeln!(text, "| {} |", line.join(" | "));
        if index == 0 {
            text.push_str("|---|---:|---:|---:|---:|---|\n");
        }
    }
}
