//! Who keeps free memory from being given back, in a report.

use super::page::{Page, Style, cut};
use crate::{
    model::size::{count, duration_ns},
    render::label::clean,
    report::{BlameReport, CulpritKind, CulpritReport, NeighbourReport, Report},
};

/// Below this part of what is in memory nobody would look for it.
const WORTH_SHOWING: u64 = 20;

/// Of a culprit's name, at least.
const NAME_COLUMNS: usize = 24;

/// With the numbers behind it.
const NUMBER_COLUMNS: usize = 53;

/// More are in the JSON report.
const MOST_CULPRITS: usize = 5;

/// The largest part that a culprit may have and be left out: a hundredth.
const SMALL_PARTS: u64 = 100;

/// Indent of what belongs to the line above.
const INDENT: usize = 4;

/// Writes it, where it is worth it.
pub(super) fn write(page: &mut Page, report: &Report) {
    let Some(blame) = &report.blame else { return };
    let heap_bytes = report.heap.as_ref().map_or(0, |heap| heap.heap_resident_bytes);
    if blame.trapped_bytes == 0 || blame.trapped_bytes < heap_bytes / WORTH_SHOWING {
        return;
    }
    page.gap();
    let columns = page.room(NUMBER_COLUMNS).clamp(NAME_COLUMNS, 60);
    let heading = format!("What pins the {} trapped", page.units().bytes(blame.trapped_bytes));
    let numbers = ["trapped", "exclusive", "drop", "ratio", "age"];
    page.line(Some(Style::Faint), &row(&cut(&heading, columns), columns, numbers));
    let worth = |it: &&CulpritReport| it.trapped_bytes > blame.trapped_bytes / SMALL_PARTS;
    let shown: Vec<_> = blame.culprits.iter().filter(worth).take(MOST_CULPRITS).collect();
    for culprit in &shown {
        let text = line(culprit, columns, page);
        page.line(style(culprit), &text);
    }
    remarks(page, blame, &shown);
}

fn row(name: &str, columns: usize, [trapped, exclusive, drop, ratio, age]: [&str; 5]) -> String {
    format!("{name:columns$} {trapped:>10} {exclusive:>10} {drop:>10} {ratio:>8} {age:>10}")
}

fn style(culprit: &CulpritReport) -> Option<Style> {
    (culprit.name.kind != CulpritKind::Site).then_some(Style::Faint)
}

fn line(culprit: &CulpritReport, columns: usize, page: &Page) -> String {
    let units = page.units();
    let ratio = match culprit.pin_ratio {
        Some(ratio) if ratio >= 10.0 => format!("{ratio:.0} x"),
        Some(ratio) => format!("{ratio:.1} x"),
        None => String::new(),
    };
    let numbers = [
        units.bytes(culprit.trapped_bytes),
        units.bytes(culprit.exclusive_bytes),
        units.bytes(culprit.drop_bytes),
        ratio,
        culprit.median_age_ns.map(duration_ns).unwrap_or_default(),
    ];
    let name = cut(&clean(&culprit.name.name), columns);
    row(&name, columns, numbers.each_ref().map(String::as_str))
}

fn remarks(page: &mut Page, blame: &BlameReport, shown: &[&CulpritReport]) {
    let units = page.units();
    if let Some(first) = shown.iter().find(|it| it.name.kind == CulpritKind::Site) {
        let text = format!(
            "{} blocks of {} ({}) hold {} of free memory; without them and after malloc_trim(0), RSS \
             would be {} lower",
            count(first.chunks),
            first.name.name,
            units.bytes(first.chunk_bytes),
            units.bytes(first.trapped_bytes),
            units.bytes(first.drop_bytes),
        );
        page.prose(None, INDENT, &text);
    }
    shown.iter().for_each(|culprit| neighbours(page, culprit));
    let unknown = 100.0 * (1.0 - blame.coverage);
    if unknown >= 0.5 {
        let text = format!("{unknown:.0} % of what is in use has no known site");
        page.prose(Some(Style::Faint), INDENT, &text);
    }
    if blame.left_out_bytes > 0 {
        let text = format!("{} of the heap was not looked at", units.bytes(blame.left_out_bytes));
        page.prose(Some(Style::Warning), INDENT, &text);
    }
    for arena in &blame.stranded {
        let holder = arena.holders.first().map_or("nobody", |it| it.name.name.as_str());
        let text = format!(
            "no thread uses arena {} any more: {} stay in memory, most of it in use is of {holder}",
            arena.arena,
            units.bytes(arena.resident_bytes),
        );
        page.prose(None, INDENT, &text);
    }
}

