//! What weighs the most in the report's view (what was never freed, unless another was asked for),
//! by line or whatever else, each with its largest stack.

use std::ops::Range;

use crate::{
    model::{
        site::Amount,
        size::{Units, count, duration_ns},
        stack::{Frame, NamedStack},
    },
    render::{
        estimate::{self, blocks, blocks_count, trapped},
        label::{clean, described, described_long, pattern, plural, short_place},
    },
    report::{
        Estimate, GroupBy, GroupReport, GrowthView, Report, SiteReport, Survivors, ThreadShare,
        View,
    },
};

use super::page::{Page, Style, columns, cut};

/// Frames shown of a stack, unless the key frame is deeper.
const FRAMES: usize = 5;

/// Frames below the key frame that are shown when there are too many.
const WRAPPERS: usize = 3;

/// Callers of the key frame that are shown at least.
const CALLERS: usize = 2;

/// Threads shown of a site.
const THREADS: usize = 5;

/// How far the mean of sizes may be from the median that is called typical, as a factor.
const TYPICAL_RATIO: f64 = 1.25;

/// What is to be known of a mapping that is the stack of a thread.
const THREAD_STACK: &str =
    "the stack of a thread: address space; in RSS is only what the thread has touched";

/// The column where a site's text begins.
const INDENT: usize = 4;

pub(super) fn write(page: &mut Page, report: &Report, top: usize) {
    let groups: Vec<_> = report.groups.iter().filter(|group| group.weight.count > 0).collect();
    page.gap();
    let heading = heading(report, groups.len() as u64, page.units());
    page.prose(Some(Style::Strong), 0, &heading);
    if groups.is_empty() {
        return nothing(page, report);
    }
    if let Some(caution) = growth_caution(report).or(caution(report.view)) {
        page.prose(Some(Style::Faint), 0, caution);
    }
    let (shown, hidden) = groups.split_at(top.min(groups.len()));
    let whole = report.weight();
    for (index, group) in shown.iter().enumerate() {
        page.gap();
        write_group(page, report, group, Rank { number: index + 1, whole });
    }
    write_hidden(page, report.grouped_by, hidden);
}

fn heading(report: &Report, groups: u64, units: Units) -> String {
    let age = match (report.view, report.window.min_age_ns) {
        (View::NeverFreed, 1..) => {
            format!(" of age >= {}", duration_ns(report.window.min_age_ns))
        }
        _ => String::new(),
    };
    let what = shown_by(report);
    if groups == 0 {
        return format!("{what}: nothing{age}");
    }
    let stacks: u64 = report.groups.iter().map(|group| group.sites).sum();
    let on_stacks = match report.grouped_by {
        GroupBy::Stack => String::new(),
        _ => format!(" (on {} stack{})", count(stacks), plural(stacks)),
    };
    format!(
        "{what}: {}{age} at {}{on_stacks}",
        pieces(report, report.weight(), units),
        counted(report.grouped_by, groups),
    )
}

fn shown_by(report: &Report) -> &'static str {
    let growth = report.growth.map(|growth| growth.view);
    match (growth, report.view) {
        (Some(GrowthView::AddressSpace), View::NeverFreed) => {
            return "Address space that grew in this window";
        }
        (Some(GrowthView::Resident), View::NeverFreed) => return "New pages in use in this window",
        _ => {}
    }
    match report.view {
        View::NeverFreed => "Never freed in this window",
        View::Live => "Live at the end of this window",
        View::Allocated => "Allocated in this window",
        View::Freed => "Allocated and freed in this window",
        View::Peak => "Live when all together had the most",
        View::Temporary => "Temporary in this window",
        View::Resident => "Never freed in this window and in memory",
        View::Trapped => "Free memory trapped at the end of this window",
    }
}

/// Likewise, of growth.
fn growth_caution(report: &Report) -> Option<&'static str> {
    Some(match report.growth?.view {
        GrowthView::AddressSpace => {
            "Who made it grow, not who holds it: an arena grows for whoever comes when it is full. \
             Address space may never be used."
        }
        GrowthView::Resident => {
            "Who used pages first, not who holds what is on them. An estimate: few pages are looked \
             at, and \u{b1} is what 95 of 100 windows are within."
        }
    })
}

