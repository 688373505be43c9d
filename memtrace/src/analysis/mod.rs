//! What the facts mean. Pure: from data of the model to data.

pub mod pattern;
pub mod residency;
