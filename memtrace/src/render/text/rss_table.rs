//! The table that adds up to RSS, in a report: what there is, and what it grew by.

use super::page::{Page, Style, cut};
use crate::{
    model::{
        census::{OpaqueAllocator, RssKind, RssRow, RssTable},
        size::{Units, count, duration_ns},
    },
    render::label::{clean, plural},
    report::{HeapReport, Report},
};

/// Of a row's name.
pub(super) const LABEL_COLUMNS: usize = 32;

/// Rows below this share of RSS, and of what it grew by, are put together.
const SMALL_PARTS: u64 = 100;

/// With a name, bytes and a share.
const ROW_COLUMNS: usize = LABEL_COLUMNS + 21;
/// What it grew by, and the space before.
const GROWTH_COLUMNS: usize = 14;

/// Indent of what belongs to the line above.
const INDENT: usize = 4;

/// Writes the table, if the heap was walked.
pub(super) fn write(page: &mut Page, report: &Report) {
    let (Some(table), Some(heap)) = (&report.rss_table, &report.heap) else { return };
    let has_room = page.room(0) >= ROW_COLUMNS + GROWTH_COLUMNS;
    let before = report.rss_table_before.as_ref().filter(|_| has_room);
    page.gap();
    page.line(Some(Style::Faint), &heading(before.is_some(), report, heap));
    let (large, small) = rows(table, before);
    for row in &large {
        page.line(
            style(&row.row()),
            &row.text(&label(row.kind, &heap.opaque), table.rss_bytes, page.units()),
        );
    }
    if let Some((rest, together)) = small {
        let name = format!("{rest} smaller row{}", plural(rest));
        page.line(Some(Style::Faint), &together.text(&name, table.rss_bytes, page.units()));
    }
    let total = Line {
        kind: RssKind::Remainder,
        resident_bytes: table.rss_bytes as i64,
        grown_bytes: before.map(|before| table.rss_bytes as i64 - before.rss_bytes as i64),
    };
    page.line(Some(Style::Strong), &total.text("RSS", table.rss_bytes, page.units()));
    older(page, heap, table.rss_bytes);
    remarks(page, heap);
}

fn heading(has_growth: bool, report: &Report, heap: &HeapReport) -> String {
    let early_ns = report.window.duration_ns.saturating_sub(heap.at_ns + heap.duration_ns);
    let when = match early_ns {
        0..1_000_000_000 => "at the end".to_owned(),
        early => format!("{} before the end", duration_ns(early)),
    };
    let growth = if has_growth { "since attach" } else { "" };
    let when = format!("RSS {when}");
    format!("{when:LABEL_COLUMNS$} {:>11} {:>8} {growth:>13}", "", "").trim_end().to_owned()
}

/// A row with what it grew by.
#[derive(Clone, Copy)]
struct Line {
    kind: RssKind,
    resident_bytes: i64,
    grown_bytes: Option<i64>,
}

impl Line {
    fn row(&self) -> RssRow {
        RssRow { kind: self.kind, resident_bytes: self.resident_bytes }
    }

    fn text(&self, label: &str, rss_bytes: u64, units: Units) -> String {
        let sign = if self.resident_bytes < 0 { "-" } else { "" };
        let size = format!("{sign}{}", units.bytes(self.resident_bytes.unsigned_abs()));
        let grown = match self.grown_bytes {
            Some(0) | None => String::new(),
            Some(grown) => units.signed_bytes(grown),
        };
        let label = cut(label, LABEL_COLUMNS);
        let share = share(self.resident_bytes, rss_bytes);
        format!("{label:LABEL_COLUMNS$} {size:>11} {share:>8} {grown:>13}").trim_end().to_owned()
    }

    fn is_small(&self, rss_bytes: u64, grown_bytes: u64) -> bool {
        let grown = self.grown_bytes.unwrap_or(0).unsigned_abs();
        let is_grown = grown > grown_bytes / SMALL_PARTS && grown > rss_bytes / SMALL_PARTS / 10;
        self.resident_bytes.unsigned_abs() < rss_bytes / SMALL_PARTS && !is_grown
    }
}

