//! The live heap blocks: found by address, stored densely, in memory that is allocated once.
//!
//! Blocks lie in a slab, so that the memory touched grows with the number of live blocks; a hash
//! table of 4-byte slots finds them. Both get their full size at the start.

use std::{hash::BuildHasher, num::NonZeroU64};

use hashbrown::{DefaultHashBuilder, HashTable, hash_table::Entry};
use slab::Slab;

use super::sites::SiteId;

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
    /// Not found by address, because a `realloc` that was given it has not returned.
    detached: bool,
}

impl Block {
    /// A block that was just obtained.
    pub fn new(address: NonZeroU64, size_bytes: u64, time_ns: u64, site: SiteId) -> Self {
        Self { address, size_bytes, time_ns, site, detached: false }
    }
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
    by_address: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl LiveSet {
    /// Allocates the set for at most `limit` blocks (and never more than `u32::MAX`).
    pub fn new(limit: usize) -> Self {
        let limit = limit.min(u32::MAX as usize);
        Self {
            limit,
            blocks: Slab::with_capacity(limit),
            // The quarter makes sure that removing tombstones always frees room for many more
            // insertions, see `make_room`.
            by_address: HashTable::with_capacity(limit + limit / 4 + 1),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Adds a block.
    pub fn insert(&mut self, block: Block) -> Inserted {
        self.make_room();
        let Self { limit, blocks, by_address, hasher } = self;
        let hash = hasher.hash_one(block.address);
        let is_same = |slot: &u32| blocks[*slot as usize].address == block.address;
        match by_address.entry(hash, is_same, |slot| hash_of(blocks, hasher, *slot)) {
            Entry::Occupied(found) => {
                let slot = *found.get() as usize;
                Inserted::Replaced(std::mem::replace(&mut blocks[slot], block))
            }
            Entry::Vacant(_) if blocks.len() >= *limit => Inserted::Full,
            Entry::Vacant(free) => {
                free.insert(blocks.vacant_key() as u32);
                blocks.insert(block);
                Inserted::New
            }
        }
    }

    /// Takes out the block at an address.
    pub fn remove(&mut self, address: u64) -> Option<Block> {
        let slot = self.unlink(address)?;
        self.blocks.try_remove(slot as usize)
    }

    /// Makes the block at an address unfindable, so that another one can be put there, but keeps
    /// it. It still counts against the limit.
    pub fn detach(&mut self, address: u64) -> Option<Slot> {
        let slot = self.unlink(address)?;
        self.blocks.get_mut(slot as usize)?.detached = true;
        Some(Slot(slot))
    }

    /// Puts a detached block back. `false`, and still detached, when its address is taken.
    pub fn attach(&mut self, slot: Slot) -> bool {
        self.make_room();
        let Self { blocks, by_address, hasher, .. } = self;
        let Some(address) = blocks.get(slot.0 as usize).map(|block| block.address) else {
            return false;
        };
        let hash = hasher.hash_one(address);
        let is_same = |slot: &u32| blocks[*slot as usize].address == address;
        match by_address.entry(hash, is_same, |slot| hash_of(blocks, hasher, *slot)) {
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                free.insert(slot.0);
                blocks[slot.0 as usize].detached = false;
                true
            }
        }
    }

    /// Takes out a detached block.
    pub fn remove_detached(&mut self, slot: Slot) -> Option<Block> {
        debug_assert!(self.blocks.get(slot.0 as usize).is_none_or(|block| block.detached));
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

    fn unlink(&mut self, address: u64) -> Option<u32> {
        let address = NonZeroU64::new(address)?;
        let Self { blocks, by_address, hasher, .. } = self;
        let is_same = |slot: &u32| blocks[*slot as usize].address == address;
        let found = by_address.find_entry(hasher.hash_one(address), is_same).ok()?;
        Some(found.remove().0)
    }

    /// Before an insertion: removals leave tombstones, and when they use up the table, it would
    /// grow. It is filled anew instead.
    fn make_room(&mut self) {
        if self.by_address.len() < self.by_address.capacity() {
            return;
        }
        let Self { blocks, by_address, hasher, .. } = self;
        by_address.clear();
        for (slot, block) in blocks.iter().filter(|(_, block)| !block.detached) {
            let rehash = |slot: &u32| hash_of(blocks, hasher, *slot);
            by_address.insert_unique(hasher.hash_one(block.address), slot as u32, rehash);
        }
    }
}

fn hash_of(blocks: &Slab<Block>, hasher: &DefaultHashBuilder, slot: u32) -> u64 {
    hasher.hash_one(blocks[slot as usize].address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(address: u64) -> Block {
        let address = NonZeroU64::new(address).expect("not 0");
        Block::new(address, 1, 0, SiteId::OTHERS)
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
    fn churn_never_makes_the_tables_grow() {
        let mut set = LiveSet::new(1000);
        let buckets = set.by_address.num_buckets();
        let slots = set.blocks.capacity();
        for address in 1..=1000 {
            set.insert(block(address));
        }
        let mut oldest = 1;
        for address in 1001..200_000_u64 {
            let slot = set.detach(oldest).expect("the oldest is live");
            assert_eq!(set.insert(block(address)), Inserted::Full);
            set.remove_detached(slot);
            assert_eq!(set.insert(block(address)), Inserted::New);
            oldest += 1;
        }
        assert_eq!((set.by_address.num_buckets(), set.blocks.capacity()), (buckets, slots));
        assert_eq!(set.iter().count(), 1000);
        assert!((oldest..200_000).all(|address| set.remove(address).is_some()));
    }
}
