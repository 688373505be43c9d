//! From the address of a block to its slot: the hash table that every event goes through.
//!
//! Linear probing over one array of 8-byte entries, so that a lookup costs one cache miss, and
//! removal by shifting back, so that there are no tombstones: the array is allocated once and needs
//! no cleaning, however long the trace. Of it only as much is used, and thereby touched, as there are
//! blocks for: entries lie where their hashes say, which is on another page for each.

use std::{hash::BuildHasher, num::NonZeroU64};

use hashbrown::DefaultHashBuilder;

/// The most slots that the 32-bit hashes of the entries can spread.
pub const MAX_SLOTS: usize = 1 << 31;

/// So many entries are used at first: 32 KiB.
const FIRST_ENTRIES: usize = 1 << 12;

/// 32 bits of the address's hash above, the slot + 1 below; 0 is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry(u64);

impl Entry {
    fn new(hash: u32, slot: u32) -> Self {
        Self(u64::from(hash) << 32 | (u64::from(slot) + 1))
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn hash(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn slot(self) -> u32 {
        (self.0 as u32).wrapping_sub(1)
    }
}

/// Where an address's entry is, or would go. Any insertion or removal makes it worthless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The entry at this position has this slot.
    Slot(u32, usize),
    /// There is none; this position is free for it.
    Vacant(usize),
}

/// Slots by address.
#[derive(Debug)]
pub struct AddressIndex {
    /// For as many slots as there may ever be.
    entries: Box<[u64]>,
    /// How many of them are used, from the first on: a power of two, a third of which are always
    /// empty, so that every search ends.
    used: usize,
    /// Slots that are in it.
    count: usize,
    hasher: DefaultHashBuilder,
}

impl AddressIndex {
    /// Allocates an index of at most `limit` slots (and no more than [`MAX_SLOTS`]), all zeros:
    /// pages that are never used are never touched.
    pub fn new(limit: usize) -> Self {
        let limit = limit.min(MAX_SLOTS);
        let entries = vec![0; entries_for(limit)].into_boxed_slice();
        let used = entries.len().min(FIRST_ENTRIES);
        Self { entries, used, count: 0, hasher: DefaultHashBuilder::default() }
    }

    /// To be called before the search for the position of a new address.
    pub fn make_room(&mut self) {
        if self.used < self.entries.len() && self.used < entries_for(self.count + 1) {
            self.spread();
        }
    }

    /// Spreads all over twice as many entries.
    fn spread(&mut self) {
        let used = &mut self.entries[..self.used];
        let entries = used.iter().map(|entry| Entry(*entry)).filter(|entry| !entry.is_empty());
        let entries: Vec<Entry> = entries.collect();
        used.fill(0);
        self.used *= 2;
        for entry in entries {
            let mut position = self.home(entry.hash());
            while !self.entry(position).is_empty() {
                position = self.after(position);
            }
            self.entries[position] = entry.0;
        }
    }

    /// Searches an address; `is_at` tells whether a slot holds it.
    pub fn find(&self, address: NonZeroU64, is_at: impl Fn(u32) -> bool) -> Found {
        let hash = self.hash(address);
        let mut position = self.home(hash);
        loop {
            let entry = self.entry(position);
            if entry.is_empty() {
                return Found::Vacant(position);
            }
            if entry.hash() == hash && is_at(entry.slot()) {
                return Found::Slot(entry.slot(), position);
            }
            position = self.after(position);
        }
    }

    /// Adds an address at the vacant position that was just found for it.
    pub fn insert(&mut self, position: usize, address: NonZeroU64, slot: u32) {
        debug_assert!(self.entry(position).is_empty());
        self.entries[position] = Entry::new(self.hash(address), slot).0;
        self.count += 1;
    }

    /// Removes the entry at a position that was just found.
    pub fn remove(&mut self, position: usize) {
        let mut hole = position;
        let mut next = self.after(hole);
        while !self.entry(next).is_empty() {
            let home = self.home(self.entry(next).hash());
            // An entry may move up to its home, and not before.
            if self.distance(home, next) >= self.distance(hole, next) {
                self.entries[hole] = self.entries[next];
                hole = next;
            }
            next = self.after(next);
        }
        self.entries[hole] = 0;
        self.count -= 1;
    }

    /// Forgets all; the memory stays allocated.
    pub fn clear(&mut self) {
        self.entries[..self.used].fill(0);
        self.count = 0;
    }

    fn entry(&self, position: usize) -> Entry {
        Entry(self.entries[position])
    }

    fn hash(&self, address: NonZeroU64) -> u32 {
        self.hasher.hash_one(address) as u32
    }

    /// The high bits of the hash, as many as there are positions.
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.used as u64) >> 32) as usize
    }

    fn after(&self, position: usize) -> usize {
        (position + 1) & (self.used - 1)
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.used - 1)
    }
}

/// How many entries so many slots need.
fn entries_for(slots: usize) -> usize {
    (slots + slots / 2 + 1).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn address(slot: u32) -> NonZeroU64 {
        NonZeroU64::new(u64::from(slot) + 1).expect("not 0")
    }

    /// Here the address is the slot, so that no block is needed to tell them apart.
    fn find(index: &AddressIndex, slot: u32) -> Found {
        index.find(address(slot), |found| found == slot)
    }

    #[test]
    fn an_index_of_no_slots_finds_nothing() {
        assert_eq!(find(&AddressIndex::new(0), 7), Found::Vacant(0));
    }

    #[test]
    fn all_bits_of_a_slot_and_a_hash_are_kept() {
        for (hash, slot) in [(0, 0), (u32::MAX, MAX_SLOTS as u32 - 1), (1, u32::MAX - 1)] {
            let entry = Entry::new(hash, slot);
            assert_eq!((entry.hash(), entry.slot(), entry.is_empty()), (hash, slot, false));
        }
    }

    #[test]
    fn as_much_is_used_as_there_are_slots_and_all_are_found_when_that_grows() {
        let mut index = AddressIndex::new(100_000);
        assert_eq!(index.used, FIRST_ENTRIES);
        for slot in 0..20_000 {
            index.make_room();
            let Found::Vacant(position) = find(&index, slot) else { panic!("{slot} is there") };
            index.insert(position, address(slot), slot);
        }
        assert_eq!(index.used, 32_768);
        assert!(index.entries[index.used..].iter().all(|entry| *entry == 0));
        for slot in 0..20_000 {
            let Found::Slot(found, position) = find(&index, slot) else { panic!("no {slot}") };
            assert_eq!(found, slot);
            index.remove(position);
        }
        assert_eq!(index.count, 0);
        assert!(index.entries.iter().all(|entry| *entry == 0));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_map_while_it_is_filled_and_emptied(
            steps in vec((0..48_u32, any::<bool>()), 1..400),
        ) {
            // 32 slots in 64 entries: long runs of entries that wrap around.
            let mut index = AddressIndex::new(32);
            let mut model = HashMap::new();
            for (slot, insert) in steps {
                index.make_room();
                match find(&index, slot) {
                    Found::Slot(found, position) => {
                        prop_assert_eq!(model.remove(&slot), Some(found));
                        index.remove(position);
                    }
                    Found::Vacant(position) => {
                        prop_assert!(!model.contains_key(&slot));
                        if insert && model.len() < 32 {
                            index.insert(position, address(slot), slot);
                            model.insert(slot, slot);
                        }
                    }
                }
                for slot in 0..48 {
                    let is_there = matches!(find(&index, slot), Found::Slot(..));
                    prop_assert_eq!(is_there, model.contains_key(&slot));
                }
            }
        }
    }
}
