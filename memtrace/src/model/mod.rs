//! The vocabulary: plain data that every other part speaks. No I/O, no logic beyond arithmetic.

pub mod arena_map;
pub mod blame;
pub mod census;
pub mod chunk_sizes;
pub mod cost;
pub mod coverage;
pub mod estimate;
pub mod event;
pub mod footprint;
mod gamma;
pub mod growth;
pub mod incident;
pub mod layout;
pub mod loss;
pub mod mapping;
pub mod memory;
pub mod place;
pub mod process;
pub mod room;
pub mod site;
pub mod size;
pub mod stack;
pub mod timeline;
pub mod trace;
pub mod verdict;

pub use memtrace_common::{
    call::ArgumentPlaces,
    function::{AllocFn, CallShape},
    wire::ObjectNumber,
};
