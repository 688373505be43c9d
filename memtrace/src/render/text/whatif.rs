//! What other allocators and settings would have made of the same calls: a table.

use std::io;

use super::{
    TextOptions,
    page::{Page, Style},
};
use crate::{
    model::size::{Units, count, duration_ns},
    whatif::result::{Outcome, Row, WhatIf},
};

/// Columns of the names; longer ones push the rest.
const NAME_COLUMNS: usize = 28;

/// Writes the table.
///
/// # Errors
/// Those of the writer.
pub fn write(result: &WhatIf, options: TextOptions, out: &mut impl io::Write) -> io::Result<()> {
    let mut page = Page::new(options);
    page.prose(Some(Style::Strong), 0, &result.summary);
    page.gap();
    header(&mut page, result);
    page.gap();
    table(&mut page, result);
    if !result.notes.is_empty() {
        page.gap();
        result.notes.iter().for_each(|note| page.prose(None, 0, note));
    }
    out.write_all(page.finish().as_bytes())
}

fn header(page: &mut Page, result: &WhatIf) {
    let units = page.units();
    let WhatIf { program, target, .. } = result;
    page.field("target", &format!("{} (pid {}), {}", result.command, result.pid, target.allocator));
    page.field(
        "replayed",
        &format!("{} calls in {}", count(program.calls), duration_ns(result.window_ns)),
    );
    if program.seeded_chunks > 0 {
        page.field(
            "at first",
            &format!(
                "{} chunks in use ({}) and {} free between them, as at the attach",
                count(program.seeded_chunks),
                units.bytes(program.seeded_bytes),
                units.bytes(program.seeded_free_bytes)
            ),
        );
    }
    if let Some(heap_bytes) = target.heap_bytes {
        let other = target.other_bytes().unwrap_or(0);
        page.field(
            "real",
            &format!(
                "heap {} at the end, and {} of other RSS",
                units.bytes(heap_bytes),
                units.bytes(other)
            ),
        );
    }
    if let Some(error) = result.error {
        let (at_end, mean) = (100.0 * error.at_end, 100.0 * error.mean);
        page.field(
            "error",
            &format!("the first row is {at_end:+.1} % off what was real at the end, {mean:.1} % on average"),
        );
    }
}

fn table(page: &mut Page, result: &WhatIf) {
    let head = ["peak", "end", "RSS", "ratio", "CPU"];
    let cells = head.map(|it| format!("{it:>11}")).concat();
    page.line(Some(Style::Faint), &format!("{:NAME_COLUMNS$}{cells}", "heap under"));
    for row in &result.variants {
        page.line(style(row), &line(row, page.units()));
    }
}

fn style(row: &Row) -> Option<Style> {
    match row.outcome {
        Outcome::Done => None,
        Outcome::OverLimit | Outcome::Failed { .. } => Some(Style::Warning),
        Outcome::NotFound { .. } | Outcome::Nothing => Some(Style::Faint),
    }
}

fn line(row: &Row, units: Units) -> String {
    let name = &row.name;
    let said = match &row.outcome {
        Outcome::Done => {
            let rss = row.rss_bytes.map_or(String::new(), |bytes| units.bytes(bytes));
            let ratio = row.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
            let cells = [units.bytes(row.peak_bytes), units.bytes(row.end_bytes), rss, ratio];
            let cells = cells.map(|it| format!("{it:>11}")).concat();
            let refused = match row.refused {
                0 => String::new(),
                refused => format!("  {} calls refused", count(refused)),
            };
            format!("{cells}{:>11}{refused}", duration_ns(row.cpu_ns))
        }
        Outcome::OverLimit => {
            format!("  stopped: more than --max-rss, {} and rising", units.bytes(row.peak_bytes))
        }
        Outcome::NotFound { package } => {
            format!("  not on this machine: install {package}, or give --lib")
        }
        Outcome::Failed { reason } => format!("  failed: {}", crate::render::label::clean(reason)),
        Outcome::Nothing => String::new(),
    };
    format!("{:NAME_COLUMNS$}{said}", crate::render::label::clean(name))
}
