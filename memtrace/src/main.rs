//! memtrace: where did the memory go, and which line holds it?

fn main() {}
