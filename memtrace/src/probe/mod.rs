//! The only place that speaks to the kernel's BPF side.
pub mod load;
pub mod multi;
pub mod ring;
