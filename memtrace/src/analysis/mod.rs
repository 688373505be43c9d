//! What the numbers mean: pure functions from the vocabulary to conclusions.

pub mod timeline;
pub mod verdict;
