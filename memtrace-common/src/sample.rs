//! Sampling by bytes: which allocations are looked at, decided the same way on both sides.
//!
//! Think of a point for every so many bytes allocated, at random distances with an exponential
//! distribution (a Poisson process): an allocation is a sample when a point falls into it. Points
//! have no memory, so each allocation of `size` bytes is one independently of all others with
//! probability `1 - exp(-size / interval)`, and no counter needs to be kept. A sample stands for
//! the inverse of its probability in allocations, which makes sums unbiased.
//!
//! The kernel side draws with [`Interval::is_sampled`] and the user side weighs with
//! [`Interval::weight`]: both come from [`Interval::threshold`], so what its fixed-point
//! approximation lacks in precision is no bias.

/// The mean distance of sample points. It travels with each event, because it changes while a trace
/// goes on.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interval(u8);

/// Where the interval stands in the flags of a record.
const FLAGS_SHIFT: u32 = 8;

/// Bits of the flags that hold the interval.
pub const FLAGS_MASK: u16 = 0x3f << FLAGS_SHIFT;

/// Steps of the table of powers.
const STEPS: usize = 64;

/// `2^-(i/64)` as a fraction of 2^32, rounded.
const POWERS: [u64; STEPS + 1] = powers();

/// `log2(e)` as a fraction of 2^16.
const LOG2_E: u64 = 94_548;

impl Interval {
    /// Every allocation is looked at.
    pub const EXACT: Self = Self(0);
    /// The largest.
    pub const MAX: Self = Self(40);

    /// A mean distance of `2^exponent` bytes; [`Self::EXACT`] for 0, and at most [`Self::MAX`].
    pub fn from_exponent(exponent: u8) -> Self {
        if exponent > Self::MAX.0 { Self::MAX } else { Self(exponent) }
    }

    /// The power of two nearest to a number of bytes (by ratio); exact for 0 and 1.
    pub fn nearest(bytes: u64) -> Self {
        let below = 63_u32.saturating_sub(bytes.leading_zeros());
        // Above the geometric middle, 2^below * sqrt(2), the next power is nearer.
        let middle = u128::from(bytes) * u128::from(bytes) > 1_u128 << (2 * below + 1);
        Self::from_exponent((below + u32::from(middle)) as u8)
    }

    /// The exponent of its mean in bytes, 0 when exact.
    #[inline(always)]
    pub fn exponent(self) -> u8 {
        self.0
    }

    /// The mean distance in bytes; 1 when exact.
    pub fn mean_bytes(self) -> u64 {
        1 << self.0
    }

    /// Whether every allocation is looked at.
    #[inline(always)]
    pub fn is_exact(self) -> bool {
        self.0 == 0
    }

    /// As bits of a record's flags.
    #[inline(always)]
    pub fn to_flags(self) -> u16 {
        u16::from(self.0) << FLAGS_SHIFT
    }

    /// From a record's flags; `None` when it is larger than [`Self::MAX`].
    pub fn from_flags(flags: u16) -> Option<Self> {
        let interval = Self(((flags & FLAGS_MASK) >> FLAGS_SHIFT) as u8);
        (interval.0 <= Self::MAX.0).then_some(interval)
    }

    /// An allocation is a sample when 32 random bits are not above this.
    #[inline(always)]
    pub fn threshold(self, size_bytes: u64) -> u32 {
        if self.is_exact() {
            return u32::MAX;
        }
        // From 2^5 means on the probability is 1 to the last bit.
        let size_bytes = if size_bytes == 0 { 1 } else { size_bytes };
        if size_bytes >> self.0 >= 32 {
            return u32::MAX;
        }
        // The number of halvings, size / mean * log2(e), as a fraction of 2^32. The size has at most
        // 5 bits more than the mean, the factor has 17.
        let scaled = size_bytes * LOG2_E;
        let shift = self.0 & 63;
        u32::MAX - half(if shift < 16 { scaled << (16 - shift) } else { scaled >> (shift - 16) })
    }

    /// Draws, by 32 random bits.
    #[inline(always)]
    pub fn is_sampled(self, size_bytes: u64, random: u32) -> bool {
        random <= self.threshold(size_bytes)
    }

    /// The probability that an allocation is a sample, above 0.
    pub fn probability(self, size_bytes: u64) -> f64 {
        (f64::from(self.threshold(size_bytes)) + 1.0) / 4_294_967_296.0
    }

