//! What the facts mean: pure functions over the model.

pub mod residency;
