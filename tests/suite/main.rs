//! Tests that need no privileges.
fn main_placeholder() {}
