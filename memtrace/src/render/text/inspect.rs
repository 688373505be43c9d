//! A look at a process's memory as text: what it comes to, the table that adds up to RSS, and what
//! to know about both.

mod arenas;
mod picture;
mod series;

use std::io;

use super::{
    TextOptions,
    page::{Page, Style, columns, cut},
    rss_table::{LABEL_COLUMNS, label, share, style},
    verdict,
};
use crate::{
    inspection::Inspection,
    model::{
        census::{GlibcHeap, MallocParameters, RssKind, RssRow},
        size::{bytes, count, duration_ns},
    },
    render::label::{clean, plural},
};

pub use self::series::{write_heading, write_sample};

/// What is shown of the command line.
const COMMAND_COLUMNS: usize = 160;
/// Widest bar, and the narrowest that still tells something.
const BAR_COLUMNS: std::ops::RangeInclusive<usize> = 5..=30;
/// Bytes and share of a row, with the spaces between.
const NUMBER_COLUMNS: usize = 22;

/// Writes a look; with a table of arenas if wanted.
///
/// # Errors
/// Those of the writer.
pub fn write(
    inspection: &Inspection,
    with_arenas: bool,
    options: TextOptions,
    out: &mut impl io::Write,
) -> io::Result<()> {
    let mut page = Page::new(options);
    headline(&mut page, inspection);
    verdict::write(&mut page, &inspection.verdict);
    facts(&mut page, inspection);
    table(&mut page, inspection);
    if with_arenas {
        arenas::write(&mut page, &inspection.census.glibc);
    }
    quality(&mut page, inspection);
    out.write_all(page.finish().as_bytes())
}

fn headline(page: &mut Page, inspection: &Inspection) {
    let target = &inspection.target;
    let rss = inspection.census.rss.rss_bytes;
    let who = format!("{} (pid {}): RSS {}", target.command, target.pid, bytes(rss));
    let summary = inspection.summary;
    let heap = summary.heap_resident_bytes;
    let text = match heap {
        0 => who,
        _ => format!("{who}, {} in use by the program", bytes(summary.in_use_bytes)),
    };
    page.prose(Some(Style::Strong), 0, &text);
    if heap > 0 {
        let text = format!(
            "{} of {} resident in the heap are free and trapped ({})",
            bytes(summary.trapped_bytes),
            bytes(heap),
            share(summary.trapped_bytes as i64, heap)
        );
        page.prose(None, 0, &text);
    }
}

fn facts(page: &mut Page, inspection: &Inspection) {
    page.field("command", &cut(&inspection.target.command_line.join(" "), COMMAND_COLUMNS));
    page.field("process", &process(inspection));
    for heap in &inspection.census.glibc {
        page.field("malloc", &glibc(heap));
        page.field("", &settings(&heap.parameters));
    }
    for heap in &inspection.census.musl {
        page.field("malloc", &format!("musl, {}", heap.path));
    }
    for python in &inspection.census.pymalloc {
        let arenas = format!("{} arena{}", count(python.arenas), plural(python.arenas));
        let size = bytes(python.arena_bytes);
        page.field("pymalloc", &format!("Python {}, {arenas} of {size}", python.version));
    }
    for opaque in &inspection.census.opaque {
        let text = format!("{} in {}: it cannot be walked", opaque.name, opaque.path);
        page.field("allocator", &text);
    }
}

fn process(inspection: &Inspection) -> String {
    let threads = inspection.target.threads;
    let peak = bytes(inspection.kernel.peak_rss_bytes);
    let mut text = format!("{} thread{}, peak RSS {peak}", count(threads), plural(threads));
    let rss = &inspection.census.rss;
    let parts = [
        (rss.swap_bytes, "in swap"),
        (rss.huge_bytes, "in huge pages"),
        (inspection.kernel.lazy_free_bytes, "free for the kernel to take (MADV_FREE)"),
    ];
    for (part, what) in parts.into_iter().filter(|(part, _)| *part > 0) {
        text.push_str(&format!(", {} {what}", bytes(part)));
    }
    text
}

fn glibc(heap: &GlibcHeap) -> String {
    let version = heap.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    let arenas = heap.arenas.len() as u64;
    let stranded = heap.arenas.iter().filter(|arena| crate::inspection::is_stranded(arena));
    let unused = match stranded.count() as u64 {
        0 => String::new(),
        count => format!(" ({count} without a thread)"),
    };
    let trim = bytes(heap.trim_bytes);
    format!(
        "glibc{version}, {arenas} arena{}{unused}; malloc_trim(0) would give back {trim} now",
        plural(arenas)
    )
}

