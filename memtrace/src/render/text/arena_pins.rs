//! Whose small objects keep CPython's arenas.

use super::page::{Page, Style, columns, cut};
use crate::{
    model::size::{Units, count, duration_ns},
    render::label::{described, plural},
    report::{ArenaPinsReport, ArenaPlace, Report, UnownedClass},
};

/// It is told where at least this part of RSS is trapped in arenas.
const SHARE: u64 = 50;

/// Sizes of objects that are told.
const SIZES: usize = 3;

/// Columns of a number, with the space before it.
const NUMBER: usize = 11;

/// Writes who keeps them, where it is worth a look.
pub(super) fn write(page: &mut Page, report: &Report, top: usize) {
    let Some(pins) = &report.arena_pins else { return };
    if pins.trapped_bytes < report.rss.end_bytes / SHARE || pins.trapped_bytes == 0 {
        return;
    }
    let units = page.units();
    page.gap();
    let heading = format!(
        "Python's arenas keep {} free, of {} arena{}, because of",
        units.bytes(pins.trapped_bytes),
        count(pins.arenas),
        plural(pins.arenas),
    );
    page.prose(Some(Style::Strong), 0, &heading);
    page.line(Some(Style::Faint), HEAD.trim_end());
    for place in pins.places.iter().take(top) {
        let trapped = row(pins_of(place), units);
        let name = cut(&described(&place.name.frame()), page.room(columns(&trapped) + 2));
        page.line(None, &format!("{trapped}  {name}"));
        page.prose(Some(Style::Faint), 4, &about(place, units));
    }
    if pins.unowned.trapped_bytes > 0 {
        let of =
            (pins.unowned.trapped_bytes, pins.unowned.exclusive_bytes, pins.unowned.drop_bytes);
        page.line(None, &format!("{}  {}", row(of, units), unowned(pins)));
        page.prose(Some(Style::Faint), 4, &sizes(pins, units));
    }
}

const HEAD: &str = "    trapped      alone  RSS drop  by objects of";

fn pins_of(place: &ArenaPlace) -> (u64, u64, u64) {
    (place.pins.trapped_bytes, place.pins.exclusive_bytes, place.pins.drop_bytes)
}

fn row((trapped, exclusive, drop): (u64, u64, u64), units: Units) -> String {
    let number = |bytes| format!("{:>NUMBER$}", units.bytes(bytes));
    [trapped, exclusive, drop].map(number).concat()
}

/// `12 objects of 3.0 KiB in 4 arenas, 1,000 bytes trapped by each of theirs; median age 4.0 s`.
fn about(place: &ArenaPlace, units: Units) -> String {
    let pins = &place.pins;
    format!(
        "{} object{}, {} in {} arena{}: {:.0} bytes trapped by each of theirs; median age {}, oldest {}",
        count(pins.live.count),
        plural(pins.live.count),
        units.bytes(pins.live.bytes),
        count(pins.arenas),
        plural(pins.arenas),
        place.pin_ratio,
        duration_ns(place.median_age_ns),
        duration_ns(place.oldest_age_ns),
    )
}

fn unowned(pins: &ArenaPinsReport) -> &'static str {
    match pins.is_traced {
        true => "objects from before the window, or that were not sampled",
        false => "objects that were not traced: attach --pymalloc tells whose they are",
    }
}

fn sizes(pins: &ArenaPinsReport, units: Units) -> String {
    let size = |class: &UnownedClass| {
        format!("of {} bytes {}", class.block_bytes, units.bytes(class.trapped_bytes))
    };
    let told: Vec<String> = pins.unowned_sizes.iter().take(SIZES).map(size).collect();
    format!("{} objects; by size: {}", count(pins.unowned.live.count), told.join(", "))
}
