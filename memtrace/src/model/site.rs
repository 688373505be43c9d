//! Allocation sites and what is known of each.

use serde::{Deserialize, Serialize};

use super::{AllocFn, ObjectNumber, stack::StackId};

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
#[serde(default)]
pub struct Amount {
    /// Requested bytes.
    pub bytes: u64,
    /// Blocks (or ranges, for mappings).
    pub count: u64,
}

impl Amount {
    /// One block of this size.
    pub fn one(bytes: u64) -> Self {
        Self { bytes, count: 1 }
    }
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.bytes = self.bytes.wrapping_add(other.bytes);
        self.count = self.count.wrapping_add(other.count);
    }
}

impl std::ops::SubAssign for Amount {
    fn sub_assign(&mut self, other: Self) {
        self.bytes = self.bytes.wrapping_sub(other.bytes);
        self.count = self.count.wrapping_sub(other.count);
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LiveItem {
    /// Its first address.
    pub address: u64,
    /// Bytes that are left of it.
    pub bytes: u64,
    /// When it was obtained, `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Which of the sites obtained it.
    pub site: u32,
}

impl LiveItem {
    /// How old it is.
    pub fn age_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.time_ns)
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
