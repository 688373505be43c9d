//! An eBPF allocation tracer for people on call. See ARCHITECTURE.md for the map.

pub mod model;
pub mod render;
pub mod report;
pub mod symbolize;
