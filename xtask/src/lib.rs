//! The part of xtask that tests use too.

pub mod bpf_object;
pub mod glibcs;
pub mod pythons;
pub mod readers;
pub mod test_program;
