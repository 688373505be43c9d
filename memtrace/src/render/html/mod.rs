//! One page for a browser, with everything in it: no network, no other file. docs/html.md says what
//! is on it and how its data is laid out.
//!
//! The page is a skeleton, a style sheet, scripts and the report as data. Names come from the target
//! and reach the page as text only: in the data they cannot end the element that holds them
//! ([`json`]), the scripts put them in by `textContent`, and the page's own policy runs no script
//! but ours ([`assets`]).

mod assets;
mod column;
mod data;
mod frames;
mod json;
mod pins;
mod sites;
mod tree;

#[cfg(test)]
mod tests;

use std::io;

use crate::report::Report;

/// Writes the page.
///
/// # Errors
/// Those of the writer.
pub fn write(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    let (head, tail) = assets::page();
    out.write_all(head.as_bytes())?;
    json::write(&data::Page::of(report), out)?;
    out.write_all(tail.as_bytes())
}
