//! Questions about single chunks that a walk answers on its way.

use super::{shape::CHUNK_HEADER_BYTES, tcache::Tcaches};
use crate::model::{census::Extent, site::Amount};

/// A chunk as it was walked over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where its header is.
    pub start: u64,
    /// Where the next one is.
    pub end: u64,
    /// Handed out to the program, or in a tcache.
    pub in_use: bool,
    /// The second word of the program's memory.
    pub key: u64,
}

/// Somebody who wants to see every chunk, each segment's in ascending order, once.
pub trait Observer {
    /// Whether it wants to.
    fn is_interested(&self) -> bool;

    /// A chunk.
    fn chunk(&mut self, chunk: Chunk);

    /// The segments that come next are another arena's.
    fn arena(&mut self, _index: u32) {}
}

/// What became of a block that was handed out once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BlockState {
    /// It is not in memory that was walked, or the walk did not understand that part.
    #[default]
    Unknown,
    /// Its chunk is in use.
    InUse,
    /// Its memory is free, in a cache, or part of another chunk: it was freed.
    Freed,
}

/// Blocks that somebody asks for, and what is known of them.
pub struct Blocks<'b> {
    addresses: &'b [u64],
    /// For each of them.
    pub states: Vec<BlockState>,
    /// The chunks of those in use, headers included; whole mappings of those mapped one by one.
    pub in_use: Amount,
    /// Blocks in use whose second word may be a tcache's key, with that and their chunk's size.
    keys: Vec<(u32, u64, u64)>,
    /// The first that is not behind, in this segment.
    next: usize,
    behind: u64,
}

impl<'b> Blocks<'b> {
    /// Of these addresses, ascending.
    pub fn new(addresses: &'b [u64]) -> Self {
        let states = vec![BlockState::Unknown; addresses.len()];
        Self { addresses, states, in_use: Amount::default(), keys: Vec::new(), next: 0, behind: 0 }
    }

    /// Says what could not be known during the walk: which chunks were in tcaches, and which
    /// blocks were mapped one by one.
    pub fn settle(&mut self, tcaches: &Tcaches, mapped: &[Extent]) {
        for (chunk, size) in &tcaches.chunks {
            if let Ok(found) = self.addresses.binary_search(&(chunk + CHUNK_HEADER_BYTES)) {
                self.cached(found, *size);
            }
        }
        // Lists that changed while they were read miss chunks. Otherwise they are the truth: a
        // chunk that has left a tcache for a fastbin may keep the key when it is used again.
        if let Some(key) = tcaches.key.filter(|_| tcaches.torn) {
            let keys = std::mem::take(&mut self.keys);
            for (block, _, size) in keys.iter().filter(|(_, word, _)| *word == key) {
                self.cached(*block as usize, *size);
            }
        }
        for block in mapped {
            let first = self.addresses.partition_point(|address| *address < block.start);
            let after = self.addresses.partition_point(|address| *address < block.end);
            self.states[first..after].fill(BlockState::InUse);
            if first < after {
                self.in_use += Amount::one(block.bytes());
            }
        }
    }

    /// A block that was taken for one in use is in a tcache.
    fn cached(&mut self, block: usize, size: u64) {
        if std::mem::replace(&mut self.states[block], BlockState::Freed) == BlockState::InUse {
            self.in_use -= Amount::one(size);
        }
    }

    fn seek(&mut self, chunk: u64) {
        if chunk < self.behind {
            self.next = self.addresses.partition_point(|address| *address < chunk);
        }
        while self.addresses.get(self.next).is_some_and(|address| *address < chunk) {
            self.next += 1;
        }
        self.behind = chunk;
    }
}

impl Observer for Blocks<'_> {
    fn is_interested(&self) -> bool {
        !self.addresses.is_empty()
    }

    fn chunk(&mut self, chunk: Chunk) {
        self.seek(chunk.start);
        while let Some(address) = self.addresses.get(self.next).filter(|it| **it < chunk.end) {
            let is_its_own = chunk.in_use && *address == chunk.start + CHUNK_HEADER_BYTES;
            let state = if is_its_own { BlockState::InUse } else { BlockState::Freed };
            // A segment that was read again is seen twice.
            let before = std::mem::replace(&mut self.states[self.next], state);
            let size = chunk.end - chunk.start;
            if is_its_own && before != BlockState::InUse {
                self.in_use += Amount::one(size);
            }
            // Keys are random, pointers and small numbers are not.
            if is_its_own && chunk.key >> 48 != 0 {
                self.keys.push((self.next as u32, chunk.key, size));
            }
            self.next += 1;
        }
    }

    fn arena(&mut self, _: u32) {
        self.behind = u64::MAX;
    }
}
