//! What each site had live when all of them together had the most bytes: exact, in one pass, and at
//! a constant cost an event.
//!
//! Each new summit has a number. A site that changes for the first time since the last summit leaves
//! behind what it had before: that is what it had at the summit. One that never changes since has it
//! still.

use super::sites::SiteId;
use crate::model::site::Amount;

/// The highest point so far.
#[derive(Clone, Debug, Default)]
pub struct Summit {
    live_bytes: u64,
    bytes: u64,
    /// How many there have been; the last is the highest.
    number: u64,
    /// By site.
    left: Vec<Left>,
}

/// What a site left behind when it changed.
#[derive(Clone, Copy, Debug, Default)]
struct Left {
    /// After this summit.
    number: u64,
    live: Amount,
}

impl Summit {
    /// A site that has `live` is about to obtain so many bytes.
    pub fn rise(&mut self, site: SiteId, live: Amount, bytes: u64) {
        self.leave(site, live);
        self.live_bytes = self.live_bytes.wrapping_add(bytes);
        if self.live_bytes > self.bytes {
            self.bytes = self.live_bytes;
            self.number += 1;
        }
    }

    /// A site that has `live` is about to lose so many bytes.
    pub fn fall(&mut self, site: SiteId, live: Amount, bytes: u64) {
        self.leave(site, live);
        self.live_bytes = self.live_bytes.wrapping_sub(bytes);
    }

    /// What a site had, which has `live` now.
    pub fn of(&self, site: SiteId, live: Amount) -> Amount {
        match self.left.get(site.index()) {
            Some(left) if left.number == self.number => left.live,
            _ => live,
        }
    }

    /// How many summits there have been: it changes with every new one.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How high it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn leave(&mut self, site: SiteId, live: Amount) {
        if self.left.len() <= site.index() {
            // No summit has this number: nothing has been left.
            let nothing = Left { number: u64::MAX, live: Amount::default() };
            self.left.resize(site.index() + 1, nothing);
        }
        let left = &mut self.left[site.index()];
        if left.number != self.number {
            *left = Left { number: self.number, live };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const SITES: usize = 3;

    fn amounts(live: &[Vec<u64>; SITES]) -> [Amount; SITES] {
        live.each_ref().map(|of| Amount::new(of.iter().sum(), of.len() as u64))
    }

    #[test]
    fn a_site_that_freed_since_had_more_at_the_summit() {
        let (a, b) = (SiteId::at(1), SiteId::at(2));
        let mut summit = Summit::default();
        summit.rise(a, Amount::default(), 10);
        summit.rise(b, Amount::default(), 5);
        summit.fall(a, Amount::one(10), 10);
        assert_eq!(summit.of(a, Amount::default()), Amount::one(10));
        assert_eq!(summit.of(b, Amount::one(5)), Amount::one(5));
        assert_eq!((summit.bytes(), summit.number()), (15, 2));
    }

    proptest! {
        /// Against copies of everything at each new summit.
        #[test]
        fn each_site_had_what_it_had(steps in vec((0..SITES, prop::option::of(1_u64..100)), 0..200)) {
            let mut live: [Vec<u64>; SITES] = Default::default();
            let (mut highest, mut copy) = (0, amounts(&live));
            let mut summit = Summit::default();
            for (site, step) in steps {
                let (id, before) = (SiteId::at(site), amounts(&live)[site]);
                match step {
                    Some(bytes) => {
                        summit.rise(id, before, bytes);
                        live[site].push(bytes);
                    }
                    None => {
                        if let Some(bytes) = live[site].pop() {
                            summit.fall(id, before, bytes);
                        }
                    }
                }
                let total = amounts(&live).iter().map(|it| it.bytes).sum();
                if total > highest {
                    (highest, copy) = (total, amounts(&live));
                }
            }
            let seen = std::array::from_fn(|site| summit.of(SiteId::at(site), amounts(&live)[site]));
            prop_assert_eq!((summit.bytes(), seen), (highest, copy));
        }
    }
}
