//! Where probes go: chosen by decoding the code that is mapped, and checked again before arming.

pub mod plan;
pub mod site;
pub mod target;
pub mod verify;

mod load_order;
