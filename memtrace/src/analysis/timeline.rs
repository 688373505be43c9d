//! Records how memory develops, in bounded memory however long that takes.

use crate::model::{
    census::Census,
    timeline::{PeakSource, Timeline, TimelineSample},
};

/// Samples that are kept of a window; a chart is no wider than that.
pub const MAX_SAMPLES: usize = 2048;

/// Samples next to each other that are thinned out together, to at most half of them.
const GROUP: usize = 8;

/// The fewest samples that can be kept: the ends, and one group.
const MIN_SAMPLES: usize = GROUP + 2;

/// The kernel's high-water mark of RSS (`VmHWM`) at both ends of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HighWaterMark {
    /// At the start; after the reset, if there was one.
    pub start_bytes: u64,
    /// At the end, or when it was last seen.
    pub end_bytes: u64,
    /// It was reset at the start.
    pub reset: bool,
}

/// Collects samples. When there are too many, it keeps of each group of neighbours the highest and
/// the lowest RSS, the highest live bytes and a walk, so that peaks, troughs and both ends stay.
#[derive(Clone, Debug)]
pub struct TimelineRecorder {
    opened_ns: u64,
    limit: usize,
    samples: Vec<TimelineSample>,
    peak_bytes: u64,
}

impl TimelineRecorder {
    /// A recorder for a window that was opened at this `CLOCK_MONOTONIC`, of at most `limit`
    /// samples (at least 10).
    pub fn new(opened_ns: u64, limit: usize) -> Self {
        let limit = limit.max(MIN_SAMPLES);
        Self { opened_ns, limit, samples: Vec::with_capacity(limit), peak_bytes: 0 }
    }

    /// Adds a sample. Its time is that since the window's start; one that comes late finds its
    /// place.
    pub fn record(&mut self, sample: TimelineSample) {
        if self.samples.len() >= self.limit {
            self.thin_out();
        }
        self.peak_bytes = self.peak_bytes.max(highest(&sample));
        let place = self.samples.partition_point(|it| it.at_ns <= sample.at_ns);
        self.samples.insert(place, sample);
    }

    /// Adds what a walk of the heap found, at the time when it began.
    pub fn add_walk(&mut self, census: &Census) {
        self.record(TimelineSample {
            at_ns: census.time_ns.saturating_sub(self.opened_ns),
            rss_bytes: census.rss.rss_bytes,
            in_use_bytes: Some(census.in_use_bytes()),
            heap_resident_bytes: Some(census.heap_resident_bytes()),
            trapped_bytes: Some(census.trapped_bytes()),
            ..TimelineSample::default()
        });
    }

    /// The samples so far, ascending by time.
    pub fn samples(&self) -> &[TimelineSample] {
        &self.samples
    }

    /// All of it, and the window's peak by the best source there is.
    pub fn finish(self, mark: Option<HighWaterMark>, cgroup_peak_bytes: Option<u64>) -> Timeline {
        let (rss_peak_bytes, source) = peak(self.peak_bytes, mark);
        Timeline {
            rss_peak_source: (!self.samples.is_empty()).then_some(source),
            samples: self.samples,
            rss_peak_bytes,
            cgroup_peak_bytes,
        }
    }

    /// Leaves the first and the last sample alone.
    fn thin_out(&mut self) {
        let last = self.samples.len() - 1;
        let mut kept = Vec::with_capacity(self.limit);
        kept.push(self.samples[0]);
        for group in self.samples[1..last].chunks(GROUP) {
            representatives(group, &mut kept);
        }
        kept.push(self.samples[last]);
        self.samples = kept;
    }
}

fn highest(sample: &TimelineSample) -> u64 {
    sample.rss_bytes.max(sample.rss_peak_bytes.unwrap_or(0))
}

/// The mark is the exact peak of the window where it was reset, or where the window pushed it up.
/// Otherwise it is older, and only the samples are from the window.
fn peak(sampled_bytes: u64, mark: Option<HighWaterMark>) -> (u64, PeakSource) {
    match mark {
        Some(mark) if mark.reset => {
            (sampled_bytes.max(mark.end_bytes), PeakSource::ResetHighWaterMark)
        }
        Some(mark) if mark.end_bytes > mark.start_bytes => {
            (sampled_bytes.max(mark.end_bytes), PeakSource::HighWaterMark)
        }
        _ => (sampled_bytes, PeakSource::Samples),
    }
}

/// At most four of a group, in their order. A peak between samples goes to the next that is kept.
fn representatives(group: &[TimelineSample], kept: &mut Vec<TimelineSample>) {
    let chosen = [
        position_of_max(group, |sample| Some(highest(sample))),
        position_of_max(group, |sample| Some(u64::MAX - sample.rss_bytes)),
        position_of_max(group, |sample| sample.live_bytes),
        position_of_max(group, |sample| sample.heap_resident_bytes),
    ];
    let mut missed_peak = None;
    for (index, sample) in group.iter().enumerate() {
        let peak = sample.rss_peak_bytes.max(missed_peak);
        if chosen.contains(&Some(index)) {
            kept.push(TimelineSample { rss_peak_bytes: peak, ..*sample });
            missed_peak = None;
        } else {
            missed_peak = peak;
        }
    }
}

