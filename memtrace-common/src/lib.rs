//! What memtrace's BPF programs and its user side must agree on: the wire format, the traced
//! functions, the per-thread call state machine and the stack walker.
//!
//! `no_std` and without allocation, so that the very code that runs in the kernel is tested on
//! the host. Nothing here knows of BPF helpers: memory arrives through [`memory::ReadMemory`].
#![cfg_attr(not(test), no_std)]

pub mod call;
pub mod clock;
pub mod config;
pub mod function;
pub mod growth;
pub mod landing;
pub mod loss;
pub mod memory;
pub mod oom;
pub mod opaque;
pub mod python;
pub mod remembered;
pub mod sample;
pub mod unwind;
pub mod wire;
