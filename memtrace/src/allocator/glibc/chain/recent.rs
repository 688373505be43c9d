//! The last chunks that a walk came by.

/// How many are remembered.
const CHUNKS: usize = 8;

/// Where they started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Recent {
    starts: [u64; CHUNKS],
    count: usize,
}

impl Recent {
    /// One more; it starts behind all others.
    pub fn push(&mut self, start: u64) {
        self.starts[self.count % CHUNKS] = start;
        self.count += 1;
    }

    /// The first of them that is not before an address.
    pub fn first_from(&self, address: u64) -> Option<u64> {
        let known = &self.starts[..self.count.min(CHUNKS)];
        known.iter().copied().filter(|start| *start >= address).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_known() {
        let mut recent = Recent::default();
        assert_eq!(recent.first_from(0), None);
        (1..=20).for_each(|start| recent.push(start * 100));
        assert_eq!(recent.first_from(0), Some(1300));
        assert_eq!(recent.first_from(1850), Some(1900));
        assert_eq!(recent.first_from(2001), None);
    }
}
