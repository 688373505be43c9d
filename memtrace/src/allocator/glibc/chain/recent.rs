//! The last chunks that a walk came by.

/// How many are remembered: more than are freed and merged at once.
const CHUNKS: usize = 64;
/// How many are followed to see whether anything has changed.
const FEW: usize = 8;
/// How many of all are enough to find the way from.
const ANCHORS: usize = 8;

/// Where they started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recent {
    starts: [u64; CHUNKS],
    count: usize,
}

/// Some of them, ascending, from the last to the first; zeros where there were not so many.
pub type Anchors = [u64; ANCHORS];

impl Default for Recent {
    fn default() -> Self {
        Self { starts: [0; CHUNKS], count: 0 }
    }
}

impl Recent {
    /// Of some anchors.
    pub fn of(anchors: Anchors) -> Self {
        let mut recent = Self::default();
        anchors.into_iter().filter(|anchor| *anchor != 0).for_each(|anchor| recent.push(anchor));
        recent
    }

    /// One more; it starts behind all others.
    pub fn push(&mut self, start: u64) {
        self.starts[self.count % CHUNKS] = start;
        self.count += 1;
    }

    /// The first of the last few that is not before an address.
    pub fn first_from(&self, address: u64) -> Option<u64> {
        self.last(FEW).find(|start| *start >= address)
    }

    /// Some of those in a range, spread over it.
    pub fn anchors(&self, from: u64, until: u64) -> Anchors {
        let mut anchors = Anchors::default();
        let between = || self.last(CHUNKS).filter(|start| (from..until).contains(start));
        let step = between().count().div_ceil(ANCHORS).max(1);
        let chosen = between().step_by(step);
        anchors.iter_mut().zip(chosen).for_each(|(anchor, start)| *anchor = start);
        anchors
    }

    /// So many of the last ones, ascending.
    fn last(&self, most: usize) -> impl Iterator<Item = u64> {
        let first = self.count.saturating_sub(most);
        (first..self.count).map(|number| self.starts[number % CHUNKS])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_known() {
        let mut recent = Recent::default();
        assert_eq!(recent.first_from(0), None);
        (1..=200).for_each(|start| recent.push(start * 100));
        assert_eq!(recent.first_from(0), Some(19_300));
        assert_eq!(recent.first_from(19_750), Some(19_800));
        assert_eq!(recent.first_from(20_001), None);
    }

    #[test]
    fn anchors_are_spread_over_what_is_known() {
        let mut recent = Recent::default();
        (1..=3).for_each(|start| recent.push(start * 100));
        assert_eq!(recent.anchors(0, 300), [100, 200, 0, 0, 0, 0, 0, 0]);
        (4..=100).for_each(|start| recent.push(start * 100));
        let expected = [3700, 4500, 5300, 6100, 6900, 7700, 8500, 9300];
        assert_eq!(recent.anchors(0, 10_000), expected);
        assert_eq!(recent.anchors(9850, 10_000), [9900, 0, 0, 0, 0, 0, 0, 0]);
    }
}
