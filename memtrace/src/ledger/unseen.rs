//! Exact sums of what is estimated: what was added can be taken away again, whatever came in between.

use memtrace_common::sample::Interval;

use crate::model::{estimate::Spread, site::Amount};

/// Fractions are kept in so many bits.
const FRACTION_BITS: u32 = 16;

/// Bytes and blocks that were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Requested bytes.
    pub bytes: u64,
    /// Blocks or ranges.
    pub count: u64,
}

impl Seen {
    /// Sums wrap, as those of [`Amount`].
    pub fn add(&mut self, other: Self) {
        self.bytes = self.bytes.wrapping_add(other.bytes);
        self.count = self.count.wrapping_add(other.count);
    }

    /// The reverse of [`Self::add`].
    pub fn subtract(&mut self, other: Self) {
        self.bytes = self.bytes.wrapping_sub(other.bytes);
        self.count = self.count.wrapping_sub(other.count);
    }

    /// As an amount that is no estimate.
    pub fn amount(self) -> Amount {
        Amount::new(self.bytes, self.count)
    }
}

/// What seen blocks stand for beyond themselves, in fixed point; sums wrap. The fields are those of
/// [`Spread`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unseen {
    bytes: u128,
    count: u128,
    bytes_variance: u128,
    count_variance: u128,
    square_bytes: u128,
}

impl Unseen {
    /// Of a block; nothing for one that was sure to be seen.
    pub fn of_block(bytes: u64, interval: Interval) -> Self {
        if interval.is_exact() {
            return Self::default();
        }
        let spread = Spread::of_block(bytes, interval);
        Self {
            bytes: fixed(spread.unseen_bytes),
            count: fixed(spread.unseen_count),
            bytes_variance: fixed(spread.bytes_variance),
            count_variance: fixed(spread.count_variance),
            square_bytes: fixed(spread.square_bytes),
        }
    }

    /// With what another has.
    pub fn add(&mut self, other: Self) {
        self.each(other, u128::wrapping_add);
    }

    /// The reverse of [`Self::add`].
    pub fn subtract(&mut self, other: Self) {
        self.each(other, u128::wrapping_sub);
    }

    fn each(&mut self, other: Self, of: fn(u128, u128) -> u128) {
        self.bytes = of(self.bytes, other.bytes);
        self.count = of(self.count, other.count);
        self.bytes_variance = of(self.bytes_variance, other.bytes_variance);
        self.count_variance = of(self.count_variance, other.count_variance);
        self.square_bytes = of(self.square_bytes, other.square_bytes);
    }

    /// The estimate of which this much was seen; `coarsest` is the largest interval of all.
    pub fn with(self, seen: Seen, coarsest: Interval) -> Spread {
        Spread {
            samples: seen.count,
            sampled_bytes: seen.bytes,
            unseen_bytes: float(self.bytes),
            unseen_count: float(self.count),
            bytes_variance: float(self.bytes_variance),
            count_variance: float(self.count_variance),
            square_bytes: float(self.square_bytes),
            unit_bytes: coarsest.mean_bytes() as f64,
            ..Spread::NONE
        }
    }
}

/// The nearest number; the largest for what is too large.
fn fixed(value: f64) -> u128 {
    (value * f64::from(1 << FRACTION_BITS)).round() as u128
}

fn float(value: u128) -> f64 {
    value as f64 / f64::from(1 << FRACTION_BITS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_added_can_be_taken_away_without_a_trace(
            blocks in proptest::collection::vec((any::<u64>(), 0..=40_u8), 0..50),
        ) {
            let mut sum = Unseen::default();
            let of = |(bytes, exponent): &(u64, u8)| {
                Unseen::of_block(*bytes, Interval::from_exponent(*exponent))
            };
            blocks.iter().for_each(|block| sum.add(of(block)));
            blocks.iter().rev().for_each(|block| sum.subtract(of(block)));
            prop_assert_eq!(sum, Unseen::default());
        }
    }
}
