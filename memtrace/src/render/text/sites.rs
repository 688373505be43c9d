//! The sites whose memory was never freed, largest first.

use std::ops::Range;

use crate::{
    model::{
        site::Amount,
        size::{bytes, count, duration_ns},
        stack::Frame,
    },
    render::label::{clean, long_place, plural, short_place},
    report::{Report, SiteReport, Survivors},
};

use super::page::{Page, Style, columns, cut};

/// Frames shown of a stack, unless the key frame is deeper.
const FRAMES: usize = 5;

/// Frames below the key frame that are shown when there are too many.
const WRAPPERS: usize = 3;

/// Callers of the key frame that are shown at least.
const CALLERS: usize = 2;

/// The column where a site's text begins.
const INDENT: usize = 4;

pub(super) fn write(page: &mut Page, report: &Report, top: usize) {
    let sites: Vec<_> = report.sites.iter().filter(|site| survives(site)).collect();
    page.gap();
    page.prose(Some(Style::Strong), 0, &heading(report, sites.len()));
    if sites.is_empty() {
        return nothing(page, report);
    }
    page.prose(
        Some(Style::Faint),
        0,
        "Not each of these is a leak: a cache, or a block freed after the window, looks the same.",
    );
    let (shown, hidden) = sites.split_at(top.min(sites.len()));
    for (index, site) in shown.iter().enumerate() {
        page.gap();
        write_site(page, site, index + 1, report.totals.survivors.bytes);
    }
    write_hidden(page, hidden);
}

fn survives(site: &SiteReport) -> bool {
    site.survivors.amount.count > 0
}

fn heading(report: &Report, sites: usize) -> String {
    let age = match report.window.min_age_ns {
        0 => String::new(),
        age => format!(" of age >= {}", duration_ns(age)),
    };
    if sites == 0 {
        return format!("Never freed in this window: nothing{age}");
    }
    format!(
        "Never freed in this window: {}{age} at {} site{}",
        blocks(report.totals.survivors),
        count(sites as u64),
        plural(sites as u64),
    )
}

fn nothing(page: &mut Page, report: &Report) {
    let live = report.totals.heap.live.count + report.totals.mappings.live.count;
    if live > 0 {
        let younger = format!("{} younger block{} still live: see --min-age.", count(live), {
            if live == 1 { " is" } else { "s are" }
        });
        page.prose(None, 0, &younger);
    } else if report.totals.heap.allocated.count + report.totals.mappings.allocated.count > 0 {
        page.prose(None, 0, "Everything that was allocated in this window was freed in it.");
    }
}

fn blocks(amount: Amount) -> String {
    format!("{} in {} block{}", bytes(amount.bytes), count(amount.count), plural(amount.count))
}

fn write_site(page: &mut Page, site: &SiteReport, rank: usize, total_bytes: u64) {
    let share = share(site.survivors.amount.bytes, total_bytes);
    page.line(
        Some(Style::Strong),
        &format!("{:<INDENT$}{}, {share}", format!("#{rank}"), blocks(site.survivors.amount)),
    );
    let key = site.key_frame.and_then(|index| site.stack.frames.get(index));
    let room = page.room(INDENT);
    let key_line = key.map_or(site.function.to_owned(), |frame| described(frame, room));
    page.line(Some(Style::Strong), &format!("{:INDENT$}{key_line}", ""));
    page.prose(None, INDENT, &format!("{}; {}", ages(&site.survivors), traffic(site)));
    write_stack(page, site);
}

fn share(part: u64, whole: u64) -> String {
    let percent = part as f64 * 100.0 / whole.max(1) as f64;
    if part > 0 && percent < 0.1 { "< 0.1 %".to_owned() } else { format!("{percent:.1} %") }
}

fn ages(survivors: &Survivors) -> String {
    if survivors.amount.count == 1 {
        return format!("age {}", duration_ns(survivors.oldest_age_ns));
    }
    format!(
        "age {} to {}, median {}",
        duration_ns(survivors.youngest_age_ns),
        duration_ns(survivors.oldest_age_ns),
        duration_ns(survivors.median_age_ns),
    )
}

