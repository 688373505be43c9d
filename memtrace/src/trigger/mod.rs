//! When to look: conditions on the memory of a process or of a control group, evaluated on readings
//! of it. No clock is asked here: each reading says when it was taken.

mod condition;
mod parse;
mod reading;
mod trend;
mod watchdog;

pub use self::{
    condition::{Bound, Condition, Metric},
    parse::{GRAMMAR, ParseError},
    reading::Reading,
    trend::{Trend, time_to_limit_ns},
    watchdog::{Firing, Look, Watchdog},
};