    /// How many allocations of this size a sample stands for.
    pub fn weight(self, size_bytes: u64) -> f64 {
        self.probability(size_bytes).recip()
    }
}

/// `2^32 * 2^-(halvings / 2^32)`, less one where that is 2^32.
#[inline(always)]
fn half(halvings: u64) -> u32 {
    let (whole, fraction) = (halvings >> 32, halvings & 0xffff_ffff);
    let step = (fraction >> 26) as usize & (STEPS - 1);
    let between = fraction & 0x3ff_ffff;
    let (from, to) = (POWERS[step], POWERS[step + 1]);
    let power = from - (((from - to) * between) >> 26);
    let halved = power >> (whole & 63);
    if halved > 0xffff_ffff { 0xffff_ffff } else { halved as u32 }
}

/// The table, by multiplying with `2^(-1/64)` in 60-bit fixed point.
const fn powers() -> [u64; STEPS + 1] {
    /// `2^(-1/64)` as a fraction of 2^60.
    const ROOT: u128 = 1_140_502_249_370_840_087;
    let mut table = [0; STEPS + 1];
    let mut power: u128 = 1 << 60;
    let mut step = 0;
    while step <= STEPS {
        table[step] = ((power + (1 << 27)) >> 28) as u64;
        power = (power * ROOT) >> 60;
        step += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact_probability(size_bytes: u64, mean_bytes: u64) -> f64 {
        -(-(size_bytes as f64) / mean_bytes as f64).exp_m1()
    }

    #[test]
    fn probabilities_are_those_of_the_poisson_process() {
        for exponent in [4, 10, 16, 19, 21, 30, 40] {
            let interval = Interval::from_exponent(exponent);
            for size in (0..46).map(|shift| 1_u64 << shift).chain([24, 100, 1500, 5_000_000]) {
                let expected = exact_probability(size, interval.mean_bytes());
                let actual = interval.probability(size);
                let error = (actual - expected).abs();
                // The chord of a 64th of an octave.
                let chord = f64::min(2e-5, 6e-3 * expected);
                assert!(error < chord + 1e-9, "{exponent} {size}: {actual} {expected}");
            }
        }
    }

    #[test]
    fn larger_blocks_are_never_less_likely() {
        let interval = Interval::from_exponent(12);
        let thresholds: Vec<_> = (1..200_000).map(|size| interval.threshold(size)).collect();
        assert!(thresholds.is_sorted());
        assert_eq!(thresholds.last(), Some(&u32::MAX));
    }

    #[test]
    fn exact_takes_everything_for_one() {
        assert!(Interval::EXACT.is_sampled(1, u32::MAX));
        assert_eq!(Interval::EXACT.weight(1), 1.0);
        assert_eq!(Interval::nearest(0), Interval::EXACT);
        assert_eq!(Interval::nearest(1), Interval::EXACT);
    }

    #[test]
    fn the_nearest_power_is_taken_by_ratio() {
        for (bytes, exponent) in [(2, 1), (3, 2), (1000, 10), (1448, 10), (1449, 11)] {
            assert_eq!(Interval::nearest(bytes).exponent(), exponent, "{bytes}");
        }
        assert_eq!(Interval::nearest(u64::MAX), Interval::MAX);
    }

    #[test]
    fn flags_round_trip() {
        for exponent in 0..=Interval::MAX.exponent() {
            let interval = Interval::from_exponent(exponent);
            assert_eq!(Interval::from_flags(interval.to_flags() | 1), Some(interval));
        }
        assert_eq!(Interval::from_flags(41 << FLAGS_SHIFT), None);
    }

    #[test]
    fn sums_of_weights_are_what_was_drawn_from() {
        // A linear congruential generator: the test is the same each time.
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 32) as u32
        };
        let interval = Interval::from_exponent(12);
        for size in [16, 100, 1000, 10_000] {
            let drawn = (0..400_000).filter(|_| interval.is_sampled(size, random())).count();
            let estimate = drawn as f64 * interval.weight(size);
            let deviation = (estimate / 400_000.0 - 1.0) * (drawn as f64).sqrt();
            assert!(deviation.abs() < 4.0, "{size}: {estimate}");
        }
    }
}
