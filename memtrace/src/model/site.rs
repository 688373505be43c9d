//! Allocation sites and what is known of each.

use serde::Serialize;

use super::{AllocFn, stack::StackId};

/// A place in the program that allocates: the stack and the function that it calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site {
    /// The caller.
    pub stack: StackId,
    /// What it calls.
    pub function: AllocFn,
}

/// Bytes and blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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
        self.bytes += other.bytes;
        self.count += other.count;
    }
}

impl std::ops::SubAssign for Amount {
    fn sub_assign(&mut self, other: Self) {
        self.bytes -= other.bytes;
        self.count -= other.count;
    }
}

/// Everything that a site did in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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
