//! Who keeps arenas of CPython's small objects from being given back.
//!
//! An arena goes back to the system when all of its pools are free, and not a page of it before. So
//! the free pools of an arena are kept by all whose blocks are in it, and equally, as each of them
//! could keep it alone; this is the Shapley value of a game that only all together can win. What is
//! free inside a pool serves blocks of its size only until the pool is empty: it is kept by those
//! whose blocks are in the pool.

mod shares;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use self::shares::{Residents, even};
use crate::model::{
    layout::{HeapLayout, PoolLayout, PymallocArenaLayout},
    site::Amount,
};

/// A traced block that lives, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnedBlock {
    /// Its address.
    pub address: u64,
    /// Who is told apart from the others, from 0.
    pub owner: u32,
}

/// What somebody's blocks keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ArenaPins {
    /// Free resident bytes that they keep, what is kept with others shared evenly.
    pub trapped_bytes: u64,
    /// Those that nobody else keeps.
    pub exclusive_bytes: u64,
    /// By how much RSS would drop if they were gone: whole arenas that nobody else is in.
    pub drop_bytes: u64,
    /// The blocks, as large as their pools make them.
    pub live: Amount,
    /// Arenas that they are in.
    pub arenas: u64,
    /// Pools that they are in.
    pub pools: u64,
}

/// Blocks of one size that nobody is known to own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UnownedClass {
    /// The size; 0 for pools that could not be understood.
    pub block_bytes: u32,
    /// Their part of what the unowned keep.
    pub trapped_bytes: u64,
    /// The blocks.
    pub live: Amount,
    /// Pools that they are in.
    pub pools: u64,
}

/// What keeps all arenas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// By owner.
    pub owners: Vec<ArenaPins>,
    /// Blocks that were not traced, or obtained before.
    pub unowned: ArenaPins,
    /// The same by size, most trapped first.
    pub classes: Vec<UnownedClass>,
    /// All that is trapped: the sum over the owners and the unowned.
    pub trapped_bytes: u64,
}

/// Who keeps which arena. `blocks` are those of `owners` owners, ascending.
pub fn pinned(layout: &HeapLayout, blocks: &[OwnedBlock], owners: usize) -> Pinned {
    let mut sum = Sum {
        residents: Residents::of(layout),
        pinned: Pinned { owners: vec![ArenaPins::default(); owners], ..Pinned::default() },
        classes: BTreeMap::new(),
    };
    for arena in &layout.pymalloc {
        let first = blocks.partition_point(|block| block.address < arena.extent.start);
        let after = blocks.partition_point(|block| block.address < arena.extent.end);
        sum.add(arena, &blocks[first..after.max(first)]);
    }
    sum.finish()
}

/// In an arena or a pool; `None` is the unowned, which come last.
type Owner = Option<u32>;

struct Sum<'l> {
    residents: Residents<'l>,
    pinned: Pinned,
    classes: BTreeMap<u32, UnownedClass>,
}

