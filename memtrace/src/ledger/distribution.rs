//! Distributions in fixed memory.

use hdrhistogram::Histogram;

use crate::model::trace;

/// Three significant digits: values are off by less than 0.1 %, and exact below 2048.
const SIGNIFICANT_DIGITS: u8 = 3;

/// The largest value that is told apart: 2^50 is a petabyte, and 13 days in nanoseconds.
const MAX_VALUE: u64 = 1 << 50;

/// Counts values; about 330 KiB whatever is recorded.
#[derive(Clone, Debug)]
pub struct Distribution {
    histogram: Histogram<u64>,
    min: u64,
    max: u64,
    seen: u64,
    sum: u128,
    /// What values with weights count for beyond 1, and the sum of that.
    unseen: f64,
    unseen_sum: f64,
}

impl Default for Distribution {
    #[expect(clippy::expect_used, reason = "fails only for bad constants, which every test sees")]
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, MAX_VALUE, SIGNIFICANT_DIGITS)
            .expect("the bounds and digits are in range");
        let (seen, sum, unseen, unseen_sum) = Default::default();
        Self { histogram, min: u64::MAX, max: 0, seen, sum, unseen, unseen_sum }
    }
}

impl Distribution {
    /// Counts a value as often as `weight` says: 1, or more where it stands for others.
    pub fn record(&mut self, value: u64, weight: f64) {
        // What weighs 1 and a bit counts as 1: quantiles are off by less than that.
        self.histogram.saturating_record_n(value, weight.round() as u64);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.seen += 1;
        self.sum += u128::from(value);
        self.unseen += weight - 1.0;
        self.unseen_sum += (weight - 1.0) * value as f64;
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.seen + self.unseen.round() as u64
    }

    /// The smallest, exactly; `None` when there are no values.
    pub fn min(&self) -> Option<u64> {
        (self.count() > 0).then_some(self.min)
    }

    /// The largest, exactly; `None` when there are no values.
    pub fn max(&self) -> Option<u64> {
        (self.count() > 0).then_some(self.max)
    }

    /// The mean, exactly where all values weigh 1; `None` when there are no values.
    pub fn mean(&self) -> Option<f64> {
        (self.count() > 0)
            .then(|| (self.sum as f64 + self.unseen_sum) / (self.seen as f64 + self.unseen))
    }

    /// All of these; `None` when there are no values.
    pub fn summary(&self) -> Option<trace::Distribution> {
        Some(trace::Distribution {
            count: self.count(),
            min: self.min()?,
            p50: self.quantile(0.5)?,
            p90: self.quantile(0.9)?,
            p99: self.quantile(0.99)?,
            max: self.max()?,
            mean: self.mean()?,
        })
    }

    /// The value that a share `quantile` (0 to 1) of all values does not exceed, within 0.1 %;
    /// `None` when there are no values.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        (self.count() > 0)
            .then(|| self.histogram.value_at_quantile(quantile).clamp(self.min, self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_distribution_has_no_values_rather_than_zeros() {
        let empty = Distribution::default();
        assert_eq!((empty.min(), empty.max(), empty.quantile(0.5)), (None, None, None));
        assert_eq!(empty.mean(), None);
    }

    #[test]
    fn extremes_and_mean_are_exact_and_quantiles_within_a_thousandth() {
        let mut values = Distribution::default();
        (0..=1_000_000).for_each(|value| values.record(value, 1.0));
        assert_eq!((values.min(), values.max()), (Some(0), Some(1_000_000)));
        assert_eq!(values.mean(), Some(500_000.0));
        for (quantile, exact) in [(0.5, 500_000.0), (0.9, 900_000.0), (0.99, 990_000.0)] {
            let found = values.quantile(quantile).expect("not empty") as f64;
            assert!((found - exact).abs() <= exact / 1000.0, "{quantile}: {found}");
        }
    }

    #[test]
    fn a_value_with_a_weight_stands_for_as_many() {
        let mut values = Distribution::default();
        values.record(10, 3.0);
        values.record(100, 1.0);
        assert_eq!((values.count(), values.quantile(0.75)), (4, Some(10)));
        assert_eq!(values.mean(), Some(32.5));
        values.record(7, 1.25);
        values.record(7, 1.25);
        assert_eq!(values.count(), 7, "parts of values add up");
    }

    #[test]
    fn values_beyond_the_bounds_are_counted_and_keep_their_exact_maximum() {
        let mut values = Distribution::default();
        values.record(u64::MAX, 1.0);
        values.record(0, 1.0);
        assert_eq!((values.count(), values.max()), (2, Some(u64::MAX)));
    }
}
