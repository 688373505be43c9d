//! What a number was, is, and grew by.

use serde::Serialize;

use crate::model::{estimate::Bounds, site::Amount};

/// How two amounts stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It has nothing in the view of the capture before.
    New,
    /// More bytes; or as many, in more blocks.
    Grown,
    /// Equal.
    Unchanged,
    /// Fewer bytes; or as many, in fewer blocks.
    Shrunk,
    /// It has nothing in the view of the capture after.
    Gone,
}

impl Status {
    /// Every status, in the order of texts.
    pub const ALL: [Self; 5] = [Self::New, Self::Grown, Self::Unchanged, Self::Shrunk, Self::Gone];

    /// In a word.
    pub fn label(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Grown => "grown",
            Self::Unchanged => "unchanged",
            Self::Shrunk => "shrunk",
            Self::Gone => "gone",
        }
    }
}

/// Bytes and blocks, before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// How they stand to each other.
    pub status: Status,
    /// What `after` has more; negative where it has less. As sums of [`Amount`], differences wrap.
    pub growth_bytes: i64,
    /// The same of blocks.
    pub growth_count: i64,
    /// Where `growth_bytes` is, with 95 % confidence; `None` where neither side is an estimate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_95_bytes: Option<[i64; 2]>,
    /// In the first capture.
    pub before: Amount,
    /// In the second.
    pub after: Amount,
}

impl Change {
    /// From one amount to another.
    pub fn new(before: Amount, after: Amount) -> Self {
        let change = Self {
            growth_95_bytes: None,
            status: status(before, after),
            growth_bytes: after.bytes.wrapping_sub(before.bytes) as i64,
            growth_count: after.count.wrapping_sub(before.count) as i64,
            before,
            after,
        };
        Self { growth_95_bytes: change.growth_interval(), ..change }
    }

    /// The sides are independent, so that their errors add up in squares
    /// (Zou and Donner, 2008).
    fn growth_interval(&self) -> Option<[i64; 2]> {
        if self.before.is_exact() && self.after.is_exact() {
            return None;
        }
        let [before, after] =
            [self.before, self.after].map(|it| (it.bytes as f64, it.bytes_bounds()));
        let below = |(value, bounds): (f64, Bounds)| value - bounds.low as f64;
        let above = |(value, bounds): (f64, Bounds)| bounds.high as f64 - value;
        let growth = self.growth_bytes as f64;
        let low = growth - below(after).hypot(above(before));
        let high = growth + above(after).hypot(below(before));
        Some([low.floor() as i64, high.ceil() as i64])
    }

    /// Nothing on either side.
    pub fn is_nothing(&self) -> bool {
        self.before == Amount::default() && self.after == Amount::default()
    }
}

fn status(before: Amount, after: Amount) -> Status {
    let nothing = Amount::default();
    match (after.bytes, after.count).cmp(&(before.bytes, before.count)) {
        std::cmp::Ordering::Equal => Status::Unchanged,
        _ if before == nothing => Status::New,
        _ if after == nothing => Status::Gone,
        std::cmp::Ordering::Greater => Status::Grown,
        std::cmp::Ordering::Less => Status::Shrunk,
    }
}

/// Bytes in a second of each window, which windows of different length can be compared by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rate {
    /// Bytes a second of the first window; 0 where it has no length.
    pub before_bytes_per_s: u64,
    /// Of the second.
    pub after_bytes_per_s: u64,
}

impl Rate {
    /// What changed, in windows of these lengths.
    pub fn new(change: &Change, windows_ns: [u64; 2]) -> Self {
        Self {
            before_bytes_per_s: per_second(change.before.bytes, windows_ns[0]),
            after_bytes_per_s: per_second(change.after.bytes, windows_ns[1]),
        }
    }
}

fn per_second(bytes: u64, window_ns: u64) -> u64 {
    let scaled = u128::from(bytes) * 1_000_000_000;
    let rate = scaled.checked_div(u128::from(window_ns)).unwrap_or(0);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use memtrace_common::sample::Interval;

    use super::*;

    #[test]
    fn the_status_follows_from_bytes_and_then_from_blocks() {
        let amount = |bytes, count| Amount::new(bytes, count);
        let cases = [
            ((0, 0), (5, 1), Status::New),
            ((0, 0), (0, 1), Status::New),
            ((5, 1), (0, 0), Status::Gone),
            ((5, 1), (6, 1), Status::Grown),
            ((5, 1), (5, 2), Status::Grown),
            ((5, 2), (5, 1), Status::Shrunk),
            ((5, 1), (5, 1), Status::Unchanged),
            ((0, 0), (0, 0), Status::Unchanged),
        ];
        for ((bytes, count), (after_bytes, after_count), expected) in cases {
            let change = Change::new(amount(bytes, count), amount(after_bytes, after_count));
            assert_eq!(change.status, expected, "{change:?}");
        }
    }

    #[test]
    fn a_difference_of_estimates_has_the_errors_of_both() {
        let samples = |number: u64| {
            (0..number).fold(Amount::default(), |mut sum, _| {
                sum += Amount::sampled(64, Interval::from_exponent(19));
                sum
            })
        };
        let (before, after) = (samples(400), samples(900));
        let change = Change::new(before, after);
        let [low, high] = change.growth_95_bytes.unwrap();
        assert!(low < change.growth_bytes && change.growth_bytes < high);
        let of = |amount: Amount| amount.bytes_bounds().high - amount.bytes;
        let width = (high - change.growth_bytes) as f64;
        let expected = (of(before) as f64).hypot(of(after) as f64);
        assert!((width / expected - 1.0).abs() < 0.05, "{width} {expected}");
        assert_eq!(Change::new(Amount::one(1), Amount::one(2)).growth_95_bytes, None);
    }

    #[test]
    fn a_rate_is_of_a_second_and_a_window_without_length_has_none() {
        let change = Change::new(Amount::one(300), Amount::one(1000));
        let rate = Rate::new(&change, [3_000_000_000, 0]);
        assert_eq!((rate.before_bytes_per_s, rate.after_bytes_per_s), (100, 0));
    }
}
