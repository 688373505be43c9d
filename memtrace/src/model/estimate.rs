//! What samples tell of an amount: how much of it is an estimate, and how far that can be off.
//!
//! docs/sampling.md has the formulas and what they were checked by. In short: a block of `y` bytes is
//! a sample with probability `p`, independently of all others, and stands for `y / p` (Horvitz and
//! Thompson, 1952). The samples themselves are known to exist, so that only the rest,
//! `y (1 - p) / p` a sample, is uncertain, with the variance `y^2 (1 - p) / p^2` a sample.

use memtrace_common::sample::Interval;
use serde::{Deserialize, Serialize};

use super::{gamma, site::Amount};

/// The quantile of the normal distribution that 95 % intervals end at, on both sides.
const Z_95: f64 = 1.959_963_985;

/// From so many samples' worth of information on, an interval is not made wider than its formula.
const ENOUGH: f64 = 20.0;

/// Weights of counts differ as sizes do, so that their sums are skewed: the upper end is that of a
/// sample more, of this many times the usual weight.
const SKEW: f64 = 1.2;

/// Blocks that are smaller are hardly ever asked for: what the number of unseen blocks is bounded by
/// where too few were seen.
const SMALLEST_BYTES: u64 = 16;

/// What an amount consists of, where not every block was looked at. All zero: every block was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spread {
    /// Blocks that were seen.
    pub samples: u64,
    /// Their bytes.
    pub sampled_bytes: u64,
    /// Estimated bytes of the blocks that were not seen.
    pub unseen_bytes: f64,
    /// Estimated number of the blocks that were not seen.
    pub unseen_count: f64,
    /// Variance of the bytes, in square bytes.
    pub bytes_variance: f64,
    /// Variance of the number of blocks.
    pub count_variance: f64,
    /// Estimated sum of the squares of all blocks' sizes, in square bytes.
    pub square_bytes: f64,
    /// Bytes that one sample stands for, at least: the mean distance of samples, where it was the
    /// largest. Above 0 for every estimate.
    pub unit_bytes: f64,
    /// Estimated bytes, each times the logarithm of what it may be times too much or too little, with 95 %
    /// confidence: errors that all of a window has in common.
    #[serde(skip_serializing_if = "is_zero")]
    pub doubted_bytes: f64,
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

/// How many times more there was than was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// So many times.
    pub factor: f64,
    /// What is scaled up by it is this many times too much or too little at most, with 95 % confidence.
    pub margin: f64,
}

impl From<f64> for Scale {
    fn from(factor: f64) -> Self {
        Self { factor, margin: 1.0 }
    }
}

// No field is ever NaN: sums of finite numbers, and what is read from files is cleaned.
impl Eq for Spread {}

/// The ends of a 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bounds {
    /// The lower end: never less than what was seen.
    pub low: u64,
    /// The upper end.
    pub high: u64,
}

impl Bounds {
    /// Whether it is in between, ends included.
    pub fn contains(self, value: u64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Half of its width, as a part of a value in it; 0 where there is nothing.
    pub fn relative(self, value: u64) -> f64 {
        let width = self.high.saturating_sub(self.low) as f64 / 2.0;
        if width == 0.0 { 0.0 } else { width / value.max(1) as f64 }
    }
}

impl Spread {
    /// That of what is no estimate.
    pub const NONE: Self = Self {
        samples: 0,
        sampled_bytes: 0,
        unseen_bytes: 0.0,
        unseen_count: 0.0,
        bytes_variance: 0.0,
        count_variance: 0.0,
        square_bytes: 0.0,
        unit_bytes: 0.0,
        doubted_bytes: 0.0,
    };

    /// Of a block that is a sample.
    pub fn of_block(bytes: u64, interval: Interval) -> Self {
        Self::of_size(bytes, interval.weight(bytes), interval)
    }

    /// Of so many bytes of a block that is a sample of this weight.
    fn of_size(bytes: u64, weight: f64, interval: Interval) -> Self {
        let size = bytes as f64;
        let unseen = weight - 1.0;
        Self {
            samples: 1,
            sampled_bytes: bytes,
            unseen_bytes: size * unseen,
            unseen_count: unseen,
            bytes_variance: size * size * weight * unseen,
            count_variance: weight * unseen,
            square_bytes: size * size * weight,
            unit_bytes: interval.mean_bytes() as f64,
            ..Self::NONE
        }
    }

