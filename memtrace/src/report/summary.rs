//! What the numbers say, in sentences.

use crate::model::{site::SiteStats, size};

use super::{EndReason, ProcessReport, Report, Rss};

/// From this share of the growth of RSS on, live memory explains it.
const EXPLAINS: f64 = 0.8;

/// Below this share, most of the growth has another cause.
const EXPLAINS_LITTLE: f64 = 0.5;

/// Above this share, live memory is clearly more than the growth.
const EXCEEDS: f64 = 1.5;

/// From this growth on, its pace is said.
const PACE_BYTES: u64 = 1 << 20;

/// From this length of the window on, the pace of growth is said.
const PACE_WINDOW_NS: u64 = 9_500_000_000;

const HOUR_NS: f64 = 3.6e12;

/// The most important first.
pub(super) fn sentences(report: &Report) -> Vec<String> {
    if let Some(growth) = report.growth {
        return growth.sentences().into_iter().chain(pace(report)).collect();
    }
    let totals = &report.totals;
    // The arenas of the allocator hold the heap's blocks; Python's hold objects of their own, unless
    // these are traced one by one.
    let traced_objects = report.functions.iter().any(|of| of.function.starts_with("PyObject_"));
    let nothing = SiteStats::default();
    let arenas = if traced_objects { &nothing } else { &totals.pymalloc_arenas };
    let parts = [&totals.heap, &totals.mappings, arenas];
    if parts.iter().all(|part| part.allocated.count == 0) {
        return vec![nothing_allocated(report)];
    }
    let live = parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.live.bytes));
    [Some(growth(report.rss, live)), pace(report)].into_iter().flatten().collect()
}

/// Of several: which of them it is.
pub(super) fn of_processes(processes: &[ProcessReport]) -> Vec<String> {
    let all: u64 = processes.iter().map(|it| it.survivors.bytes).sum();
    let most = processes.iter().max_by_key(|it| it.survivors.bytes);
    let Some(most) = most.filter(|it| it.survivors.bytes > 0) else {
        return vec!["Nothing that these processes allocated was never freed.".to_owned()];
    };
    let share = most.survivors.bytes as f64 / all as f64;
    vec![format!(
        "{} of the {} that were never freed are of process {} ({}): {:.0} %.",
        size::bytes(most.survivors.bytes),
        size::bytes(all),
        most.pid,
        most.command,
        share * 100.0
    )]
}

/// How fast RSS grows, for who must know how long there is still time. Not said of short windows
/// and small growth, which are more noise than trend.
fn pace(report: &Report) -> Option<String> {
    let grown = report.rss.end_bytes.saturating_sub(report.rss.start_bytes);
    let window_ns = report.window.duration_ns;
    let ended = report.window.ended_by == EndReason::TargetExited;
    if ended || grown < PACE_BYTES || window_ns < PACE_WINDOW_NS {
        return None;
    }
    let hourly = grown as f64 * HOUR_NS / window_ns as f64;
    Some(format!("If that goes on, it grows by {} an hour.", size::bytes(hourly as u64)))
}

fn nothing_allocated(report: &Report) -> String {
    if totals_frees(report) > 0 {
        return "Memory was freed in this window, but none was allocated.".to_owned();
    }
    "No allocation was seen in this window: the target was idle, or it allocates through \
     functions that are not probed (a static or custom allocator)."
        .to_owned()
}

fn totals_frees(report: &Report) -> u64 {
    report.totals.unmatched_frees + report.totals.unmatched_unmapped_bytes
}

