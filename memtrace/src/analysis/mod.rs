//! What the numbers mean. Pure: from data of the model to data.

pub mod pattern;
pub mod residency;
pub mod timeline;
pub mod verdict;
