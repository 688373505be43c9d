//! A line for each arena of each glibc.

use super::{fit, picture, plural};
use crate::{
    inspection::is_stranded,
    model::{
        census::{Arena, GlibcHeap},
        size::bytes,
    },
    render::text::page::{Page, Style},
};

/// The most telling columns first: a narrow terminal loses the last ones.
const HEADINGS: [&str; 9] =
    ["arena", "threads", "resident", "in use", "trapped", "returnable", "cached", "top", "system"];
const WIDTHS: [usize; 9] = [6, 7, 10, 10, 10, 10, 10, 10, 10];

pub(super) fn write(page: &mut Page, heaps: &[GlibcHeap]) {
    for heap in heaps {
        page.gap();
        page.prose(Some(Style::Strong), 0, &format!("Arenas of {}", heap.path));
        let headings = HEADINGS.map(str::to_owned);
        page.line(Some(Style::Faint), &fit(&headings, &WIDTHS, page.room(0)));
        for arena in &heap.arenas {
            let style = is_stranded(arena).then_some(Style::Warning);
            page.line(style, &fit(&cells(arena), &WIDTHS, page.room(0)));
            picture::write(page, &arena.map);
        }
        if heap.arenas.iter().any(|arena| !arena.map.segments.is_empty()) {
            page.prose(Some(Style::Faint), 0, picture::LEGEND);
        }
        stranded(page, heap);
    }
}

fn cells(arena: &Arena) -> [String; 9] {
    let name = if arena.index == 0 { "main".to_owned() } else { arena.index.to_string() };
    let threads = arena.attached_threads.map_or("-".to_owned(), |threads| threads.to_string());
    let resident = arena.resident;
    [
        name,
        threads,
        bytes(resident.total_bytes()),
        bytes(arena.in_use.bytes),
        bytes(resident.trapped_bytes),
        bytes(resident.returnable_bytes),
        bytes(resident.cached_bytes),
        bytes(resident.top_bytes),
        bytes(arena.system_bytes),
    ]
}

fn stranded(page: &mut Page, heap: &GlibcHeap) {
    let stranded: Vec<_> = heap.arenas.iter().filter(|arena| is_stranded(arena)).collect();
    if stranded.is_empty() {
        return;
    }
    let held = stranded.iter().map(|arena| arena.resident.total_bytes()).sum();
    let count = stranded.len() as u64;
    page.prose(
        None,
        0,
        &format!(
            "{count} arena{} with {} resident without a thread: what is free there is used again \
             only when a new thread is given the arena.",
            plural(count),
            bytes(held)
        ),
    );
}