/// Whose blocks lay in the holes that it keeps.
fn neighbours(page: &mut Page, culprit: &CulpritReport) {
    let units = page.units();
    let of = |it: &NeighbourReport| format!("{} ({})", it.name.name, units.bytes(it.bytes));
    let names: Vec<String> = culprit.neighbours.iter().map(of).collect();
    if !names.is_empty() {
        let text = format!("{} pins holes left by {}", culprit.name.name, names.join(", "));
        page.prose(None, INDENT, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        render::text::{TextOptions, write},
        report::{blame::CulpritName, sample},
    };

    const MIB: u64 = 1 << 20;

    fn culprit(kind: CulpritKind, name: &str, trapped_bytes: u64) -> CulpritReport {
        CulpritReport {
            name: CulpritName { kind, name: name.to_owned(), group: None },
            trapped_bytes,
            exclusive_bytes: trapped_bytes / 2,
            drop_bytes: trapped_bytes,
            chunk_bytes: MIB,
            chunks: 21_845,
            pin_ratio: Some(trapped_bytes as f64 / MIB as f64),
            median_age_ns: Some(90_000_000_000),
            ..CulpritReport::default()
        }
    }

    fn text(width: Option<usize>, trapped_mib: u64) -> String {
        let mut report = sample::leaking();
        let site =
            culprit(CulpritKind::Site, "session_new (server.c:42)", 3 * trapped_mib / 4 * MIB);
        let old =
            culprit(CulpritKind::BeforeAttach, "allocated before attach", trapped_mib / 4 * MIB);
        report.blame = Some(BlameReport {
            trapped_bytes: trapped_mib * MIB,
            coverage: 0.4,
            left_out_bytes: MIB,
            culprits: vec![site, old, culprit(CulpritKind::Site, "small", 1)],
            ..BlameReport::default()
        });
        let mut page = Vec::new();
        write(&report, TextOptions { width, ..TextOptions::default() }, &mut page).unwrap();
        String::from_utf8(page).unwrap()
    }

    #[test]
    fn those_who_pin_much_are_listed_and_what_is_not_known_is_said() {
        let shown = text(None, 400);
        let line = shown.lines().find(|line| line.starts_with("session_new")).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            words[2..],
            ["300.0", "MiB", "150.0", "MiB", "300.0", "MiB", "300", "x", "90.0", "s"]
        );
        assert!(shown.contains("What pins the 400.0 MiB trapped"), "{shown}");
        assert!(shown.contains("RSS would be 300.0 MiB lower"), "{shown}");
        assert!(shown.contains("60 % of what is in use has no known site"), "{shown}");
        assert!(shown.contains("1.0 MiB of the heap was not looked at"), "{shown}");
        assert!(!shown.contains("small "), "{shown}");
    }

    #[test]
    fn lines_fit_the_terminal_and_little_is_not_worth_them() {
        let shown = text(Some(80), 400);
        let lines: Vec<&str> = shown.lines().filter(|line| line.contains(" x ")).collect();
        assert_eq!(lines.len(), 2, "{shown}");
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:?}");
        assert!(!text(Some(80), 4).contains("What pins"));
    }
}
