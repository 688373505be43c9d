//! Watches, on real control groups with real limits.

mod bad_times;
mod firing;
mod oom;
mod survival;
