//! Events as columns: everything of one sort lies together, where it compresses best.
//!
//! A block can be read when the blocks before it are lost: it refers to them by the dictionary of
//! stacks only, of which it says how much of it there was.

mod decode;
mod encode;
mod flat;
mod recent;
#[cfg(test)]
mod tests;

pub use self::{decode::EventDecoder, encode::EventEncoder};
