//! Where in a target something can be.

use crate::model::{
    census::Extent,
    mapping::{FileId, Mapping},
};

/// Ranges of addresses, ascending, apart from each other.
pub(super) struct Ranges(Vec<Extent>);

impl Ranges {
    /// What can be read and written; mappings next to each other are one range.
    pub(super) fn writable(mappings: &[Mapping]) -> Self {
        Self::of(mappings.iter())
    }

    /// As [`Self::writable`], without memory of files.
    pub(super) fn anonymous(mappings: &[Mapping]) -> Self {
        Self::of(mappings.iter().filter(|mapping| mapping.file.is_none()))
    }

    fn of<'a>(mappings: impl Iterator<Item = &'a Mapping>) -> Self {
        let mut ranges: Vec<Extent> = Vec::new();
        for mapping in mappings.filter(|mapping| is_data(mapping)) {
            match ranges.last_mut() {
                Some(last) if last.end == mapping.start => last.end = mapping.end,
                _ => ranges.push(Extent { start: mapping.start, end: mapping.end }),
            }
        }
        Self(ranges)
    }

    /// Whether an extent lies in one of them as a whole.
    pub(super) fn hold(&self, extent: Extent) -> bool {
        let after = self.0.partition_point(|range| range.start <= extent.start);
        after > 0 && extent.end <= self.0[after - 1].end
    }
}

fn is_data(mapping: &Mapping) -> bool {
    mapping.permissions.read && mapping.permissions.write
}

/// An object's writable data, with the part that its file does not hold (`.bss`).
pub(super) fn writable_data(mappings: &[Mapping], file: FileId) -> Vec<Extent> {
    let mut end = None;
    let mut found = Vec::new();
    for mapping in mappings {
        let is_own = mapping.file == Some(file);
        let is_bss = mapping.file.is_none() && end == Some(mapping.start);
        if is_own {
            end = Some(mapping.end);
        }
        if (is_own || is_bss) && is_data(mapping) {
            found.push(Extent { start: mapping.start, end: mapping.end });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocator::image::writable;

    #[test]
    fn neighbours_are_one_range() {
        let mappings =
            [writable(0x1000, 4096, "/a"), writable(0x2000, 4096, ""), writable(0x4000, 4096, "")];
        let holds = |ranges: &Ranges, start, end| ranges.hold(Extent { start, end });
        let (all, anonymous) = (Ranges::writable(&mappings), Ranges::anonymous(&mappings));
        assert!(holds(&all, 0x1800, 0x2800) && holds(&all, 0x4000, 0x5000));
        assert!(!holds(&all, 0x2800, 0x4800) && !holds(&all, 0x800, 0x1800));
        assert!(!holds(&anonymous, 0x1800, 0x2800) && holds(&anonymous, 0x2000, 0x3000));
    }

    #[test]
    fn data_reaches_from_the_file_into_what_follows_it() {
        let mappings = [
            writable(0x1000, 4096, "/usr/bin/app"),
            writable(0x2000, 8192, ""),
            writable(0x8000, 4096, ""),
        ];
        let data = writable_data(&mappings, mappings[0].file.unwrap());
        assert_eq!(
            data,
            [Extent { start: 0x1000, end: 0x2000 }, Extent { start: 0x2000, end: 0x4000 }]
        );
    }
}