/// Those that matter, and the number and sum of the others. One row alone is not put together.
fn rows(table: &RssTable, before: Option<&RssTable>) -> (Vec<Line>, Option<(u64, Line)>) {
    let mut kinds: Vec<RssKind> = table.rows.iter().map(|row| row.kind).collect();
    kinds.extend(before.into_iter().flat_map(|before| before.rows.iter().map(|row| row.kind)));
    kinds.sort_unstable();
    kinds.dedup();
    let line = |kind| {
        let resident_bytes = table.bytes(kind);
        let grown_bytes = before.map(|before| resident_bytes - before.bytes(kind));
        Line { kind, resident_bytes, grown_bytes }
    };
    let grown = before.map_or(0, |before| table.rss_bytes.abs_diff(before.rss_bytes));
    let (small, large): (Vec<Line>, Vec<Line>) =
        kinds.into_iter().map(line).partition(|line| line.is_small(table.rss_bytes, grown));
    match &small[..] {
        [] => (large, None),
        [first, rest @ ..] => {
            let mut sum = *first;
            for line in rest {
                sum.resident_bytes += line.resident_bytes;
                sum.grown_bytes = sum.grown_bytes.zip(line.grown_bytes).map(|(a, b)| a + b);
            }
            (large, Some((small.len() as u64, sum)))
        }
    }
}

/// What the probes cannot know: a part of the rows above.
fn older(page: &mut Page, heap: &HeapReport, rss_bytes: u64) {
    let (Some(older), Some(traced)) = (heap.allocated_before_bytes, heap.traced_in_use) else {
        return;
    };
    let row = Line {
        kind: RssKind::InUse,
        resident_bytes: i64::try_from(older).unwrap_or(i64::MAX),
        grown_bytes: None,
    };
    page.line(None, &row.text("allocated before attach", rss_bytes, page.units()));
    let text = format!(
        "of the {} in use by the walk, all but {} in {} block{} traced since; in whole chunks, \
         headers included",
        page.units().bytes(heap.in_use_bytes),
        page.units().bytes(traced.bytes),
        count(traced.count),
        plural(traced.count),
    );
    page.prose(Some(Style::Faint), INDENT, &text);
}

fn remarks(page: &mut Page, heap: &HeapReport) {
    for refusal in &heap.refusals {
        let text = format!("Not looked into: {}: {}.", refusal.part, refusal.reason);
        page.prose(Some(Style::Warning), 0, &text);
    }
    if heap.error_bound_bytes > 0 {
        let bound = page.units().bytes(heap.error_bound_bytes);
        let text = format!("The process went on meanwhile, so that any sum can be off by {bound}.");
        page.prose(Some(Style::Faint), 0, &text);
    }
}

pub(super) fn style(row: &RssRow) -> Option<Style> {
    match row.kind {
        RssKind::FreeTrapped | RssKind::HeapUnknown | RssKind::Remainder => Some(Style::Warning),
        RssKind::InUse | RssKind::MappedBlocks => Some(Style::Strong),
        _ => None,
    }
}

/// `12.3 %`; what is there is never shown as 0.0.
pub(super) fn share(part: i64, whole: u64) -> String {
    let percent = part as f64 * 100.0 / whole.max(1) as f64;
    match () {
        () if part > 0 && percent < 0.05 => "<0.1 %".to_owned(),
        () if part < 0 && percent > -0.05 => ">-0.1 %".to_owned(),
        () => format!("{percent:.1} %"),
    }
}

/// What a row is called.
pub(in crate::render) fn label(kind: RssKind, opaque: &[OpaqueAllocator]) -> String {
    let text = match kind {
        RssKind::InUse => "in use",
        RssKind::MappedBlocks => "in use, mapped one by one",
        RssKind::FreeReturnable => "free, malloc_trim(0) returns it",
        RssKind::FreeTrapped => "free, trapped by blocks in use",
        RssKind::AllocatorCache => "free, in tcaches and fastbins",
        RssKind::Top => "free, at the end of heaps (top)",
        RssKind::AllocatorMetadata => "the allocator's own",
        RssKind::HeapUnknown => "in heaps, not understood",
        RssKind::PymallocInUse => "Python objects (pymalloc)",
        RssKind::PymallocFreeInPools => "pymalloc: free, in used pools",
        RssKind::PymallocFreePools => "pymalloc: free pools",
        RssKind::ThreadStacks => "stacks of threads",
        RssKind::CachedStacks => "stacks kept for new threads",
        RssKind::OpaqueAllocator => return opaque_label(opaque),
        RssKind::OtherAnonymous => "other anonymous memory",
        RssKind::PrivateFile => "data of programs and libraries",
        RssKind::File => "files: code, mapped files",
        RssKind::Shmem => "shared memory",
        RssKind::Remainder => "changed meanwhile",
    };
    text.to_owned()
}

fn opaque_label(opaque: &[OpaqueAllocator]) -> String {
    let mut names: Vec<_> = opaque.iter().map(|opaque| clean(&opaque.name)).collect();
    names.dedup();
    format!("{}, at most", names.join(", "))
}
