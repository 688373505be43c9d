//! An eBPF allocation tracer for people on call. See ARCHITECTURE.md for the map.

pub mod allocator;
pub mod elf;
pub mod model;
pub mod probe;
pub mod report;
pub mod sys;
