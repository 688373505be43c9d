//! Blocks that are there, by their addresses, and the slots that stand for them in a replay.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::turns::WINDOW;

/// A slot is not used again before so many others were given up: calls that change places within a
/// window do not meet in one.
const REST: usize = 2 * WINDOW;

/// A block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// What stands for it.
    pub slot: u32,
    /// As requested.
    pub size_bytes: u64,
}

/// The blocks.
#[derive(Debug, Default)]
pub struct Blocks {
    by_address: HashMap<u64, Block>,
    free_slots: VecDeque<u32>,
    slots: u32,
}

impl Blocks {
    /// A slot for a block that has no address yet.
    pub fn slot(&mut self) -> u32 {
        if self.free_slots.len() > REST
            && let Some(slot) = self.free_slots.pop_front()
        {
            return slot;
        }
        self.slots += 1;
        self.slots - 1
    }

    /// The slot may stand for another block.
    pub fn give_up(&mut self, slot: u32) {
        self.free_slots.push_back(slot);
    }

    /// The block is at this address from now on; the one that was thought to be there is returned.
    pub fn insert(&mut self, address: u64, block: Block) -> Option<Block> {
        self.by_address.insert(address, block)
    }

    /// Nothing is there any more.
    pub fn remove(&mut self, address: u64) -> Option<Block> {
        self.by_address.remove(&address)
    }

    /// How many blocks there are, and their bytes.
    pub fn amount(&self) -> (u64, u64) {
        let bytes = self.by_address.values().map(|block| block.size_bytes).sum();
        (self.by_address.len() as u64, bytes)
    }
}
