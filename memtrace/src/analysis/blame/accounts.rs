//! What each of many holds of units of memory that go only when all who hold them are gone.

/// Who holds the unit that is being looked at: each once, whatever it has there.
#[derive(Clone, Debug, Default)]
pub struct Holders {
    list: Vec<u32>,
    /// For each, the last unit that it was in.
    seen: Vec<u64>,
    unit: u64,
}

impl Holders {
    /// Of so many who could.
    pub fn new(players: usize) -> Self {
        Self { list: Vec::new(), seen: vec![0; players], unit: 1 }
    }

    /// One of them has something there.
    #[inline]
    pub fn add(&mut self, player: u32) {
        let Some(seen) = self.seen.get_mut(player as usize) else { return };
        if std::mem::replace(seen, self.unit) != self.unit {
            self.list.push(player);
        }
    }

    /// All of them.
    pub fn all(&self) -> &[u32] {
        &self.list
    }

    /// On to the next unit.
    pub fn clear(&mut self) {
        self.list.clear();
        self.unit += 1;
    }
}

/// The sums of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Its part of what is free in units that it holds.
    pub trapped_bytes: u64,
    /// What is free in units that would go if it alone was gone.
    pub exclusive_bytes: u64,
    /// Bytes of those units.
    pub drop_bytes: u64,
}

/// The sums of all.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    sums: Vec<Sums>,
    trapped_bytes: u64,
}

impl Accounts {
    /// Of so many.
    pub fn new(players: usize) -> Self {
        Self { sums: vec![Sums::default(); players], trapped_bytes: 0 }
    }

    /// A unit in which `free_bytes` are free, and which these hold.
    ///
    /// Memory that goes only when all are gone is a unanimity game, whose Shapley value is the even
    /// split: no other is symmetric and adds up. What does not divide goes to the first of them, a
    /// byte each.
    #[inline]
    pub fn hold(&mut self, holders: &[u32], free_bytes: u64) {
        let count = holders.len() as u64;
        if count == 0 || free_bytes == 0 {
            return;
        }
        self.trapped_bytes += free_bytes;
        let (part, rest) = (free_bytes / count, free_bytes % count);
        for (at, player) in (0..).zip(holders) {
            if let Some(sums) = self.sums.get_mut(*player as usize) {
                sums.trapped_bytes += part + u64::from(at < rest);
            }
        }
    }

    /// Memory that would go if this one alone was gone: so many bytes, of which so many are free.
    #[inline]
    pub fn depend(&mut self, player: u32, free_bytes: u64, bytes: u64) {
        if let Some(sums) = self.sums.get_mut(player as usize) {
            sums.exclusive_bytes += free_bytes;
            sums.drop_bytes += bytes;
        }
    }

    /// Of one of them.
    pub fn of(&self, player: u32) -> Sums {
        self.sums.get(player as usize).copied().unwrap_or_default()
    }

    /// The sum of all parts.
    pub fn trapped_bytes(&self) -> u64 {
        self.trapped_bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_unit_is_split_evenly_and_to_the_byte() {
        let mut accounts = Accounts::new(4);
        accounts.hold(&[2, 0, 3], 100);
        accounts.hold(&[2], 7);
        accounts.hold(&[], 1000);
        let trapped: Vec<u64> = (0..4).map(|player| accounts.of(player).trapped_bytes).collect();
        assert_eq!(trapped, [33, 0, 34 + 7, 33]);
        assert_eq!(accounts.trapped_bytes(), 107);
    }

    proptest! {
        #[test]
        fn the_parts_add_up(units in prop::collection::vec(
            (prop::collection::vec(0..9_u32, 0..9), 0..1_u64 << 21), 0..50
        )) {
            let (mut accounts, mut holders) = (Accounts::new(9), Holders::new(9));
            let mut expected = 0;
            for (players, free_bytes) in units {
                players.iter().for_each(|player| holders.add(*player));
                accounts.hold(holders.all(), free_bytes);
                expected += if players.is_empty() { 0 } else { free_bytes };
                holders.clear();
            }
            let sum: u64 = (0..9).map(|player| accounts.of(player).trapped_bytes).sum();
            prop_assert_eq!((sum, accounts.trapped_bytes()), (expected, expected));
        }
    }
}
