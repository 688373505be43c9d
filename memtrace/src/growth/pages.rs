//! Sampled pages that are in use, by address.

use std::collections::{BTreeMap, HashSet};

use super::ranges::Range;

/// A page that was seen when it was first used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// What the ledger knows it by: its first address, or a number in that page where another page
    /// from the same place still lives elsewhere.
    pub(super) id: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pages {
    by_address: BTreeMap<u64, Page>,
    /// Those in use, also of pages that were taken out and may be put back.
    ids: HashSet<u64>,
}

impl Pages {
    /// A page is used for the first time; its id.
    pub(super) fn add(&mut self, address: u64) -> u64 {
        let id = (address..).find(|id| !self.ids.contains(id)).unwrap_or(address);
        self.ids.insert(id);
        self.by_address.insert(address, Page { id });
        id
    }

    /// Takes out what begins in a range, with the addresses, ascending. Their ids stay theirs.
    pub(super) fn take(&mut self, range: Range) -> Vec<(u64, Page)> {
        let taken: Vec<(u64, Page)> =
            self.by_address.range(range.start..range.end).map(|(at, page)| (*at, *page)).collect();
        taken.iter().for_each(|(address, _)| _ = self.by_address.remove(address));
        taken
    }

    /// What was taken out is gone for good.
    pub(super) fn forget(&mut self, pages: &[(u64, Page)]) {
        pages.iter().for_each(|(_, page)| _ = self.ids.remove(&page.id));
    }

    /// Puts back what was taken, so many bytes further.
    pub(super) fn put_back(&mut self, pages: Vec<(u64, Page)>, distance: u64) {
        for (address, page) in pages {
            self.by_address.insert(address.wrapping_add(distance), page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_moved_keeps_its_id_and_another_at_its_old_place_gets_its_own() {
        let mut pages = Pages::default();
        assert_eq!(pages.add(0x1000), 0x1000);
        let taken = pages.take(Range { start: 0x1000, end: 0x2000 });
        pages.put_back(taken, 0x4000);
        assert_eq!(pages.add(0x1000), 0x1001);
        let ids = |pages: &mut Pages, start: u64| {
            let taken = pages.take(Range { start, end: start + 1 });
            taken.into_iter().map(|(_, page)| page.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&mut pages, 0x5000), [0x1000]);
        assert_eq!(ids(&mut pages, 0x1000), [0x1001]);
        assert_eq!(ids(&mut pages, 0x1000), [] as [u64; 0]);
        assert_eq!(pages.add(0x1000), 0x1002, "the others may be put back");
        pages.forget(&[(0x5000, Page { id: 0x1000 })]);
        pages.take(Range { start: 0x1000, end: 0x2000 });
        assert_eq!(pages.add(0x1000), 0x1000);
    }
}
