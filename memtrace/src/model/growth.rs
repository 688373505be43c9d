//! When what survived was obtained, and the pattern in that.

use serde::Serialize;

use super::site::Amount;

/// Blocks that were obtained one after the other; their bursts do not overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// When the first was obtained, `CLOCK_MONOTONIC`.
    pub first_ns: u64,
    /// When the last was obtained.
    pub last_ns: u64,
    /// How many, and how large in sum.
    pub amount: Amount,
}

/// How the survivors of a site came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum GrowthPattern {
    /// All at one time: a buffer, a pool, an initialization.
    Once,
    /// At times that lie apart: something happens again and again, and leaves something behind.
    Steps {
        /// How many times.
        count: u64,
        /// Median of what one left behind.
        step_bytes: u64,
        /// Median time from one to the next.
        interval_ns: u64,
    },
    /// All the time, at about the same pace.
    Steady {
        /// From the first survivor to the end of the window.
        bytes_per_s: u64,
    },
    /// Now and then, without a pattern.
    Uneven,
    /// Too few to tell.
    Few,
}