fn settings(parameters: &MallocParameters) -> String {
    let MallocParameters { mmap_threshold_bytes, trim_threshold_bytes, arena_max, .. } = parameters;
    let arenas = match arena_max {
        0 => String::new(),
        most => format!(", at most {most} arena{}", plural(*most)),
    };
    format!(
        "blocks from {} are mapped one by one, top is returned from {}{arenas}",
        bytes(*mmap_threshold_bytes),
        bytes(*trim_threshold_bytes)
    )
}

fn table(page: &mut Page, inspection: &Inspection) {
    let rss = &inspection.census.rss;
    page.gap();
    let largest = rss.rows.iter().map(|row| row.resident_bytes).max().unwrap_or_default();
    for row in &rss.rows {
        page.line(
            style(row),
            &line(page, &label(row.kind, &inspection.census.opaque), row, rss.rss_bytes, largest),
        );
    }
    let total = bytes(rss.rss_bytes);
    let label = "RSS";
    page.line(Some(Style::Strong), &format!("{label:LABEL_COLUMNS$} {total:>11} {:>8}", "100.0 %"));
}

fn line(page: &Page, label: &str, row: &RssRow, rss_bytes: u64, largest: i64) -> String {
    let sign = if row.resident_bytes < 0 { "-" } else { "" };
    let size = format!("{sign}{}", bytes(row.resident_bytes.unsigned_abs()));
    let label = cut(label, LABEL_COLUMNS);
    let text =
        format!("{label:LABEL_COLUMNS$} {size:>11} {:>8}", share(row.resident_bytes, rss_bytes));
    let room = page.room(LABEL_COLUMNS + NUMBER_COLUMNS).min(*BAR_COLUMNS.end());
    if room < *BAR_COLUMNS.start() || row.resident_bytes <= 0 {
        return text;
    }
    let part = row.resident_bytes as f64 / largest.max(1) as f64;
    let bar = "#".repeat((part * room as f64).round() as usize);
    format!("{text} {bar}").trim_end().to_owned()
}

fn quality(page: &mut Page, inspection: &Inspection) {
    page.gap();
    let census = &inspection.census;
    for refusal in &census.refusals {
        let text = format!("Not looked into: {}: {}.", refusal.part, refusal.reason);
        page.prose(Some(Style::Warning), 0, &text);
    }
    for text in remarks(inspection) {
        page.prose(None, 0, &text);
    }
    let took = duration_ns(census.duration_ns);
    let bound = match census.error_bound_bytes {
        0 if census.refusals.is_empty() => {
            "nothing changed meanwhile, the sums are exact".to_owned()
        }
        0 => "nothing changed meanwhile, the sums of what was looked into are exact".to_owned(),
        bound => {
            let is_swapped = census.glibc.iter().any(|heap| swapped(heap) > 0);
            let why =
                if is_swapped { "part of the heap is in swap" } else { "the process went on" };
            format!("{why}, so that any sum can be off by {}", bytes(bound))
        }
    };
    page.prose(Some(Style::Faint), 0, &format!("Looked at in {took}; {bound}."));
}

fn remarks(inspection: &Inspection) -> Vec<String> {
    let census = &inspection.census;
    let mut remarks = Vec::new();
    if census.rss.bytes(RssKind::OpaqueAllocator) > 0 {
        let text = "What the program maps by itself cannot be told from the memory of an allocator \
                    that cannot be walked: its row is what it has at most.";
        remarks.push(text.to_owned());
    } else if let Some(opaque) = census.opaque.first() {
        let name = clean(&opaque.name);
        remarks.push(format!("The memory of {name} is among other anonymous memory."));
    }
    if census.rss.swap_bytes > 0 && census.glibc.iter().any(|heap| swapped(heap) > 0) {
        let text = "Swapped pages are not read: what is in use on them is counted where the \
                    allocator says it, and in no row of the table.";
        remarks.push(text.to_owned());
    }
    if inspection.kernel.zero_bytes.is_none() {
        let text = "This kernel (before 6.7) does not tell pages of zeros, which are in no RSS: \
                    where there are some, a row is too large by them and the last one makes up.";
        remarks.push(text.to_owned());
    }
    remarks
}

fn swapped(heap: &GlibcHeap) -> u64 {
    heap.arenas.iter().map(|arena| arena.quality.swapped_bytes).sum()
}

/// Right-aligned columns, as many from the left as there is room for.
fn fit(cells: &[String], widths: &[usize], room: usize) -> String {
    let mut text = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        let space = if text.is_empty() { 0 } else { 2 };
        if columns(&text) + space + width > room {
            break;
        }
        text.push_str(&format!("{:space$}{cell:>width$}", ""));
    }
    text
}
