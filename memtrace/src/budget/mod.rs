//! What a trace may cost its target, and how closely it may look for that: pure, so that it can be
//! tried on targets that do not exist.
//!
//! [`Load`] says what a target asks of its allocator, [`Choice`] which setting fits, and
//! [`Governor`] keeps to the budget while the trace goes on.

mod account;
mod governor;
mod load;
mod setting;
#[cfg(test)]
mod simulation;
mod work;

pub use self::{
    account::allowance,
    governor::{Change, Governor, Reading, Rules, Step},
    load::{Activity, Load},
    setting::{Choice, Presence, Setting},
    work::WatchedWork,
};

/// Which probes are in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Armed {
    /// None.
    Nothing,
    /// Those that see releases.
    Releases,
    /// All.
    All,
}
