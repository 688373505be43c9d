//! An eBPF allocation tracer for people on call. See ARCHITECTURE.md for the map.

pub mod allocator;
pub mod analysis;
pub mod budget;
pub mod capture;
pub mod cli;
pub mod cmd;
pub mod decode;
pub mod diff;
pub mod doctor;
pub mod elf;
pub mod encode;
pub mod growth;
pub mod inspection;
pub mod ledger;
pub mod model;
pub mod probe;
pub mod render;
pub mod replay;
pub mod report;
pub mod runtime;
pub mod session;
pub mod symbolize;
pub mod sys;
pub mod threads;
pub mod unwind;
pub mod whatif;
