//! An eBPF allocation tracer for people on call. See ARCHITECTURE.md for the map.

pub mod elf;
pub mod model;
pub mod report;
pub mod sys;
