//! The part of xtask that tests use too.

pub mod bpf_object;
pub mod test_program;
