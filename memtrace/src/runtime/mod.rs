//! Language runtimes: what of a process's memory says which lines of its own language it runs.
//!
//! Pure: reads through [`TargetMemory`](crate::model::memory::TargetMemory), and files that are
//! handed in.

pub mod python;