/// What a reader may take it for, and it is not.
fn caution(view: View) -> Option<&'static str> {
    match view {
        View::NeverFreed | View::Live | View::Resident => Some(
            "Not each of these is a leak: a cache, or a block freed after the window, looks the \
             same.",
        ),
        View::Temporary => Some(
            "Freed by the thread that allocated it, before it allocated anything else: it costs \
             time, not memory.",
        ),
        View::Trapped => Some(
            "Who keeps free memory from being given back, not who freed it: live blocks that share \
             pages with it. What several sites keep is shared evenly among them.",
        ),
        View::Allocated | View::Freed | View::Peak => None,
    }
}

pub(super) fn counted(by: GroupBy, groups: u64) -> String {
    let word = match by {
        GroupBy::Line => "line",
        GroupBy::Function => "function",
        GroupBy::Module => "module",
        GroupBy::Stack => "stack",
    };
    format!("{} {word}{}", count(groups), plural(groups))
}

fn nothing(page: &mut Page, report: &Report) {
    let totals = &report.totals;
    let live = totals.heap.live.count + totals.mappings.live.count;
    let is_whole = report.selection.is_empty();
    if report.view != View::NeverFreed || !is_whole {
        return;
    }
    if live > 0 {
        let younger = format!("{} younger block{} still live: see --min-age.", count(live), {
            if live == 1 { " is" } else { "s are" }
        });
        page.prose(None, 0, &younger);
    } else if totals.heap.allocated.count + totals.mappings.allocated.count > 0 {
        page.prose(None, 0, "Everything that was allocated in this window was freed in it.");
    }
}

/// An amount in the pieces that the report is of.
fn pieces(report: &Report, amount: Amount, units: Units) -> String {
    if report.view == View::Trapped {
        return trapped(amount, units);
    }
    let Some(growth) = report.growth else { return blocks(amount, units) };
    let (size, number) = (units.bytes(amount.bytes), count(amount.count));
    let s = plural(amount.count);
    match growth.view {
        GrowthView::AddressSpace => format!("{size} in {number} range{s}"),
        GrowthView::Resident => {
            let error = units.bytes(Estimate::of(amount).error_bytes);
            format!("{size} \u{b1} {error} by {number} sample{s}")
        }
    }
}

/// How large the blocks are: of one size, typically of one, or between two.
fn sizes(survivors: &Survivors, units: Units) -> String {
    let Survivors { amount, smallest_bytes, median_bytes, largest_bytes, .. } = *survivors;
    let (smallest, largest) = (units.bytes(smallest_bytes), units.bytes(largest_bytes));
    match amount.count {
        0 | 1 => String::new(),
        _ if smallest_bytes == largest_bytes => format!(" of {}", units.bytes(median_bytes)),
        _ if is_typical(median_bytes, amount) => {
            format!(" of typically {}", units.bytes(median_bytes))
        }
        2 => format!(" of {smallest} and {largest}"),
        _ => format!(" of {smallest} to {largest}"),
    }
}

/// Whether so many blocks of the median's size would have about the bytes that there are. Where a
/// line allocates an array and the small object that refers to it, the median is of either.
fn is_typical(median_bytes: u64, amount: Amount) -> bool {
    let mean = amount.bytes as f64 / amount.count.max(1) as f64;
    let ratio = mean / median_bytes.max(1) as f64;
    (1.0 / TYPICAL_RATIO..=TYPICAL_RATIO).contains(&ratio)
}

/// A group's place, and the sum that its share is of.
#[derive(Clone, Copy)]
struct Rank {
    number: usize,
    whole: Amount,
}

fn write_group(page: &mut Page, report: &Report, group: &GroupReport, rank: Rank) {
    let units = page.units();
    let is_survivors = report.view == View::NeverFreed;
    let survivors = &group.survivors;
    let share = share(group.weight.bytes, rank.whole.bytes);
    let has_sizes = is_survivors && !is_estimate(report);
    let sizes = if has_sizes { sizes(survivors, units) } else { String::new() };
    let head = format!("{}{sizes}, {share}", pieces(report, group.weight, units));
    let number = format!("#{}", rank.number);
    page.line(Some(Style::Strong), &format!("{number:<INDENT$}{head}"));
    if let Some(process) = &group.process {
        page.line(Some(Style::Strong), &format!("{:INDENT$}{}", "", clean(process)));
    }
    let title = cut_to_fit(&title(group), page.room(INDENT));
    page.line(Some(Style::Strong), &format!("{:INDENT$}{title}", ""));
    let has_pattern = is_survivors && survivors.amount.count > 1;
    if let Some(pattern) = group.pattern.filter(|_| has_pattern).and_then(pattern) {
        page.prose(Some(Style::Strong), INDENT, &pattern);
    }
    let traffic = traffic(group, units);
    match is_survivors {
        true => page.prose(None, INDENT, &format!("{}; {traffic}", ages(survivors))),
        false => page.prose(None, INDENT, &traffic),
    }
    let Some(site) = report.sites.get(group.largest_site) else { return };
    if group.sites > 1 {
        let largest = pieces(report, site.weight(report.view), units);
        let text = format!("on {} stacks; the largest, {largest}:", count(group.sites));
        page.prose(None, INDENT, &text);
    }
    if is_thread_stack(site) {
        page.prose(None, INDENT, THREAD_STACK);
    }
    write_stack(page, &called(report, site), &site.stack, site.key_frame);
    write_threads(page, &site.threads);
}

