//! Axes in units that people read.

use super::line::Line;

/// Units of time with their nanoseconds; a unit is taken from the double of it on.
const TIME: [(&str, f64); 4] = [("ms", 1e6), ("s", 1e9), ("min", 60e9), ("h", 3600e9)];

/// Units of memory with their bytes.
const BYTES: [(&str, f64); 4] = [
    ("KiB", 1024.0),
    ("MiB", 1024.0 * 1024.0),
    ("GiB", 1024.0 * 1024.0 * 1024.0),
    ("TiB", 1024.0 * 1024.0 * 1024.0 * 1024.0),
];

/// Room above the highest value, for its label.
const ROOM: f64 = 1.15;

/// An axis from 0 on.
pub(super) struct Axis {
    pub(super) unit: &'static str,
    /// Its end, in units; never 0.
    pub(super) end: f64,
    size: f64,
}

impl Axis {
    pub(super) fn time(lines: &[Line]) -> Self {
        let points = lines.iter().flat_map(|line| &line.points);
        Self::new(points.map(|point| point.0).max().unwrap_or(0), &TIME, 1.0)
    }

    pub(super) fn bytes(peak_bytes: u64, lines: &[Line]) -> Self {
        let points = lines.iter().flat_map(|line| &line.points);
        let highest = points.map(|point| point.1).max().unwrap_or(0).max(peak_bytes);
        Self::new(highest, &BYTES, ROOM)
    }

    fn new(highest: u64, units: &[(&'static str, f64)], room: f64) -> Self {
        let highest = highest.max(1) as f64;
        let fitting = units.iter().rev().find(|(_, size)| highest >= 2.0 * size);
        let (unit, size) = *fitting.unwrap_or(&units[0]);
        Self { unit, size, end: highest * room / size }
    }

    /// A value in units.
    pub(super) fn place(&self, value: u64) -> f64 {
        value as f64 / self.size
    }
}

/// The label of a place on an axis: whole where it is.
pub(super) fn number(value: &f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_fit_the_values() {
        let unit = |highest| Axis::new(highest, &TIME, 1.0).unit;
        assert_eq!([0, 1_999_999_999, 2_000_000_000].map(unit), ["ms", "ms", "s"]);
        assert_eq!([119_000_000_000, u64::MAX].map(unit), ["s", "h"]);
        assert_eq!(Axis::new(3 << 20, &BYTES, 1.0).place(3 << 19), 1.5);
        assert!(Axis::new(0, &BYTES, ROOM).end > 0.0);
    }

    #[test]
    fn labels_have_no_needless_digits() {
        assert_eq!([0.0, 20.0, 0.5, 1500.0].map(|it| number(&it)), ["0", "20", "0.5", "1500"]);
    }
}
