//! The report as one screen of text, for somebody who was just woken up.

mod arena_pins;
mod blame;
pub mod diff;
pub mod doctor;
mod header;
mod incident;
pub mod inspect;
mod page;
mod processes;
mod quality;
pub(super) mod rss_table;
mod sites;
mod threads;
mod verdict;
pub mod whatif;

use std::io;

use crate::{model::size::Units, report::Report};

use self::page::Page;

/// How to write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextOptions {
    /// With ANSI colours.
    pub colour: bool,
    /// Columns of the terminal; `None` writes names in full.
    pub width: Option<usize>,
    /// The most sites shown.
    pub top: usize,
    /// Of sizes.
    pub units: Units,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self { colour: false, width: None, top: 5, units: Units::Auto }
    }
}

/// Writes the report, with what another one of the same window lists behind what it lists itself.
///
/// # Errors
/// Those of the writer.
pub fn write_both(
    report: &Report,
    other: Option<&Report>,
    options: TextOptions,
    out: &mut impl io::Write,
) -> io::Result<()> {
    let mut page = Page::new(options);
    header::write(&mut page, report);
    blame::write(&mut page, report);
    processes::write(&mut page, report);
    arena_pins::write(&mut page, report, options.top);
    sites::write(&mut page, report, options.top);
    if let Some(other) = other {
        sites::write(&mut page, other, options.top);
    }
    threads::write(&mut page, report);
    quality::write(&mut page, report);
    out.write_all(page.finish().as_bytes())
}

/// Writes the report.
///
/// # Errors
/// Those of the writer.
pub fn write(report: &Report, options: TextOptions, out: &mut impl io::Write) -> io::Result<()> {
    write_both(report, None, options, out)
}
