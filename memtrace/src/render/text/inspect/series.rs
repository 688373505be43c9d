//! A line for each of many looks.

use std::io;

use super::{TextOptions, fit};
use crate::{
    inspection::Inspection,
    model::{census::RssKind, size::bytes},
    render::text::page::{Page, Style},
};

const HEADINGS: [&str; 8] =
    ["UTC", "RSS", "in use", "trapped", "returnable", "cached", "the rest", "off by <="];
const WIDTHS: [usize; 8] = [8, 10, 10, 10, 10, 10, 10, 10];

/// What is between two colons of an RFC 3339 time.
const CLOCK: std::ops::Range<usize> = 11..19;

/// Writes what the columns are.
///
/// # Errors
/// Those of the writer.
pub fn write_heading(options: TextOptions, out: &mut impl io::Write) -> io::Result<()> {
    let mut page = Page::new(options);
    page.line(Some(Style::Faint), &fit(&HEADINGS.map(str::to_owned), &WIDTHS, page.room(0)));
    out.write_all(page.finish().as_bytes())
}

/// Writes the line of a look.
///
/// # Errors
/// Those of the writer.
pub fn write_sample(
    inspection: &Inspection,
    options: TextOptions,
    out: &mut impl io::Write,
) -> io::Result<()> {
    let mut page = Page::new(options);
    page.line(None, &fit(&cells(inspection), &WIDTHS, page.room(0)));
    out.write_all(page.finish().as_bytes())
}

fn cells(inspection: &Inspection) -> [String; 8] {
    let census = &inspection.census;
    let sum = |kinds: &[RssKind]| {
        let bytes: i64 = kinds.iter().map(|kind| census.rss.bytes(*kind)).sum();
        u64::try_from(bytes).unwrap_or_default()
    };
    let in_use = sum(&[RssKind::InUse, RssKind::MappedBlocks, RssKind::PymallocInUse]);
    let trapped = sum(&[RssKind::FreeTrapped, RssKind::PymallocFreeInPools]);
    let returnable = sum(&[RssKind::FreeReturnable]);
    let cached = sum(&[RssKind::AllocatorCache, RssKind::Top, RssKind::PymallocFreePools]);
    let rest = census.rss.rss_bytes.saturating_sub(in_use + trapped + returnable + cached);
    [
        inspection.taken_at.get(CLOCK).unwrap_or_default().to_owned(),
        bytes(census.rss.rss_bytes),
        bytes(in_use),
        bytes(trapped),
        bytes(returnable),
        bytes(cached),
        bytes(rest),
        bytes(census.error_bound_bytes),
    ]
}