/// How the growth of RSS and the memory that was allocated and kept go together.
fn growth(rss: Rss, live_bytes: u64) -> String {
    let live = size::bytes(live_bytes);
    let Some(grown) = rss.end_bytes.checked_sub(rss.start_bytes).filter(|grown| *grown > 0) else {
        return match live_bytes {
            0 => "RSS did not grow, and nothing that was allocated in this window is still live."
                .to_owned(),
            _ => {
                format!("RSS did not grow; {live} that was allocated in this window is still live.")
            }
        };
    };
    let share = live_bytes as f64 / grown as f64;
    let percent = format!("{:.0} %", share * 100.0);
    let grown = size::bytes(grown);
    let kept = "allocated in this window and still live";
    if live_bytes == 0 {
        format!(
            "RSS grew by {grown}, but nothing allocated in this window is still live: {OTHER_CAUSES}."
        )
    } else if share < EXPLAINS_LITTLE {
        format!(
            "RSS grew by {grown}, but only {live} ({percent} of that) was {kept}: {OTHER_CAUSES}."
        )
    } else if share < EXPLAINS {
        format!("RSS grew by {grown}; {live} ({percent} of that) was {kept}.")
    } else if share <= EXCEEDS {
        format!("RSS grew by {grown}; {live} ({percent} of that) was {kept}, which explains it.")
    } else {
        format!(
            "RSS grew by {grown}, less than the {live} {kept}: part of it was never \
             touched, or older memory was released meanwhile."
        )
    }
}

const OTHER_CAUSES: &str = "the rest may be fragmentation, first use of older memory, file-backed \
                            memory, or an allocator that is not probed";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::site::Amount, report::sample};

    fn growth_of(start_mib: u64, end_mib: u64, live_mib: u64) -> String {
        let (start_bytes, end_bytes) = (start_mib << 20, end_mib << 20);
        growth(Rss { start_bytes, end_bytes, ..Rss::default() }, live_mib << 20)
    }

    #[test]
    fn growth_is_set_against_live_memory() {
        let cases = [
            ((100, 90, 0), "RSS did not grow, and nothing"),
            ((100, 100, 5), "RSS did not grow; 5.0 MiB that was"),
            ((100, 200, 0), "RSS grew by 100.0 MiB, but nothing"),
            ((100, 200, 30), "RSS grew by 100.0 MiB, but only 30.0 MiB (30 % of that)"),
            ((100, 200, 60), "RSS grew by 100.0 MiB; 60.0 MiB (60 % of that)"),
            ((100, 200, 98), "which explains it."),
            ((100, 200, 500), "less than the 500.0 MiB"),
        ];
        for ((start, end, live), expected) in cases {
            let sentence = growth_of(start, end, live);
            assert!(sentence.contains(expected), "{sentence:?} lacks {expected:?}");
        }
    }

    #[test]
    fn the_pace_of_growth_is_said_when_the_window_is_long_enough() {
        let mut report = sample::leaking();
        report.window.duration_ns = 30_000_000_000;
        report.rss = Rss { start_bytes: 0, end_bytes: 10 << 20, ..Rss::default() };
        let expected = "If that goes on, it grows by 1.2 GiB an hour.";
        assert_eq!(pace(&report).as_deref(), Some(expected));
        report.rss.end_bytes = 1 << 19;
        assert_eq!(pace(&report), None);
        report.rss.end_bytes = 10 << 20;
        report.window.ended_by = EndReason::TargetExited;
        assert_eq!(pace(&report), None);
        report.window.ended_by = EndReason::Duration;
        report.window.duration_ns = 3_000_000_000;
        assert_eq!(pace(&report), None);
    }

    #[test]
    fn arenas_of_small_objects_explain_growth_too() {
        let mut report = sample::idle();
        report.rss = Rss { start_bytes: 0, end_bytes: 10 << 20, ..Rss::default() };
        let arenas = &mut report.totals.pymalloc_arenas;
        arenas.allocated = Amount::new(10 << 20, 10);
        arenas.live = arenas.allocated;
        assert!(sentences(&report)[0].ends_with("which explains it."), "{:?}", sentences(&report));
    }

    #[test]
    fn a_window_without_allocations_says_so() {
        let mut report = sample::idle();
        assert!(sentences(&report)[0].starts_with("No allocation was seen"));
        report.totals.unmatched_frees = 1;
        assert!(sentences(&report)[0].starts_with("Memory was freed"));
    }
}