impl Sum<'_> {
    fn add(&mut self, arena: &PymallocArenaLayout, blocks: &[OwnedBlock]) {
        let mut parties: Vec<Party> = Vec::with_capacity(arena.pools.len());
        for pool in &arena.pools {
            parties.push(self.pool(arena, pool, blocks));
        }
        let mut all: Vec<Owner> = parties.iter().flat_map(|party| party.owners.clone()).collect();
        sort_unowned_last(&mut all);
        // Without a pool in use it is given back with the next free.
        if all.is_empty() {
            return;
        }
        let free = self.residents.free_pools(arena);
        self.share(&all, free);
        self.share_among_classes(&parties, &all, free);
        let of_pools = parties.iter().map(|party| party.trapped_bytes);
        self.alone(arena, &all, of_pools.fold(free, u64::saturating_add));
    }

    /// Books a pool, and says who is in it.
    fn pool(
        &mut self,
        arena: &PymallocArenaLayout,
        pool: &PoolLayout,
        blocks: &[OwnedBlock],
    ) -> Party {
        let end = pool.start.saturating_add(arena.pool_bytes);
        let first = blocks.partition_point(|block| block.address < pool.start);
        let inside = blocks[first..].iter().take_while(|block| block.address < end);
        let mut owners: Vec<Owner> = Vec::new();
        let mut owned = 0;
        for block in inside {
            let Some(pins) = self.pinned.owners.get_mut(block.owner as usize) else { continue };
            pins.live += Amount::one(pool.block_bytes.into());
            owners.push(Some(block.owner));
            owned += 1;
        }
        let unowned = u64::from(pool.in_use).saturating_sub(owned);
        let has_unowned = unowned > 0 || !pool.is_known();
        owners.extend(has_unowned.then_some(None));
        sort_unowned_last(&mut owners);
        let trapped_bytes = self.residents.trapped_in(arena, pool);
        self.share(&owners, trapped_bytes);
        owners.iter().for_each(|owner| self.pins(*owner).pools += 1);
        if has_unowned {
            let own = even(trapped_bytes, owners.len()).last().unwrap_or(0);
            self.unowned_pool(pool, unowned, own);
        }
        Party { block_bytes: pool.block_bytes, owners, trapped_bytes }
    }

    fn unowned_pool(&mut self, pool: &PoolLayout, blocks: u64, trapped_bytes: u64) {
        let block_bytes = pool.block_bytes;
        let live = Amount::new(blocks * u64::from(block_bytes), blocks);
        let class = self.classes.entry(block_bytes).or_default();
        class.block_bytes = block_bytes;
        add(&mut class.trapped_bytes, trapped_bytes);
        class.live += live;
        class.pools += 1;
        self.pinned.unowned.live += live;
    }

    fn pins(&mut self, owner: Owner) -> &mut ArenaPins {
        let known = owner.and_then(|owner| self.pinned.owners.get_mut(owner as usize));
        known.unwrap_or(&mut self.pinned.unowned)
    }

    /// Of free bytes, each has the same part.
    fn share(&mut self, owners: &[Owner], bytes: u64) {
        if owners.is_empty() {
            return;
        }
        add(&mut self.pinned.trapped_bytes, bytes);
        for (owner, share) in owners.iter().zip(even(bytes, owners.len())) {
            add(&mut self.pins(*owner).trapped_bytes, share);
        }
    }

    /// The part of the unowned is shared by the sizes that they have in the arena.
    fn share_among_classes(&mut self, parties: &[Party], all: &[Owner], free: u64) {
        if all.last() != Some(&None) {
            return;
        }
        let own = even(free, all.len()).last().unwrap_or(0);
        let is_unowned = |party: &&Party| party.owners.last() == Some(&None);
        let mut sizes: Vec<u32> =
            parties.iter().filter(is_unowned).map(|party| party.block_bytes).collect();
        sizes.sort_unstable();
        sizes.dedup();
        for (size, share) in sizes.iter().zip(even(own, sizes.len())) {
            if let Some(class) = self.classes.get_mut(size) {
                add(&mut class.trapped_bytes, share);
            }
        }
    }

    /// What only one is in is that one's alone.
    fn alone(&mut self, arena: &PymallocArenaLayout, all: &[Owner], trapped_bytes: u64) {
        all.iter().for_each(|owner| self.pins(*owner).arenas += 1);
        if let [only] = all {
            let drop_bytes = self.residents.bytes(arena.extent);
            let pins = self.pins(*only);
            add(&mut pins.exclusive_bytes, trapped_bytes);
            add(&mut pins.drop_bytes, drop_bytes);
        }
    }

    fn finish(mut self) -> Pinned {
        self.pinned.classes = self.classes.into_values().collect();
        self.pinned.classes.sort_by_key(|class| std::cmp::Reverse(class.trapped_bytes));
        self.pinned
    }
}

/// A file can state more than any address space has.
fn add(sum: &mut u64, bytes: u64) {
    *sum = sum.saturating_add(bytes);
}

/// Whose blocks are in a pool.
struct Party {
    block_bytes: u32,
    owners: Vec<Owner>,
    trapped_bytes: u64,
}

/// Each once.
fn sort_unowned_last(owners: &mut Vec<Owner>) {
    owners.sort_unstable_by_key(|owner| owner.map_or(u64::MAX, u64::from));
    owners.dedup();
}