/// The allocation function, and whose it is where there are several allocators.
fn called(report: &Report, site: &SiteReport) -> String {
    match &site.allocator {
        Some(allocator) if report.allocators.len() > 1 => {
            format!("{} of {}", site.function, clean(allocator))
        }
        _ => site.function.to_owned(),
    }
}

/// Whether amounts are what samples stand for.
fn is_estimate(report: &Report) -> bool {
    report.growth.is_some_and(|growth| growth.view == GrowthView::Resident)
}

fn write_threads(page: &mut Page, threads: &[ThreadShare]) {
    let units = page.units();
    for share in threads.iter().take(THREADS) {
        let name = share.name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
        let [allocated, live, kept] = [share.allocated, share.live, share.survivors]
            .map(|amount| estimate::bytes(amount, units));
        let text = format!(
            "thread {}{name}: {allocated} allocated, {live} live, {kept} never freed",
            share.tid
        );
        page.prose(None, INDENT, &text);
    }
    if let Some(more) = threads.len().checked_sub(THREADS).filter(|more| *more > 0) {
        page.prose(None, INDENT, &format!("... {more} more thread{}", plural(more as u64)));
    }
}

/// A mapping that glibc (or musl) made for a new thread.
fn is_thread_stack(site: &SiteReport) -> bool {
    let creates = |frame: &std::sync::Arc<Frame>| {
        frame.function.contains("pthread_create") && frame.module.starts_with("lib")
    };
    site.function == "mmap" && site.stack.frames.iter().any(creates)
}

