//! Where in a block an address was seen last: most blocks of memory are freed soon after they were
//! obtained, and handed out again soon after that.

/// Slots of the table, a power of two: twice as many as a block of events can have addresses.
const SLOTS: usize = 1 << 16;

/// Addresses of a block in their order, and where to find them.
pub(super) struct Recent {
    seen: Vec<u64>,
    /// Position in `seen` plus 1; 0 is empty.
    slots: Box<[u32]>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { seen: Vec::with_capacity(SLOTS / 2), slots: vec![0; SLOTS].into() }
    }
}

impl Recent {
    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.seen.clear();
        self.slots.fill(0);
    }

    /// How many addresses ago it was seen last, 1 for the one before; and notes it as the last.
    /// At most half of the slots may be filled.
    #[inline]
    pub(super) fn distance(&mut self, address: u64) -> Option<u64> {
        let mut slot = (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize;
        let mut found = self.slots[slot];
        while found != 0 && self.seen[found as usize - 1] != address {
            slot = (slot + 1) % SLOTS;
            found = self.slots[slot];
        }
        self.seen.push(address);
        self.slots[slot] = self.seen.len() as u32;
        (found != 0).then(|| self.seen.len() as u64 - u64::from(found))
    }
}

const _: () = assert!(SLOTS >= 4 * crate::capture::format::EVENTS_A_BLOCK);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_to_the_last_time() {
        let mut recent = Recent::default();
        let distances = [1, 2, 1, 1, 2].map(|address| recent.distance(address));
        assert_eq!(distances, [None, None, Some(2), Some(1), Some(3)]);
        recent.clear();
        assert_eq!(recent.distance(1), None);
    }
}
