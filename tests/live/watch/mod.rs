//! Watches, on real control groups with real limits.

mod ahead;
mod bad_times;
mod conditions;
mod firing;
mod oom;
mod smoke;
mod survival;
