//! Allocation sites and what is known of each.

use memtrace_common::sample::Interval;
use serde::{Deserialize, Serialize};

use super::{AllocFn, ObjectNumber, estimate::Spread, stack::StackId};

/// A place in the program that allocates: the stack, the function that it calls and whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site {
    /// The caller.
    pub stack: StackId,
    /// What it calls.
    pub function: AllocFn,
    /// In which of the probed objects that is.
    pub object: ObjectNumber,
}

/// Bytes and blocks. Sums wrap: only sizes that no address space can hold reach 2^64, and those
/// must not end the program that counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "AmountRecord", into = "AmountRecord")]
pub struct Amount {
    /// Requested bytes; an estimate, rounded, where not every block was looked at.
    pub bytes: u64,
    /// Blocks (or ranges, for mappings); the same.
    pub count: u64,
    /// What they were estimated from, where they were.
    pub spread: Spread,
}

impl Amount {
    /// So many, all of which were looked at.
    pub const fn new(bytes: u64, count: u64) -> Self {
        Self { bytes, count, spread: Spread::NONE }
    }

    /// One block of this size.
    pub fn one(bytes: u64) -> Self {
        Self::new(bytes, 1)
    }
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        if self.is_exact() && other.is_exact() {
            self.bytes = self.bytes.wrapping_add(other.bytes);
            self.count = self.count.wrapping_add(other.count);
        } else {
            *self = Spread::of(*self).plus(Spread::of(other)).amount();
        }
    }
}

impl std::ops::SubAssign for Amount {
    fn sub_assign(&mut self, other: Self) {
        if self.is_exact() && other.is_exact() {
            self.bytes = self.bytes.wrapping_sub(other.bytes);
            self.count = self.count.wrapping_sub(other.count);
        } else {
            *self = Spread::of(*self).minus(Spread::of(other)).amount();
        }
    }
}

/// [`Amount`] in JSON.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
struct AmountRecord {
    bytes: u64,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    estimate: Option<EstimateRecord>,
}

/// How sure an amount is. The ends follow from the spread, and are not read.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
struct EstimateRecord {
    samples: u64,
    low_bytes: u64,
    high_bytes: u64,
    low_count: u64,
    high_count: u64,
    spread: Spread,
}

impl From<Amount> for AmountRecord {
    fn from(amount: Amount) -> Self {
        let Amount { bytes, count, spread } = amount;
        let estimate = (!amount.is_exact()).then(|| {
            let (of_bytes, of_count) = (amount.bytes_bounds(), amount.count_bounds());
            EstimateRecord {
                samples: amount.samples(),
                low_bytes: of_bytes.low,
                high_bytes: of_bytes.high,
                low_count: of_count.low,
                high_count: of_count.high,
                spread,
            }
        });
        Self { bytes, count, estimate }
    }
}

impl From<AmountRecord> for Amount {
    fn from(record: AmountRecord) -> Self {
        let AmountRecord { bytes, count, estimate } = record;
        let spread = estimate.map(|it| it.spread.cleaned()).unwrap_or_default();
        Self { bytes, count, spread }
    }
}

/// Everything that a site did in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SiteStats {
    /// Allocated and not freed.
    pub live: Amount,
    /// All allocations.
    pub allocated: Amount,
    /// Allocations of this site that were freed, by whomever.
    pub freed: Amount,
    /// The largest `live` (bytes and count each at their own maximum).
    pub peak: Amount,
}

/// A block or a range that is live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveItem {
    /// Its first address.
    pub address: u64,
    /// Bytes that are left of it.
    pub bytes: u64,
    /// When it was obtained, `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Which of the sites obtained it.
    pub site: u32,
    /// How densely blocks were looked at when it was.
    pub interval: Interval,
}

impl LiveItem {
    /// How old it is.
    pub fn age_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.time_ns)
    }

    /// What it stands for.
    pub fn amount(&self) -> Amount {
        Amount::sampled(self.bytes, self.interval)
    }
}

/// Blocks that were never freed in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Survivors {
    /// Requested bytes and blocks.
    #[serde(flatten)]
    pub amount: Amount,
    /// Age of the oldest at the end.
    pub oldest_age_ns: u64,
    /// Median age at the end.
    pub median_age_ns: u64,
    /// Age of the youngest at the end.
    pub youngest_age_ns: u64,
    /// Bytes of the smallest.
    pub smallest_bytes: u64,
    /// Median of their bytes.
    pub median_bytes: u64,
    /// Bytes of the largest.
    pub largest_bytes: u64,
}
