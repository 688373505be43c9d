//! The live heap blocks: found by address, stored densely, in memory that is allocated once.
//!
//! Blocks lie in a slab, so that the memory touched grows with the number of live blocks; an index
//! of 8-byte entries finds them. Both get their full size at the start.

use std::num::NonZeroU64;

use memtrace_common::sample::Interval;
use slab::Slab;

use super::{
    index::{AddressIndex, Found, MAX_SLOTS},
    sites::SiteId,
};

/// A live block; 32 bytes, of which tables of millions are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where it is.
    pub address: NonZeroU64,
    /// Requested bytes.
    pub size_bytes: u64,
    /// When it was obtained, `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Who obtained it.
    pub site: SiteId,
    /// How densely blocks were looked at when it was.
    pub interval: Interval,
}

// A free slot must fit into the niche of the address.
const _: () = assert!(size_of::<Option<Block>>() == 32);

/// Names a block in the set, attached or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

/// What became of a block that was to be inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is in the set.
    New,
    /// It is in the set, in the place of this one, which had the same address.
    Replaced(Block),
    /// It is not: the set is full.
    Full,
}

/// The set of live blocks.
#[derive(Debug)]
pub struct LiveSet {
    limit: usize,
    blocks: Slab<Block>,
    by_address: AddressIndex,
}

impl LiveSet {
    /// Allocates the set for at most `limit` blocks (and never more than [`MAX_SLOTS`]).
    pub fn new(limit: usize) -> Self {
        let limit = limit.min(MAX_SLOTS);
        let (blocks, by_address) = (Slab::with_capacity(limit), AddressIndex::new(limit));
        Self { limit, blocks, by_address }
    }

    /// Adds a block.
    pub fn insert(&mut self, block: Block) -> Inserted {
        self.by_address.make_room();
        match self.find(block.address) {
            Found::Slot(slot, _) => {
                Inserted::Replaced(std::mem::replace(&mut self.blocks[slot as usize], block))
            }
            Found::Vacant(_) if self.blocks.len() >= self.limit => Inserted::Full,
            Found::Vacant(position) => {
                let slot = self.blocks.insert(block);
                self.by_address.insert(position, block.address, slot as u32);
                Inserted::New
            }
        }
    }

    /// The block at an address.
    pub fn get(&self, address: NonZeroU64) -> Option<&Block> {
        match self.find(address) {
            Found::Slot(slot, _) => self.blocks.get(slot as usize),
            Found::Vacant(_) => None,
        }
    }

    /// Takes out the block at an address.
    pub fn remove(&mut self, address: u64) -> Option<Block> {
        let slot = self.detach(address)?;
        self.remove_detached(slot)
    }

    /// Makes the block at an address unfindable, so that another one can be put there, but keeps
    /// it. It still counts against the limit.
    pub fn detach(&mut self, address: u64) -> Option<Slot> {
        match self.find(NonZeroU64::new(address)?) {
            Found::Vacant(_) => None,
            Found::Slot(slot, position) => {
                self.by_address.remove(position);
                Some(Slot(slot))
            }
        }
    }

    /// Puts a detached block back. `false`, and still detached, when its address is taken.
    pub fn attach(&mut self, slot: Slot) -> bool {
        let address = self.blocks[slot.0 as usize].address;
        self.by_address.make_room();
        match self.find(address) {
            Found::Slot(..) => false,
            Found::Vacant(position) => {
                self.by_address.insert(position, address, slot.0);
                true
            }
        }
    }

    /// Takes out a detached block.
    pub fn remove_detached(&mut self, slot: Slot) -> Option<Block> {
        self.blocks.try_remove(slot.0 as usize)
    }

    /// All blocks, detached ones too.
    pub fn iter(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter().map(|(_, block)| block)
    }

    /// Forgets all; the memory stays allocated.
    pub fn clear(&mut self) {
        self.blocks.clear();
        self.by_address.clear();
    }

    fn find(&self, address: NonZeroU64) -> Found {
        self.by_address.find(address, |slot| self.blocks[slot as usize].address == address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(address: u64) -> Block {
        let address = NonZeroU64::new(address).expect("not 0");
        Block {
            address,
            size_bytes: 1,
            time_ns: 0,
            site: SiteId::OTHERS,
            interval: Interval::EXACT,
        }
    }

    #[test]
    fn a_full_set_refuses_new_addresses_and_still_replaces_known_ones() {
        let mut set = LiveSet::new(2);
        assert_eq!(set.insert(block(1)), Inserted::New);
        assert_eq!(set.insert(block(2)), Inserted::New);
        assert_eq!(set.insert(block(3)), Inserted::Full);
        assert_eq!(set.insert(block(2)), Inserted::Replaced(block(2)));
        assert_eq!(set.remove(1), Some(block(1)));
        assert_eq!(set.insert(block(3)), Inserted::New);
    }

    #[test]
    fn a_detached_block_leaves_its_address_but_keeps_its_place() {
        let mut set = LiveSet::new(2);
        set.insert(block(1));
        let slot = set.detach(1).expect("is there");
        assert_eq!(set.remove(1), None);
        assert_eq!(set.insert(block(1)), Inserted::New);
        assert_eq!(set.insert(block(2)), Inserted::Full);
        assert!(!set.attach(slot), "its address is taken");
        set.remove(1);
        assert!(set.attach(slot));
        assert_eq!(set.remove(1), Some(block(1)));
    }

    #[test]
    fn churn_at_the_limit_never_makes_the_set_grow() {
        let mut set = LiveSet::new(1000);
        let slots = set.blocks.capacity();
        (1..=1000).for_each(|address| assert_eq!(set.insert(block(address)), Inserted::New));
        for address in 1001..50_000 {
            let slot = set.detach(address - 1000).expect("the oldest is live");
            assert_eq!(set.insert(block(address)), Inserted::Full);
            assert_eq!(set.remove_detached(slot), Some(block(address - 1000)));
            assert_eq!(set.insert(block(address)), Inserted::New);
        }
        assert_eq!((set.blocks.capacity(), set.iter().count()), (slots, 1000));
        assert!((49_000..50_000).all(|address| set.remove(address).is_some()));
    }
}
