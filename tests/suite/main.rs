//! Tests that need no privileges.

mod bpf_object;
