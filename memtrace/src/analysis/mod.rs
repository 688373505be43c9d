//! What the numbers mean. Pure: from data of the model to data.

pub mod arena_pins;
pub mod births;
pub mod blame;
pub mod outlived;
pub mod pattern;
pub mod residency;
pub mod survivors;
pub mod timeline;
pub mod verdict;
pub mod watched;
