//! Two captures side by side, as folded stacks, a picture and a page. The text is
//! [`super::text::diff`], the JSON [`super::json::write_diff`].

pub mod flamegraph;
pub mod folded;
pub mod html;
mod words;

#[cfg(test)]
pub(super) mod sample;
#[cfg(test)]
mod tests;

pub use self::words::{headline, place};
pub(super) use self::words::{program, rates, sides, signed_blocks, totals, verdict};
