//! The trapped holes, with those who hold them: what their neighbours are looked for by.

use crate::model::census::Extent;

/// A part of a page that is free, and somebody who holds the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hole {
    /// Where it is.
    pub extent: Extent,
    /// The culprit's number, as the caller has given it.
    pub holder: u32,
}

/// Holes of sites, never more than there is room for.
#[derive(Clone, Debug, Default)]
pub struct Holes {
    found: Vec<Hole>,
    most: usize,
    /// Numbers from here on are no sites.
    sites: u32,
}

impl Holes {
    /// None yet, of holders with numbers below `sites`.
    pub fn new(most: usize, sites: u32) -> Self {
        Self { found: Vec::new(), most, sites }
    }

    /// The holes of a page.
    pub fn page(&mut self, parts: &[Extent], holders: &[u32]) {
        let sites = self.sites;
        for holder in holders.iter().copied().filter(|holder| *holder < sites) {
            let room = self.most.saturating_sub(self.found.len());
            let holes = parts.iter().take(room).map(|part| Hole { extent: *part, holder });
            self.found.extend(holes);
        }
    }

    /// All of them, in ascending order.
    pub fn finish(mut self) -> Vec<Hole> {
        self.found.sort_unstable();
        self.found
    }
}

/// Who last freed memory where there are holes now.
#[derive(Clone, Debug, Default)]
pub struct Freed {
    /// Ascending; those of several holders are next to each other.
    holes: Vec<Hole>,
    /// Of each, the site whose block was freed last; [`NOBODY`] where none was seen.
    sites: Vec<u32>,
}

const NOBODY: u32 = u32::MAX;

impl Freed {
    /// Nobody yet.
    pub fn new(holes: Vec<Hole>) -> Self {
        let sites = vec![NOBODY; holes.len()];
        Self { holes, sites }
    }

    /// A block of this site was freed.
    pub fn free(&mut self, block: Extent, site: u32) {
        let first = self.holes.partition_point(|hole| hole.extent.end <= block.start);
        let holes = self.holes[first..].iter().zip(&mut self.sites[first..]);
        for (_, last) in holes.take_while(|(hole, _)| hole.extent.start < block.end) {
            *last = site;
        }
    }

    /// Every hole with who holds it and the site of what was freed there last, where that was seen.
    pub fn seen(&self) -> impl Iterator<Item = (Hole, u32)> {
        let all = self.holes.iter().zip(&self.sites);
        all.filter(|(_, site)| **site != NOBODY).map(|(hole, site)| (*hole, *site))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(start: u64, end: u64) -> Extent {
        Extent { start, end }
    }

    #[test]
    fn the_last_who_freed_memory_in_a_hole_is_known() {
        let mut holes = Holes::new(10, 5);
        holes.page(&[extent(0x3000, 0x3100), extent(0x3200, 0x3300)], &[1, 7]);
        holes.page(&[extent(0x1000, 0x2000)], &[2, 1]);
        let mut freed = Freed::new(holes.finish());
        freed.free(extent(0x1f00, 0x3001), 8);
        freed.free(extent(0x1800, 0x1900), 9);
        freed.free(extent(0x4000, 0x9000), 9);
        let seen: Vec<_> = freed.seen().map(|(hole, site)| (hole.holder, site)).collect();
        assert_eq!(seen, [(1, 9), (2, 9), (1, 8)]);
    }

    #[test]
    fn there_are_never_more_than_there_is_room_for() {
        let mut holes = Holes::new(3, 5);
        holes.page(&[extent(0, 1), extent(2, 3)], &[0, 1, 2]);
        assert_eq!(holes.finish().len(), 3);
    }
}
