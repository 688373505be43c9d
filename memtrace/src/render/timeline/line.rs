//! The lines of the chart.

use plotters::style::RGBColor;

use crate::model::{
    size,
    timeline::{Timeline, TimelineSample},
};

/// Colours that are told apart on light and dark grounds.
pub(super) const RSS: RGBColor = RGBColor(56, 132, 244);
const LIVE: RGBColor = RGBColor(226, 87, 46);
const IN_USE: RGBColor = RGBColor(38, 154, 92);
const HEAP: RGBColor = RGBColor(147, 97, 240);
const TRAPPED: RGBColor = RGBColor(207, 138, 0);

/// Live memory of more than that many times RSS is mapped and not touched: the chart ends below.
const BEYOND: u64 = 4;

/// A line.
pub(super) struct Line {
    /// For the legend.
    pub(super) label: String,
    pub(super) colour: RGBColor,
    /// Time in nanoseconds and bytes.
    pub(super) points: Vec<(u64, u64)>,
    /// Its points are few, and each is a walk of the heap.
    pub(super) of_walks: bool,
}

/// The lines that have points; RSS first.
pub(super) fn lines(timeline: &Timeline) -> Vec<Line> {
    let of = |label: &str, colour, of_walks, value: fn(&TimelineSample) -> Option<u64>| {
        let samples = timeline.samples.iter();
        let points = samples.filter_map(|it| Some((it.at_ns, value(it)?))).collect();
        Line { label: label.to_owned(), colour, points, of_walks }
    };
    let mut lines = vec![
        of("RSS", RSS, false, |it| Some(it.rss_bytes)),
        of("live, allocated in the window", LIVE, false, |it| it.live_bytes),
        of("heap resident", HEAP, true, |it| it.heap_resident_bytes),
        of("in use", IN_USE, true, |it| it.in_use_bytes),
        of("free but trapped", TRAPPED, true, |it| it.trapped_bytes),
    ];
    lines.retain(|line| !line.points.is_empty());
    cut_untouched(&mut lines, timeline.rss_peak_bytes);
    lines
}

/// A reservation of terabytes would press all else to the ground.
fn cut_untouched(lines: &mut [Line], rss_peak_bytes: u64) {
    let most = rss_peak_bytes.saturating_mul(BEYOND);
    for line in lines.iter_mut().filter(|line| line.colour == LIVE) {
        let highest = line.points.iter().map(|point| point.1).max().unwrap_or(0);
        if highest > most {
            line.points.iter_mut().for_each(|point| point.1 = point.1.min(rss_peak_bytes));
            line.label =
                format!("{} (cut: up to {}, not touched)", line.label, size::bytes(highest));
        }
    }
}
