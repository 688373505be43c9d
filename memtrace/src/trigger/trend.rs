//! How fast memory grows, over the last seconds.

use std::collections::VecDeque;

/// Over how long growth is measured.
const WINDOW_NS: u64 = 10_000_000_000;

/// Over how long it is measured for what must not come too late.
const RECENT_NS: u64 = 2_000_000_000;

/// The shortest time of which a rate means something.
const SHORTEST_NS: u64 = 200_000_000;

/// Most samples that are kept: others come too soon after the one before.
const SAMPLES: u64 = 64;

/// The last seconds of a size. Its memory is fixed.
#[derive(Clone, Debug)]
pub struct Trend {
    /// Times and sizes; those that are older than the window have gone, but for the youngest of
    /// them.
    kept: VecDeque<(u64, u64)>,
    last: Option<(u64, u64)>,
}

impl Default for Trend {
    fn default() -> Self {
        Self { kept: VecDeque::with_capacity(SAMPLES as usize + 2), last: None }
    }
}

impl Trend {
    /// Takes a sample that is later than those before; an earlier one is ignored.
    pub fn push(&mut self, time_ns: u64, bytes: u64) {
        if self.last.is_some_and(|(last_ns, _)| time_ns <= last_ns) {
            return;
        }
        self.last = Some((time_ns, bytes));
        let spaced = |(kept_ns, _): &(u64, u64)| time_ns - kept_ns >= WINDOW_NS / SAMPLES;
        if self.kept.back().is_none_or(spaced) {
            self.kept.push_back((time_ns, bytes));
        }
        // The one before the window stays, so that the window is covered.
        while self.kept.get(1).is_some_and(|(second_ns, _)| time_ns - second_ns >= WINDOW_NS) {
            self.kept.pop_front();
        }
    }

    /// Forgets all samples.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.last = None;
    }

    /// Bytes in a second over the window, negative when it shrinks; `None` before there are samples
    /// for it.
    pub fn bytes_per_second(&self) -> Option<f64> {
        self.rate_over(WINDOW_NS)
    }

    /// The same over the last two seconds if that is more: for how soon a limit may be reached.
    pub fn steepest_bytes_per_second(&self) -> Option<f64> {
        let (long, recent) = (self.rate_over(WINDOW_NS)?, self.rate_over(RECENT_NS));
        Some(recent.map_or(long, |recent| recent.max(long)))
    }

    fn rate_over(&self, window_ns: u64) -> Option<f64> {
        let (last_ns, last_bytes) = self.last?;
        let is_recent = |(time_ns, _): &&(u64, u64)| last_ns - time_ns <= window_ns;
        let (from_ns, from_bytes) = self.kept.iter().find(is_recent)?;
        let span_ns = last_ns - from_ns;
        (span_ns >= SHORTEST_NS)
            .then(|| (last_bytes as f64 - *from_bytes as f64) / (span_ns as f64 / 1e9))
    }
}

/// How long it takes until a size reaches its limit, in nanoseconds; `None` when it does not grow.
pub fn time_to_limit_ns(bytes: u64, limit_bytes: u64, bytes_per_second: f64) -> Option<u64> {
    let left = limit_bytes.saturating_sub(bytes) as f64;
    (bytes_per_second > 0.0).then(|| (left / bytes_per_second * 1e9) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_steady_growth_is_measured_however_often_it_is_sampled() {
        for step_ns in [SECOND / 1000, SECOND / 10, SECOND, 5 * SECOND] {
            let mut trend = Trend::default();
            for step in 0..60 * SECOND / step_ns {
                trend.push(SECOND + step * step_ns, step * step_ns / 1000);
            }
            let rate = trend.bytes_per_second().unwrap();
            assert!((rate - 1e6).abs() < 1.0, "{step_ns}: {rate}");
            assert!(trend.kept.len() as u64 <= SAMPLES + 2, "{}", trend.kept.len());
        }
    }

    #[test]
    fn growth_that_becomes_faster_is_seen_at_once() {
        let mut trend = Trend::default();
        for tenth in 0..100 {
            let fast = if tenth > 80 { (tenth - 80) * 1000 } else { 0 };
            trend.push(tenth * SECOND / 10, fast);
        }
        let (long, recent) =
            (trend.bytes_per_second().unwrap(), trend.steepest_bytes_per_second().unwrap());
        assert!(recent > 4.0 * long, "{recent} {long}");
    }

    #[test]
    fn one_sample_is_no_growth_and_neither_are_two_at_once() {
        let mut trend = Trend::default();
        assert_eq!(trend.bytes_per_second(), None);
        trend.push(5, 1);
        trend.push(6, 1 << 40);
        assert_eq!(trend.bytes_per_second(), None);
    }

    #[test]
    fn the_limit_is_reached_when_what_is_left_is_used_up() {
        assert_eq!(time_to_limit_ns(50, 100, 10.0), Some(5 * SECOND));
        assert_eq!(time_to_limit_ns(200, 100, 10.0), Some(0));
        assert_eq!(time_to_limit_ns(50, 100, -1.0), None);
    }

    proptest! {
        #[test]
        fn whatever_is_pushed_memory_is_fixed_and_rates_are_numbers(
            samples in prop::collection::vec((any::<u64>(), any::<u64>()), 0..300)
        ) {
            let mut trend = Trend::default();
            for (time_ns, bytes) in samples {
                trend.push(time_ns, bytes);
                prop_assert!(trend.kept.len() as u64 <= SAMPLES + 2);
                prop_assert!(trend.bytes_per_second().is_none_or(f64::is_finite));
            }
        }
    }
}