    /// Of blocks that were all looked at, of which there are as many.
    fn of_exact(amount: Amount) -> Self {
        let (bytes, count) = (amount.bytes as f64, amount.count.max(1) as f64);
        Self {
            samples: amount.count,
            sampled_bytes: amount.bytes,
            square_bytes: bytes * bytes / count,
            ..Self::default()
        }
    }

    /// Of any amount.
    pub fn of(amount: Amount) -> Self {
        if amount.is_exact() { Self::of_exact(amount) } else { amount.spread }
    }

    /// The estimate.
    pub fn amount(self) -> Amount {
        let unseen = |value: f64| value.round() as u64;
        Amount {
            bytes: self.sampled_bytes.wrapping_add(unseen(self.unseen_bytes)),
            count: self.samples.wrapping_add(unseen(self.unseen_count)),
            spread: self,
        }
    }

    /// With what another has.
    pub fn plus(self, other: Self) -> Self {
        Self {
            samples: self.samples.wrapping_add(other.samples),
            sampled_bytes: self.sampled_bytes.wrapping_add(other.sampled_bytes),
            unseen_bytes: self.unseen_bytes + other.unseen_bytes,
            unseen_count: self.unseen_count + other.unseen_count,
            bytes_variance: self.bytes_variance + other.bytes_variance,
            count_variance: self.count_variance + other.count_variance,
            square_bytes: self.square_bytes + other.square_bytes,
            unit_bytes: self.unit_bytes.max(other.unit_bytes),
            doubted_bytes: self.doubted_bytes + other.doubted_bytes,
        }
    }

    /// Without what is a part of it.
    pub fn minus(self, part: Self) -> Self {
        let less = |whole: f64, part: f64| (whole - part).max(0.0);
        Self {
            samples: self.samples.wrapping_sub(part.samples),
            sampled_bytes: self.sampled_bytes.wrapping_sub(part.sampled_bytes),
            unseen_bytes: less(self.unseen_bytes, part.unseen_bytes),
            unseen_count: less(self.unseen_count, part.unseen_count),
            bytes_variance: less(self.bytes_variance, part.bytes_variance),
            count_variance: less(self.count_variance, part.count_variance),
            square_bytes: less(self.square_bytes, part.square_bytes),
            unit_bytes: self.unit_bytes.max(part.unit_bytes),
            doubted_bytes: less(self.doubted_bytes, part.doubted_bytes),
        }
    }

    /// What it would be if there had been so many times as much, of which each block had been looked
    /// for with a chance of 1 to the factor.
    fn scaled(self, Scale { factor, margin }: Scale) -> Self {
        let (seen_bytes, seen_count) = (self.sampled_bytes as f64, self.samples as f64);
        let (bytes, count) = (seen_bytes + self.unseen_bytes, seen_count + self.unseen_count);
        let thinned = factor * (factor - 1.0);
        let usual_bytes = if bytes > 0.0 { self.square_bytes / bytes } else { 0.0 };
        Self {
            unseen_bytes: factor * bytes - seen_bytes,
            unseen_count: factor * count - seen_count,
            bytes_variance: factor * factor * self.bytes_variance + thinned * self.square_bytes,
            count_variance: factor * factor * self.count_variance + thinned * count,
            square_bytes: factor * self.square_bytes,
            unit_bytes: factor * self.unit_bytes.max(usual_bytes).max(1.0),
            doubted_bytes: factor * (self.doubted_bytes + bytes * margin.max(1.0).ln()),
            ..self
        }
    }

    /// Numbers that a file may hold and that no sum has become 0.
    pub fn cleaned(self) -> Self {
        let clean = |value: f64| if value.is_finite() && value > 0.0 { value } else { 0.0 };
        Self {
            unseen_bytes: clean(self.unseen_bytes),
            unseen_count: clean(self.unseen_count),
            bytes_variance: clean(self.bytes_variance),
            count_variance: clean(self.count_variance),
            square_bytes: clean(self.square_bytes),
            unit_bytes: clean(self.unit_bytes),
            doubted_bytes: clean(self.doubted_bytes),
            ..self
        }
    }

