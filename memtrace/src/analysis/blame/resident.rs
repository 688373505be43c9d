//! Which pages are in memory, asked by somebody who goes upwards.

use crate::model::census::Extent;

/// A place in ascending runs of pages.
#[derive(Clone, Debug)]
pub struct Cursor<'r> {
    runs: &'r [Extent],
    /// The first run that is not behind.
    at: usize,
}

impl<'r> Cursor<'r> {
    /// At the beginning.
    pub fn new(runs: &'r [Extent]) -> Self {
        Self { runs, at: 0 }
    }

    /// Goes to an address, also back.
    pub fn seek(&mut self, address: u64) {
        self.at = self.runs.partition_point(|run| run.end <= address);
    }

    /// How much of a range is in memory, which is not before the last one.
    #[inline]
    pub fn bytes(&mut self, start: u64, end: u64) -> u64 {
        while self.runs.get(self.at).is_some_and(|run| run.end <= start) {
            self.at += 1;
        }
        match self.runs.get(self.at) {
            Some(run) if run.start <= start && end <= run.end => end - start,
            _ => self.across(start, end),
        }
    }

    /// The same of a part of the last range.
    pub fn part(&self, start: u64, end: u64) -> u64 {
        self.across(start, end)
    }

    fn across(&self, start: u64, end: u64) -> u64 {
        let runs = self.runs[self.at..].iter().take_while(|run| run.start < end);
        runs.map(|run| run.end.min(end).saturating_sub(run.start.max(start))).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::layout::HeapLayout;

    proptest! {
        #[test]
        fn upwards_it_says_what_a_search_says(
            steps in prop::collection::vec((1..40_u64, 1..40_u64), 0..20),
            ranges in prop::collection::btree_set(0..900_u64, 0..30),
            length in 0..200_u64,
        ) {
            let mut end = 0;
            let run = |(gap, bytes): (u64, u64)| {
                let start = end + gap;
                end = start + bytes;
                Extent { start, end }
            };
            let resident: Vec<Extent> = steps.into_iter().map(run).collect();
            let layout = HeapLayout { resident: resident.clone(), ..HeapLayout::default() };
            let mut cursor = Cursor::new(&resident);
            for start in ranges {
                let range = Extent { start, end: start + length };
                prop_assert_eq!(cursor.bytes(start, range.end), layout.resident_bytes(range));
            }
        }
    }
}