fn traffic(site: &SiteReport) -> String {
    let (allocated, freed) = (site.stats.allocated, site.stats.freed);
    match freed.count {
        0 => format!("none of {} freed", count(allocated.count)),
        _ => format!(
            "{} of {} ({} of {}) freed",
            count(freed.count),
            count(allocated.count),
            bytes(freed.bytes),
            bytes(allocated.bytes)
        ),
    }
}

/// The stack from the allocation function towards the root; what is left out is said.
fn write_stack(page: &mut Page, site: &SiteReport) {
    let frames = &site.stack.frames;
    let wanted = FRAMES.max(site.key_frame.map_or(0, |key| key + 1 + CALLERS));
    // A line that says "1 more" would take the room of that one.
    let shown = if frames.len() <= wanted + 1 { frames.len() } else { wanted };
    let indent = INDENT + 4;
    page.line(Some(Style::Faint), &format!("{:indent$}{}", "", site.function));
    let folded = wrappers(site.key_frame);
    if !folded.is_empty() {
        let text = format!("... {} frames of wrappers", folded.len());
        page.line(Some(Style::Faint), &format!("{:indent$}{text}", ""));
    }
    for (index, frame) in frames[..shown].iter().enumerate().skip(folded.end) {
        let mark = if site.key_frame == Some(index) { "> " } else { "  " };
        let text = described_short(frame, page.room(indent));
        page.line(Some(Style::Faint), &format!("{:1$}{mark}{text}", "", indent - 2));
    }
    if shown < frames.len() {
        let hidden = format!("... {} more frames", frames.len() - shown);
        page.line(Some(Style::Faint), &format!("{:indent$}{hidden}", ""));
    } else if let Some(label) = site.stack.missing_root {
        page.line(Some(Style::Faint), &format!("{:indent$}{label}", ""));
    }
}

/// The frames below the key frame that are left out: the inside of a container can be a dozen
/// frames, and says less than the last of them.
fn wrappers(key_frame: Option<usize>) -> Range<usize> {
    match key_frame {
        Some(key) if key > WRAPPERS + 1 => 0..key - WRAPPERS,
        _ => 0..0,
    }
}

/// The function and where it is, with the whole path when there is room.
fn described(frame: &Frame, room: usize) -> String {
    let long = joined(frame, &long_place(frame));
    if columns(&long) <= room { long } else { described_short(frame, room) }
}

/// The function, cut where it must be, and where it is.
fn described_short(frame: &Frame, room: usize) -> String {
    let place = short_place(frame);
    let name_room = room.saturating_sub(columns(&place) + 4).max(room / 2);
    let mut cut_frame = frame.clone();
    cut_frame.function = cut(&clean(&frame.function), name_room);
    let whole = joined(frame, &place);
    if columns(&whole) <= room { whole } else { cut(&joined(&cut_frame, &place), room) }
}

fn joined(frame: &Frame, place: &str) -> String {
    let function = clean(&frame.function);
    match (place.is_empty(), frame.file.is_some()) {
        (true, _) => function,
        (_, true) => format!("{function} at {place}"),
        (_, false) => format!("{function} in {place}"),
    }
}

fn write_hidden(page: &mut Page, hidden: &[&SiteReport]) {
    if hidden.is_empty() {
        return;
    }
    let mut sum = Amount::default();
    hidden.iter().for_each(|site| sum += site.survivors.amount);
    let sites = hidden.len() as u64;
    let text =
        format!("... {} more site{} with {} (--top)", count(sites), plural(sites), blocks(sum));
    page.gap();
    page.prose(None, 0, &text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_wrappers_are_folded_and_a_few_are_not() {
        assert_eq!(wrappers(None), 0..0);
        assert_eq!(wrappers(Some(4)), 0..0);
        // A line for one frame would be no gain: at least two are folded.
        assert_eq!(wrappers(Some(5)), 0..2);
        assert_eq!(wrappers(Some(10)), 0..7);
    }
}