    /// Where the bytes are, with 95 % confidence.
    fn bytes_bounds(self) -> Bounds {
        let rest = Rest { value: self.unseen_bytes, variance: self.bytes_variance };
        // The usual weight can be that of blocks so large that hardly any is missed.
        let extra = |usual: f64, _| (0.5, usual.min(self.unit_bytes));
        let bounds = rest.bounds(self.sampled_bytes, self.unit_bytes, extra);
        self.doubted(bounds, self.sampled_bytes, self.unseen_bytes)
    }

    /// Where the number of blocks is, with 95 % confidence.
    fn count_bounds(self) -> Bounds {
        let rest = Rest { value: self.unseen_count, variance: self.count_variance };
        let smallest = SMALLEST_BYTES as f64;
        let largest_weight = (-(-smallest / self.unit_bytes).exp_m1()).recip();
        // From half of what is enough on, blocks that small would have been among the samples.
        let extra = |usual: f64, doubt: f64| {
            (1.0, SKEW * usual + (2.0 * doubt - 1.0).max(0.0) * largest_weight)
        };
        let bounds = rest.bounds(self.samples, largest_weight, extra);
        self.doubted(bounds, self.samples, self.unseen_count)
    }

    /// With the errors that are none of chance, which come on top in squares (Zou and Donner, 2008).
    fn doubted(self, bounds: Bounds, seen: u64, unseen: f64) -> Bounds {
        let bytes = self.sampled_bytes as f64 + self.unseen_bytes;
        if self.doubted_bytes <= 0.0 || bytes <= 0.0 {
            return bounds;
        }
        let margin = (self.doubted_bytes / bytes).exp();
        let value = seen as f64 + unseen;
        let below = (value - bounds.low as f64).max(0.0).hypot(value - value / margin);
        let above = (bounds.high as f64 - value).max(0.0).hypot(value * margin - value);
        Bounds {
            low: seen.max((value - below).max(0.0) as u64),
            high: (value + above).ceil() as u64,
        }
    }
}

/// What was not seen of an amount.
#[derive(Clone, Copy)]
struct Rest {
    value: f64,
    variance: f64,
}

impl Rest {
    /// A sum of weights is about a weight times a Poisson number, of which the ends of an interval are
    /// quantiles of gamma distributions (as of Fay and Feuer, 1997). `extra` says how much of a sample
    /// more, of which weight, the upper end has, given the usual weight and how far too little is
    /// known; `unit` is what one sample would weigh where there was none.
    fn bounds(self, seen: u64, unit: f64, extra: impl Fn(f64, f64) -> (f64, f64)) -> Bounds {
        let known = self.value > 0.0 && self.variance > 0.0;
        let usual = if known { self.variance / self.value } else { unit };
        let samples = if known { self.value / usual } else { 0.0 };
        // 1 where nothing is known, 0 where enough is.
        let doubt = (1.0 - samples / ENOUGH).max(0.0);
        let low =
            if known { usual * gamma::quantile(samples + 0.5 - doubt / 2.0, -Z_95) } else { 0.0 };
        let (part, weight) = if known { extra(usual, doubt) } else { (1.0, unit) };
        let part = (part + doubt / 2.0).min(1.0);
        let value = self.value + part * weight;
        let variance = self.variance + part * weight * weight;
        let high = variance / value * gamma::quantile(value * value / variance, Z_95);
        let seen_value = |unseen: f64| seen.saturating_add(unseen as u64);
        Bounds { low: seen_value(low.floor()), high: seen_value(high.ceil()) }
    }
}

impl Amount {
    /// Every block was looked at: the numbers are no estimates.
    pub fn is_exact(&self) -> bool {
        self.spread.unit_bytes == 0.0
    }

    /// What a block stands for that was looked at this densely.
    pub fn sampled(bytes: u64, interval: Interval) -> Self {
        match interval.is_exact() {
            true => Self::one(bytes),
            false => Spread::of_block(bytes, interval).amount(),
        }
    }

    /// What a part of such a block stands for: as many blocks, with such a part of each.
    pub fn sampled_part(part_bytes: u64, bytes: u64, interval: Interval) -> Self {
        match interval.is_exact() {
            true => Self::one(part_bytes),
            false => Spread::of_size(part_bytes, interval.weight(bytes), interval).amount(),
        }
    }

