//! What a capture holds beside its sites, cut to a part's time.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::part::Part;
use crate::{
    capture::{Capture, Layouts},
    model::{
        coverage::Phase,
        layout::HeapLayout,
        room::Room,
        timeline::{PeakSource, Timeline, TimelineSample},
        trace::{EndReason, Rss, Walks, Window},
    },
};

/// The same in the part's time; `live_bytes` are those of the part, at each sample.
pub fn cut(mut capture: Capture, part: Part, live_bytes: &[u64]) -> Capture {
    let samples = &mut capture.timeline.samples;
    for (sample, live_bytes) in samples.iter_mut().zip(live_bytes) {
        sample.live_bytes = sample.live_bytes.map(|_| *live_bytes);
    }
    if !part.is_late && !part.is_early {
        return capture;
    }
    let ending = &mut capture.ending;
    ending.rss = rss(ending.rss, &capture.timeline.samples, part);
    ending.window = window(&ending.window, part);
    let (since_ns, until_ns) = (part.since_ns, part.until_ns);
    ending.coverage = ending.coverage.within(Phase { since_ns, until_ns });
    if part.is_early {
        // That of the end.
        ending.room = Room::default();
    }
    ending.closed_ns = part.opened_ns.saturating_add(part.until_ns);
    capture.walks = walks(&capture.walks, part);
    capture.layouts = layouts(capture.layouts, part);
    capture.timeline = timeline(&capture.timeline, part);
    capture.header.opened_ns = part.begin_ns();
    capture.header.started_at = capture.ending.window.started_at.clone();
    capture
}

fn window(window: &Window, part: Part) -> Window {
    Window {
        started_at: later(&window.started_at, part.since_ns),
        duration_ns: part.duration_ns(),
        ended_by: if part.is_early { EndReason::Duration } else { window.ended_by },
        ..window.clone()
    }
}

/// A time that cannot be read is left alone.
fn later(time: &str, by_ns: u64) -> String {
    let by = SignedDuration::from_nanos(i64::try_from(by_ns).unwrap_or(i64::MAX));
    match time.parse::<Timestamp>().and_then(|time| time.checked_add(by)) {
        Ok(later) => later.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => time.to_owned(),
    }
}

fn timeline(timeline: &Timeline, part: Part) -> Timeline {
    let inside = |sample: &&TimelineSample| (part.since_ns..=part.until_ns).contains(&sample.at_ns);
    let moved =
        |sample: &TimelineSample| TimelineSample { at_ns: sample.at_ns - part.since_ns, ..*sample };
    let mut samples: Vec<_> = timeline.samples.iter().filter(inside).map(moved).collect();
    // Its peak may have been before.
    if let Some(first) = samples.first_mut().filter(|_| part.is_late) {
        first.rss_peak_bytes = None;
    }
    let highest =
        |sample: &TimelineSample| sample.rss_bytes.max(sample.rss_peak_bytes.unwrap_or(0));
    Timeline {
        rss_peak_bytes: samples.iter().map(highest).max().unwrap_or_default(),
        rss_peak_source: timeline.rss_peak_source.map(|_| PeakSource::Samples),
        samples,
        cgroup_peak_bytes: timeline.cgroup_peak_bytes,
    }
}

/// RSS as the samples next to the part's ends have it; what it consisted of was not sampled.
fn rss(rss: Rss, samples: &[TimelineSample], part: Part) -> Rss {
    let at = |time_ns: u64| {
        let after = samples.partition_point(|sample| sample.at_ns <= time_ns);
        let nearest = samples.get(after.saturating_sub(1));
        nearest.map_or(rss.start_bytes, |sample| sample.rss_bytes)
    };
    let mut cut = rss;
    if part.is_late {
        (cut.start_bytes, cut.start_parts) = (at(part.since_ns), None);
    }
    if part.is_early {
        (cut.end_bytes, cut.end_parts) = (at(part.until_ns), None);
    }
    cut
}

/// Walks were at the ends of the window.
fn walks(walks: &Walks, part: Part) -> Walks {
    let mut cut = walks.clone();
    if part.is_late {
        (cut.before, cut.traced_in_use) = (None, None);
    }
    if part.is_early {
        (cut.after, cut.traced_in_use, cut.check) = (None, None, None);
    }
    cut.at_ns = walks.at_ns.saturating_sub(part.since_ns);
    cut
}

/// They are of the ends, too.
fn layouts(layouts: Layouts, part: Part) -> Layouts {
    let since_ns = i64::try_from(part.since_ns).unwrap_or(i64::MAX);
    let moved = |layout: Arc<HeapLayout>| {
        let at_ns = layout.at_ns.saturating_sub(since_ns);
        Arc::new(HeapLayout { at_ns, ..Arc::unwrap_or_clone(layout) })
    };
    Layouts {
        before: layouts.before.filter(|_| !part.is_late).map(moved),
        after: layouts.after.filter(|_| !part.is_early).map(moved),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_moved_and_one_that_is_none_is_not() {
        assert_eq!(later("2026-03-04T02:58:11Z", 90_000_000_000), "2026-03-04T02:59:41Z");
        assert_eq!(later("yesterday", 1), "yesterday");
    }
}
