//! A set of addresses, as ranges that do not touch.

use std::collections::BTreeMap;

/// Addresses `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// First address.
    pub(super) start: u64,
    /// One past the last address.
    pub(super) end: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    /// Ends by starts.
    ends: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Adds a range; what is in already stays.
    pub(super) fn add(&mut self, range: Range) {
        let touching = self.touching(range);
        let start = touching.first().map_or(range.start, |first| first.start.min(range.start));
        let end = touching.last().map_or(range.end, |last| last.end.max(range.end));
        touching.iter().for_each(|old| _ = self.ends.remove(&old.start));
        if start < end {
            self.ends.insert(start, end);
        }
    }

    /// Removes a range; what is not in stays out.
    pub(super) fn remove(&mut self, range: Range) {
        for old in self.touching(range) {
            self.ends.remove(&old.start);
            let (before, after) =
                (old.start..range.start.min(old.end), range.end.max(old.start)..old.end);
            for left in [before, after].into_iter().filter(|left| left.start < left.end) {
                self.ends.insert(left.start, left.end);
            }
        }
    }

    /// The parts of a range that are in, ascending.
    pub(super) fn within(&self, range: Range) -> Vec<Range> {
        let clip =
            |old: Range| Range { start: old.start.max(range.start), end: old.end.min(range.end) };
        self.touching(range).into_iter().map(clip).filter(|part| part.start < part.end).collect()
    }

    /// The parts of a range that are not in, ascending.
    pub(super) fn without(&self, range: Range) -> Vec<Range> {
        let mut start = range.start;
        let mut parts = Vec::new();
        for inside in self.within(range) {
            parts.push(Range { start, end: inside.start });
            start = inside.end;
        }
        parts.push(Range { start, end: range.end });
        parts.retain(|part| part.start < part.end);
        parts
    }

    /// Those that have an address, or an end, in common with a range.
    fn touching(&self, range: Range) -> Vec<Range> {
        let before = self.ends.range(..range.start).next_back();
        let others = self.ends.range(range.start..=range.end);
        let all = before.into_iter().filter(|(_, end)| **end >= range.start).chain(others);
        all.map(|(start, end)| Range { start: *start, end: *end }).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn cells(parts: &[Range]) -> Vec<u64> {
        parts.iter().flat_map(|part| part.start..part.end).collect()
    }

    proptest! {
        #[test]
        fn a_set_has_what_was_added_and_not_removed_since(
            changes in vec((any::<bool>(), 0u64..40, 1u64..20), 0..30),
            start in 0u64..50, length in 1u64..20,
        ) {
            let mut ranges = Ranges::default();
            let mut expected = [false; 64];
            for (adds, start, length) in changes {
                let range = Range { start, end: start + length };
                if adds { ranges.add(range) } else { ranges.remove(range) }
                expected[start as usize..(start + length) as usize].fill(adds);
            }
            let asked = Range { start, end: start + length };
            let is_in = |at: &u64| expected.get(*at as usize).copied().unwrap_or_default();
            let (inside, outside): (Vec<u64>, Vec<u64>) = (asked.start..asked.end).partition(is_in);
            prop_assert_eq!(cells(&ranges.within(asked)), inside);
            prop_assert_eq!(cells(&ranges.without(asked)), outside);
            let all = ranges.within(Range { start: 0, end: 64 });
            prop_assert!(all.windows(2).all(|two| two[0].end < two[1].start), "{:?}", all);
        }
    }
}
