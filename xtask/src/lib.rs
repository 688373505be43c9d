//! The part of xtask that tests use too.

pub mod bpf_object;
pub mod glibcs;
pub mod pythons;
pub mod test_program;