    /// The same where blocks were looked at this densely: there can be more, even if nothing was seen.
    pub fn among_samples(self, interval: Interval) -> Self {
        if interval.is_exact() {
            return self;
        }
        let spread = Spread::of(self);
        let unit_bytes = spread.unit_bytes.max(interval.mean_bytes() as f64);
        Spread { unit_bytes, ..spread }.amount()
    }

    /// So many times as much, where the rest was not looked at; the same for once or less.
    pub fn scaled(self, scale: impl Into<Scale>) -> Self {
        let scale = scale.into();
        if scale.factor <= 1.0 || !scale.factor.is_finite() || self == Self::default() {
            return self;
        }
        Spread::of(self).scaled(scale).amount()
    }

    /// The numbers alone.
    pub fn plain(self) -> Self {
        Self::new(self.bytes, self.count)
    }

    /// How many blocks were seen.
    pub fn samples(&self) -> u64 {
        if self.is_exact() { self.count } else { self.spread.samples }
    }

    /// Where the bytes are, with 95 % confidence; they themselves where they are no estimate.
    pub fn bytes_bounds(&self) -> Bounds {
        match self.is_exact() {
            true => Bounds { low: self.bytes, high: self.bytes },
            false => self.spread.bytes_bounds(),
        }
    }

    /// Where the number of blocks is, with 95 % confidence; it itself where it is no estimate.
    pub fn count_bounds(&self) -> Bounds {
        match self.is_exact() {
            true => Bounds { low: self.count, high: self.count },
            false => self.spread.count_bounds(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: u8 = 19;

    fn interval() -> Interval {
        Interval::from_exponent(INTERVAL)
    }

    fn sum(sizes: &[u64]) -> Amount {
        sizes.iter().fold(Amount::default(), |mut sum, size| {
            sum += Amount::sampled(*size, interval());
            sum
        })
    }

    #[test]
    fn an_exact_amount_has_no_interval() {
        let mut exact = Amount::sampled(100, Interval::EXACT);
        exact += Amount::new(50, 2);
        assert_eq!(exact, Amount::new(150, 3));
        assert_eq!(exact.bytes_bounds(), Bounds { low: 150, high: 150 });
        assert_eq!(exact.count_bounds(), Bounds { low: 3, high: 3 });
    }

    #[test]
    fn a_part_of_a_sample_stands_for_that_part_of_as_many_blocks() {
        let (whole, half) =
            (Amount::sampled(64, interval()), Amount::sampled_part(32, 64, interval()));
        assert_eq!(half.count, whole.count);
        assert!((half.bytes * 2).abs_diff(whole.bytes) <= 1, "{half:?} {whole:?}");
        assert_eq!(Amount::sampled_part(32, 64, Interval::EXACT), Amount::one(32));
    }

    #[test]
    fn a_small_sample_stands_for_the_interval_and_a_large_block_for_itself() {
        let small = Amount::sampled(64, interval());
        // The kernel side draws by a table: weights follow what it does.
        assert!(small.bytes.abs_diff(1 << INTERVAL) < (1 << INTERVAL) / 100, "{small:?}");
        assert!(small.count.abs_diff(8192) < 82, "{small:?}");
        let large = Amount::sampled(1 << 30, interval());
        assert_eq!((large.bytes, large.count), (1 << 30, 1));
        assert_eq!(large.bytes_bounds().low, 1 << 30, "it was seen");
    }

    #[test]
    fn nothing_seen_is_bounded_by_about_three_intervals() {
        let mut freed = sum(&[100]);
        freed -= sum(&[100]);
        let bounds = freed.bytes_bounds();
        assert_eq!((freed.bytes, freed.count, bounds.low), (0, 0, 0));
        let intervals = bounds.high as f64 / interval().mean_bytes() as f64;
        assert!((3.0..4.0).contains(&intervals), "{intervals}");
        let weights = freed.count_bounds().high as f64 / interval().weight(SMALLEST_BYTES);
        assert!((3.0..4.0).contains(&weights), "{weights}");
    }

    #[test]
    fn few_samples_have_wide_intervals_that_lean_upwards() {
        for samples in [1, 3, 10] {
            let amount = sum(&vec![100; samples]);
            let Bounds { low, high } = amount.bytes_bounds();
            assert!(low >= 100 * samples as u64 && low < amount.bytes);
            assert!(high - amount.bytes > amount.bytes - low, "{samples}: {low} {high}");
        }
    }

    #[test]
    fn many_samples_have_the_interval_of_a_normal_distribution() {
        let amount = sum(&vec![100; 10_000]);
        let Bounds { low, high } = amount.bytes_bounds();
        let relative = Bounds { low, high }.relative(amount.bytes);
        assert!((relative - Z_95 / 100.0).abs() < 1e-3, "{relative}");
    }

    #[test]
    fn what_was_seen_a_fifth_of_the_time_is_five_times_as_much_and_less_sure() {
        let amount = sum(&vec![100; 400]);
        let scaled = amount.scaled(5.0);
        assert!(scaled.bytes.abs_diff(5 * amount.bytes) <= 5);
        let [before, after] = [amount, scaled].map(|it| it.bytes_bounds().relative(it.bytes));
        assert!((after / before - 1.0).abs() < 0.01, "small blocks tell as much as they are many");
        let exact = Amount::new(1000, 10).scaled(4.0);
        assert_eq!((exact.bytes, exact.count, exact.samples()), (4000, 40, 10));
        assert!(exact.bytes_bounds().low < 4000 && exact.bytes_bounds().high > 4000);
        assert_eq!(amount.scaled(1.0), amount);
    }

    #[test]
    fn what_is_scaled_up_by_what_is_not_known_well_can_be_so_many_times_off() {
        let many = sum(&vec![100; 10_000]);
        let doubted = many.scaled(Scale { factor: 5.0, margin: 2.0 });
        assert_eq!(doubted.bytes, many.scaled(5.0).bytes);
        let Bounds { low, high } = doubted.bytes_bounds();
        let near = |end: u64, times: f64| (end as f64 / doubted.bytes as f64 / times - 1.0).abs();
        assert!(near(low, 0.5) < 0.01 && near(high, 2.0) < 0.01, "{low} {high} {doubted:?}");
        let Bounds { low, high } = doubted.count_bounds();
        let near = |end: u64, times: f64| (end as f64 / doubted.count as f64 / times - 1.0).abs();
        assert!(near(low, 0.5) < 0.01 && near(high, 2.0) < 0.01, "{low} {high} {doubted:?}");
        // What was seen was there.
        let seen = Amount::new(1000, 10).scaled(Scale { factor: 1.1, margin: 3.0 });
        assert_eq!((seen.bytes_bounds().low, seen.count_bounds().low), (1000, 10));
    }

    #[test]
    fn errors_that_all_have_in_common_do_not_get_less_in_sums() {
        let one = sum(&vec![100; 1000]).scaled(Scale { factor: 5.0, margin: 1.5 });
        let mut all = one;
        (0..99).for_each(|_| all += one);
        let relative = |amount: Amount| amount.bytes_bounds().high as f64 / amount.bytes as f64;
        assert!((1.5..1.51).contains(&relative(all)), "{}", relative(all));
        (0..99).for_each(|_| all -= one);
        assert!((relative(all) / relative(one) - 1.0).abs() < 1e-6, "{all:?}");
        let mut mixed = Amount::new(one.bytes, 1);
        mixed += one;
        assert!((1.2..1.3).contains(&relative(mixed)), "half of it is known: {}", relative(mixed));
    }

    #[test]
    fn sums_and_their_parts_agree_whatever_was_exact() {
        let mut mixed = Amount::new(1000, 4);
        mixed += sum(&[64, 5000]);
        let mut expected = sum(&[64, 5000]);
        expected.bytes += 1000;
        expected.count += 4;
        assert_eq!((mixed.bytes, mixed.count), (expected.bytes, expected.count));
        assert_eq!(mixed.samples(), 6);
        mixed -= sum(&[64, 5000]);
        assert_eq!((mixed.bytes, mixed.count), (1000, 4));
    }

    #[test]
    fn an_estimate_comes_back_from_json_as_it_was() {
        for amount in [Amount::new(5, 1), sum(&[64, 5000]), sum(&[64]).scaled(3.0)] {
            let json = serde_json::to_string(&amount).unwrap();
            assert_eq!(serde_json::from_str::<Amount>(&json).unwrap(), amount, "{json}");
        }
    }
}
