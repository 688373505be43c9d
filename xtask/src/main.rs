//! memtrace's own build, test, demo and benchmark commands.
fn main() {}
