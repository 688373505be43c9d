//! Where the target's code lies: from an address to an object and an offset in it.

use std::collections::BTreeMap;

use crate::model::mapping::{KERNEL_CODE, Mapping};

use super::object::ObjectId;

/// The most executable ranges known at a time; generated code can make very many.
const MAX_RANGES: usize = 1 << 16;

/// A place in an object: valid for as long as the object is known, whatever the target maps later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Location {
    /// Which object.
    pub(super) object: ObjectId,
    /// Offset in the file; the address for generated code, the offset in its range for the
    /// kernel's.
    pub(super) offset: u64,
}

/// An executable range.
#[derive(Clone, Copy, Debug)]
struct Range {
    end: u64,
    start_offset: u64,
    object: ObjectId,
}

/// An executable range and where it starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownRange {
    /// First address.
    pub(super) start: u64,
    /// One past the last.
    pub(super) end: u64,
    /// See [`Location::offset`].
    pub(super) start_offset: u64,
    /// What is mapped there.
    pub(super) object: ObjectId,
}

/// Executable ranges that do not overlap.
#[derive(Debug, Default)]
pub(super) struct AddressSpace {
    by_start: BTreeMap<u64, Range>,
}

impl AddressSpace {
    /// Adds a range. What it overlaps was unmapped before it was mapped, and goes; other ranges
    /// stay, because stacks of code that is gone by now may still be on their way.
    pub(super) fn add(&mut self, mapping: &Mapping, object: ObjectId) {
        if mapping.start >= mapping.end {
            return;
        }
        self.cut(mapping.start, mapping.end);
        if self.by_start.len() < MAX_RANGES {
            let start_offset = match mapping.file {
                Some(_) => mapping.file_offset,
                None if KERNEL_CODE.contains(&mapping.name.as_str()) => 0,
                None => mapping.start,
            };
            self.by_start.insert(mapping.start, Range { end: mapping.end, start_offset, object });
        }
    }

    /// All ranges, by address.
    pub(super) fn ranges(&self) -> impl Iterator<Item = KnownRange> {
        self.by_start.iter().map(|(start, range)| KnownRange {
            start: *start,
            end: range.end,
            start_offset: range.start_offset,
            object: range.object,
        })
    }

    /// Forgets every range.
    pub(super) fn clear(&mut self) {
        self.by_start.clear();
    }

    /// What the address is in.
    pub(super) fn locate(&self, address: u64) -> Option<Location> {
        let (start, range) = self.by_start.range(..=address).next_back()?;
        (address < range.end).then(|| Location {
            object: range.object,
            offset: (address - start).wrapping_add(range.start_offset),
        })
    }

    /// Removes `start..end` from the known ranges.
    fn cut(&mut self, start: u64, end: u64) {
        let overlapping: Vec<u64> = self
            .by_start
            .range(..end)
            .rev()
            .take_while(|(_, range)| range.end > start)
            .map(|(start, _)| *start)
            .collect();
        for old_start in overlapping {
            self.cut_one(old_start, start, end);
        }
    }

    /// Removes `start..end` from the range that starts at `old_start`.
    fn cut_one(&mut self, old_start: u64, start: u64, end: u64) {
        let Some(old) = self.by_start.remove(&old_start) else { return };
        if old_start < start {
            self.by_start.insert(old_start, Range { end: start, ..old });
        }
        if old.end > end {
            let start_offset = old.start_offset.wrapping_add(end - old_start);
            self.by_start.insert(end, Range { start_offset, ..old });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::mapping::{FileId, Permissions},
        symbolize::object::ObjectTable,
    };

    fn mapping(start: u64, end: u64, inode: u64) -> Mapping {
        Mapping {
            start,
            end,
            file_offset: start * 100,
            file: Some(FileId { device: (0, 1), inode }),
            name: String::new(),
            deleted: false,
            permissions: Permissions { read: true, write: false, execute: true },
        }
    }

    fn no_file(_: &Mapping) -> std::io::Result<std::fs::File> {
        Err(std::io::ErrorKind::NotFound.into())
    }

    #[test]
    fn the_first_and_the_last_byte_are_inside_and_the_end_is_not() {
        let mut objects = ObjectTable::default();
        let mut space = AddressSpace::default();
        let one = mapping(10, 20, 1);
        let object = objects.intern(&one, &no_file);
        space.add(&one, object);
        assert_eq!(space.locate(9), None);
        assert_eq!(space.locate(10), Some(Location { object, offset: 1000 }));
        assert_eq!(space.locate(19), Some(Location { object, offset: 1009 }));
        assert_eq!(space.locate(20), None);
        space.clear();
        assert_eq!(space.locate(10), None);
    }

    proptest! {
        #[test]
        fn the_newest_mapping_of_an_address_wins(
            ranges in prop::collection::vec((0u64..64, 1u64..16), 0..12),
        ) {
            let mut objects = ObjectTable::default();
            let mut space = AddressSpace::default();
            let mut expected = [None; 100];
            for (index, (start, length)) in ranges.into_iter().enumerate() {
                let one = mapping(start, start + length, index as u64);
                let object = objects.intern(&one, &no_file);
                space.add(&one, object);
                for address in one.start..one.end {
                    let offset = one.offset_of(address);
                    expected[address as usize] = Some(Location { object, offset });
                }
            }
            for (address, expected) in expected.into_iter().enumerate() {
                prop_assert_eq!(space.locate(address as u64), expected);
            }
        }
    }
}