/// What a group is of, as a frame.
fn title(group: &GroupReport) -> Frame {
    Frame {
        function: group.function.clone().unwrap_or_else(|| group.module.clone()),
        module: group.module.clone(),
        file: group.file.clone(),
        line: group.line,
        inlined: false,
        language: group.language,
    }
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

fn traffic(group: &GroupReport, units: Units) -> String {
    let (allocated, freed) = (group.stats.allocated, group.stats.freed);
    match freed.count {
        0 => format!("none of {} freed", blocks_count(allocated)),
        _ => format!(
            "{} of {} ({} of {}) freed",
            blocks_count(freed),
            blocks_count(allocated),
            estimate::bytes(freed, units),
            estimate::bytes(allocated, units)
        ),
    }
}

/// The stack from the allocation function towards the root; what is left out is said.
pub(super) fn write_stack(
    page: &mut Page,
    function: &str,
    stack: &NamedStack,
    key_frame: Option<usize>,
) {
    let frames = &stack.frames;
    let wanted = FRAMES.max(key_frame.map_or(0, |key| key + 1 + CALLERS));
    // A line that says "1 more" would take the room of that one.
    let shown = if frames.len() <= wanted + 1 { frames.len() } else { wanted };
    let indent = INDENT + 4;
    page.line(Some(Style::Faint), &format!("{:indent$}{}", "", function));
    let folded = wrappers(key_frame);
    if !folded.is_empty() {
        let text = format!("... {} frames of wrappers", folded.len());
        page.line(Some(Style::Faint), &format!("{:indent$}{text}", ""));
    }
    for (index, frame) in frames[..shown].iter().enumerate().skip(folded.end) {
        let mark = if key_frame == Some(index) { "> " } else { "  " };
        let text = cut_short(frame, page.room(indent));
        page.line(Some(Style::Faint), &format!("{:1$}{mark}{text}", "", indent - 2));
    }
    if shown < frames.len() {
        let hidden = format!("... {} more frames", frames.len() - shown);
        page.line(Some(Style::Faint), &format!("{:indent$}{hidden}", ""));
    } else if let Some(label) = &stack.missing_root {
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
pub(super) fn cut_to_fit(frame: &Frame, room: usize) -> String {
    let long = described_long(frame);
    if columns(&long) <= room { long } else { cut_short(frame, room) }
}

/// The function, cut where it must be, and where it is.
fn cut_short(frame: &Frame, room: usize) -> String {
    let whole = described(frame);
    if columns(&whole) <= room {
        return whole;
    }
    let name_room = room.saturating_sub(columns(&short_place(frame)) + 4).max(room / 2);
    let function = cut(&clean(&frame.function), name_room);
    cut(&described(&Frame { function, ..frame.clone() }), room)
}

fn write_hidden(page: &mut Page, by: GroupBy, hidden: &[&GroupReport]) {
    if hidden.is_empty() {
        return;
    }
    let mut sum = Amount::default();
    hidden.iter().for_each(|group| sum += group.weight);
    let text =
        format!("... {} with {} (--top)", more(by, hidden.len() as u64), blocks(sum, page.units()));
    page.gap();
    page.prose(None, 0, &text);
}

/// `3 more lines`.
fn more(by: GroupBy, groups: u64) -> String {
    counted(by, groups).replacen(' ', " more ", 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_thread_stack_is_what_is_mapped_to_make_a_thread() {
        let site = |function, functions: &[(&'static str, &'static str)]| {
            let frames: Vec<_> =
                functions.iter().map(|(name, file)| (*name, *file, None)).collect();
            let stack = sample::stack(&frames, None);
            SiteReport { function, stack, ..sample::leaking().sites.swap_remove(0) }
        };
        let creates = [("__pthread_create_2_1", "libc.so.6"), ("serve", "app")];
        assert!(is_thread_stack(&site("mmap", &creates)));
        assert!(!is_thread_stack(&site("calloc", &creates)), "what is kept of the thread");
        assert!(!is_thread_stack(&site("mmap", &[("serve", "app")])));
    }

    #[test]
    fn a_function_is_an_allocators_where_there_are_several() {
        let mut report = sample::leaking();
        report.sites[0].allocator = Some("jemalloc (_rjem_)".to_owned());
        let function = report.sites[0].function;
        assert_eq!(called(&report, &report.sites[0]), function);
        report.allocators = vec![Default::default(); 2];
        let expected = format!("{function} of jemalloc (_rjem_)");
        assert_eq!(called(&report, &report.sites[0]), expected);
    }

    fn sizes_of(blocks: &[u64]) -> String {
        let mut sorted = blocks.to_vec();
        sorted.sort_unstable();
        let [smallest_bytes, .., largest_bytes] = sorted[..] else { panic!("{blocks:?}") };
        sizes(
            &Survivors {
                amount: Amount::new(sorted.iter().sum(), sorted.len() as u64),
                smallest_bytes,
                median_bytes: sorted[(sorted.len() - 1) / 2],
                largest_bytes,
                ..Survivors::default()
            },
            Units::Auto,
        )
    }

    #[test]
    fn a_size_is_called_typical_only_where_it_explains_the_bytes() {
        assert_eq!(sizes_of(&[512, 512, 512]), " of 512 B");
        assert_eq!(sizes_of(&[512, 520, 528]), " of typically 520 B");
        assert_eq!(sizes_of(&[16, 512, 512, 512, 512, 512]), " of typically 512 B");
    }

    #[test]
    fn where_no_size_is_typical_the_smallest_and_the_largest_are_named() {
        assert_eq!(sizes_of(&[16, 16, 16, 2 << 20, 2 << 20]), " of 16 B to 2.0 MiB");
        assert_eq!(sizes_of(&[512, 512, 512, 2 << 20]), " of 512 B to 2.0 MiB");
        assert_eq!(sizes_of(&[16, 2 << 20]), " of 16 B and 2.0 MiB");
        assert_eq!(sizes_of(&[0, 0, 0, 64]), " of 0 B to 64 B");
    }

    #[test]
    fn many_wrappers_are_folded_and_a_few_are_not() {
        assert_eq!(wrappers(None), 0..0);
        assert_eq!(wrappers(Some(4)), 0..0);
        // A line for one frame would be no gain: at least two are folded.
        assert_eq!(wrappers(Some(5)), 0..2);
        assert_eq!(wrappers(Some(10)), 0..7);
    }
}
