//! What is a process's own among several that share memory.

use serde::{Deserialize, Serialize};

use super::site::Amount;

/// What a process has in memory, by who else has it (`/proc/PID/smaps_rollup`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivatePages {
    /// `Rss`: all of its resident pages.
    pub rss_bytes: u64,
    /// `Pss`: each of them divided by the number of processes that have it.
    pub pss_bytes: u64,
    /// `Private_Dirty` and `Private_Clean`: nobody else has them.
    pub private_bytes: u64,
    /// `Shared_Dirty` and `Shared_Clean`: somebody else has them, too; after a fork, what neither
    /// side has written to since.
    pub shared_bytes: u64,
}

/// Memory that a process got from its parent by fork: what the parent had allocated while it was
/// traced and not freed by then. It takes memory of its own only where one of the two writes to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inherited {
    /// The parent's live heap blocks at the fork, by requested bytes.
    pub at_fork: Amount,
    /// Of these, what the process itself has freed since.
    pub freed: Amount,
    /// There were too many blocks to follow them: `freed` is not known.
    pub is_sum_only: bool,
}

impl Inherited {
    /// What of it is still there.
    pub fn live(&self) -> Amount {
        let mut live = self.at_fork;
        live -= self.freed;
        live
    }
}
