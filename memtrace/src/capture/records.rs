//! Structured records that are of the file alone.

use serde::{Deserialize, Serialize};

use crate::model::trace::Walks;

/// Walks of the heap, with the times that the JSON report does not show.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WalksRecord {
    /// What they found.
    #[serde(flatten)]
    pub walks: Walks,
    /// `CLOCK_MONOTONIC` at the start of the first.
    pub before_time_ns: u64,
    /// The same of the last.
    pub after_time_ns: u64,
}

impl From<&Walks> for WalksRecord {
    fn from(walks: &Walks) -> Self {
        let time_ns = |census: &Option<_>| census.as_ref().map_or(0, time_of);
        Self {
            walks: walks.clone(),
            before_time_ns: time_ns(&walks.before),
            after_time_ns: time_ns(&walks.after),
        }
    }
}

fn time_of(census: &crate::model::census::Census) -> u64 {
    census.time_ns
}

impl From<WalksRecord> for Walks {
    fn from(record: WalksRecord) -> Self {
        let WalksRecord { mut walks, before_time_ns, after_time_ns } = record;
        walks.before.iter_mut().for_each(|census| census.time_ns = before_time_ns);
        walks.after.iter_mut().for_each(|census| census.time_ns = after_time_ns);
        walks
    }
}

/// How much there should be: the last record of a whole file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndRecord {
    /// Events in blocks.
    pub events: u64,
    /// Stacks with names.
    pub stacks: u64,
    /// Sites.
    pub sites: u64,
    /// Live records.
    pub live: u64,
}