/// The first of the largest; `None` where no sample has the value.
fn position_of_max(
    group: &[TimelineSample],
    value: impl Fn(&TimelineSample) -> Option<u64>,
) -> Option<usize> {
    let values = group.iter().enumerate().filter_map(|(index, it)| Some((value(it)?, index)));
    values.max_by_key(|(value, index)| (*value, usize::MAX - index)).map(|(_, index)| index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(at_ns: u64, rss_bytes: u64) -> TimelineSample {
        TimelineSample { at_ns, rss_bytes, ..TimelineSample::default() }
    }

    fn recorded(limit: usize, values: &[u64]) -> TimelineRecorder {
        let mut recorder = TimelineRecorder::new(0, limit);
        for (at, value) in (0..).zip(values) {
            recorder.record(sample(at, *value));
        }
        recorder
    }

    #[test]
    fn few_samples_are_kept_as_they_are() {
        let values = [3, 1, 4, 1, 5, 9, 2, 6];
        let kept = recorded(10, &values);
        assert!(kept.samples().iter().map(|it| it.rss_bytes).eq(values));
    }

    #[test]
    fn a_month_of_samples_takes_no_more_room_than_a_minute() {
        let mut recorder = TimelineRecorder::new(0, 64);
        let capacity = recorder.samples.capacity();
        for at in 0..100_000 {
            recorder.record(sample(at, at % 977));
        }
        assert!(recorder.samples().len() <= 64, "{}", recorder.samples().len());
        assert_eq!(recorder.samples.capacity(), capacity);
    }

    #[test]
    fn a_walk_is_put_where_it_belongs_and_survives_thinning() {
        let mut recorder = TimelineRecorder::new(1_000, 64);
        for at in 0..40 {
            recorder.record(sample(at * 100, 7));
        }
        let mut census = Census { time_ns: 2_050, ..Census::default() };
        census.rss.rss_bytes = 7;
        recorder.add_walk(&census);
        for at in 40..1_000 {
            recorder.record(sample(at * 100, 7));
        }
        let walks: Vec<_> =
            recorder.samples().iter().filter(|it| it.in_use_bytes.is_some()).collect();
        assert!(matches!(walks[..], [TimelineSample { at_ns: 1_050, .. }]), "{walks:?}");
    }

    #[test]
    fn the_peak_names_its_source() {
        let mark =
            |start_bytes, end_bytes, reset| Some(HighWaterMark { start_bytes, end_bytes, reset });
        let cases = [
            (None, (9, PeakSource::Samples)),
            (mark(50, 50, false), (9, PeakSource::Samples)),
            (mark(8, 12, false), (12, PeakSource::HighWaterMark)),
            (mark(3, 12, true), (12, PeakSource::ResetHighWaterMark)),
            (mark(3, 3, true), (9, PeakSource::ResetHighWaterMark)),
        ];
        for (mark, (bytes, source)) in cases {
            let timeline = recorded(10, &[3, 9, 4]).finish(mark, Some(77));
            assert_eq!((timeline.rss_peak_bytes, timeline.rss_peak_source), (bytes, Some(source)));
            assert_eq!(timeline.cgroup_peak_bytes, Some(77));
        }
        let nothing = TimelineRecorder::new(0, 10).finish(None, None);
        assert_eq!(nothing, Timeline::default());
    }

    proptest! {
        #[test]
        fn ends_peaks_and_troughs_are_never_lost(
            limit in 0_usize..40,
            values in prop::collection::vec(0_u64..1_000, 1..600),
            marks in prop::collection::vec(prop::option::weighted(0.1, 0_u64..2_000), 600),
        ) {
            let mut recorder = TimelineRecorder::new(0, limit);
            for ((at, value), mark) in (0..).zip(&values).zip(&marks) {
                let peak = mark.filter(|mark| mark > value);
                recorder.record(TimelineSample { rss_peak_bytes: peak, ..sample(at, *value) });
            }
            let kept = recorder.samples().to_vec();
            prop_assert!(kept.len() <= limit.max(MIN_SAMPLES));
            prop_assert!(kept.is_sorted_by_key(|it| it.at_ns));
            prop_assert_eq!(kept[0].rss_bytes, values[0]);
            prop_assert_eq!(kept[kept.len() - 1].at_ns, values.len() as u64 - 1);
            prop_assert!(kept.iter().all(|it| values[it.at_ns as usize] == it.rss_bytes));
            let kept_peak = kept.iter().map(highest).max();
            let low = kept.iter().map(|it| it.rss_bytes).min();
            prop_assert_eq!(low, values.iter().copied().min());
            prop_assert_eq!(kept_peak, Some(recorder.finish(None, None).rss_peak_bytes));
        }
    }
}
