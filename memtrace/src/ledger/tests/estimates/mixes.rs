//! Sizes of blocks, as programs ask for them.

/// A generator of numbers that are the same each time (Steele, Lea and Flood, 2014: SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 32) as u32
    }

    /// From 0 to 1, neither included.
    pub fn unit(&mut self) -> f64 {
        (f64::from(self.next()) + 0.5) / 4_294_967_296.0
    }
}

/// Which sizes.
#[derive(Clone, Copy, Debug)]
pub enum Mix {
    /// All the same.
    OneSize,
    /// All below the interval, uniformly.
    Small,
    /// Pareto's distribution with a shape of 1.1, from 64 bytes to 256 MiB.
    HeavyTail,
    /// Many small ones, some large ones that are seen for sure, and a few in between.
    Mixed,
}

impl Mix {
    /// The next size.
    pub fn size(self, random: &mut Random) -> u64 {
        match self {
            Self::OneSize => 256,
            Self::Small => u64::from(64 + random.next() % 960),
            Self::HeavyTail => (64.0 * random.unit().powf(-1.0 / 1.1)).min(268_435_456.0) as u64,
            Self::Mixed => match random.next() % 1000 {
                0..5 => 16 << 20,
                5..20 => 40_000,
                20..200 => 1000,
                _ => 512,
            },
        }
    }
}
