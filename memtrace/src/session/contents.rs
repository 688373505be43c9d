//! Whether blocks still hold what they held: of a block whose release may have been missed, its address
//! says nothing when a block of the same size lies there now, but that one was written to.
//!
//! Of a block, 64 bytes in the middle are read, where they are resident, and a keyed hash of them is kept
//! while the trace goes on. Neither gets into a capture.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
};

use crate::{
    ledger::LiveBlock,
    model::memory::{PageState, Residency as _, TargetMemory as _},
    sys::{
        memory::ProcessMemory,
        pagemap::Pagemap,
        procfs::{ProcError, ProcFs},
    },
};

/// Most blocks that are looked at: about a microsecond each.
pub(super) const MOST_BLOCKS: usize = 1024;

/// Of larger ones the allocator's mapping tells.
pub(super) const LARGEST_BYTES: u64 = 128 << 10;

/// A block that was obtained less long before the first look may not have got its contents yet.
const SETTLED_NS: u64 = 1_000_000;

/// What is read of a block.
const READ_BYTES: u64 = 64;

/// The contents of a process's blocks.
pub(super) struct Contents {
    memory: ProcessMemory,
    pagemap: Pagemap,
    prints: Prints,
}

impl Contents {
    /// Takes hold of a process's memory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn open(proc: &ProcFs, pid: u32) -> Result<Self, ProcError> {
        let (memory, pagemap) = (ProcessMemory::open(proc, pid)?, Pagemap::open(proc, pid)?);
        Ok(Self { memory, pagemap, prints: Prints::default() })
    }

    /// Looks at blocks that count as live; those that were written to since the first look at them.
    pub(super) fn look(&mut self, blocks: &[LiveBlock], now_ns: u64) -> Vec<LiveBlock> {
        let Self { memory, pagemap, prints } = self;
        let page_bytes = rustix::param::page_size() as u64;
        let read = |address: u64| {
            let (first, after) = (address & !(page_bytes - 1), address + READ_BYTES);
            let runs = pagemap.runs(first, after.next_multiple_of(page_bytes))?;
            let resident = runs.iter().filter(|run| run.state == PageState::Resident);
            let resident_bytes: u64 = resident.map(|run| run.end - run.start).sum();
            let mut bytes = [0; READ_BYTES as usize];
            let is_read = resident_bytes >= after.next_multiple_of(page_bytes) - first
                && memory.read(address, &mut bytes);
            is_read.then_some(bytes)
        };
        prints.look(blocks, now_ns, read)
    }
}

/// What is known of each block's contents.
#[derive(Debug, Default)]
struct Prints {
    hasher: RandomState,
    known: HashMap<LiveBlock, u64>,
}

impl Prints {
    fn look(
        &mut self,
        blocks: &[LiveBlock],
        now_ns: u64,
        read: impl Fn(u64) -> Option<[u8; READ_BYTES as usize]>,
    ) -> Vec<LiveBlock> {
        let before = std::mem::take(&mut self.known);
        let mut written = Vec::new();
        for block in blocks {
            let first = before.get(block).copied();
            if first.is_none() && now_ns.saturating_sub(block.time_ns) < SETTLED_NS {
                continue;
            }
            let now = middle_of(block).and_then(&read).map(|bytes| self.hasher.hash_one(bytes));
            if first.is_some() && now.is_some() && first != now {
                written.push(*block);
            }
            if let Some(print) = first.or(now) {
                self.known.insert(*block, print);
            }
        }
        written
    }
}

/// Where to read: not at its ends, where allocators and objects keep their books.
fn middle_of(block: &LiveBlock) -> Option<u64> {
    let spare_bytes = block.size_bytes.checked_sub(READ_BYTES)?;
    Some(block.address.get() + ((spare_bytes / 2) & !7))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    fn block(address: u64, size_bytes: u64, time_ns: u64) -> LiveBlock {
        let address = NonZeroU64::new(address).expect("not 0");
        LiveBlock { address, time_ns, size_bytes }
    }

    /// All bytes of a block are the same.
    fn holding(value: u8) -> impl Fn(u64) -> Option<[u8; 64]> {
        move |_| Some([value; 64])
    }

    const LATER: u64 = 10 * SETTLED_NS;

    #[test]
    fn a_block_that_holds_something_else_was_written_to() {
        let (mut prints, blocks) = (Prints::default(), [block(4096, 1000, 0)]);
        assert_eq!(prints.look(&blocks, LATER, holding(1)), []);
        assert_eq!(prints.look(&blocks, LATER, holding(1)), []);
        assert_eq!(prints.look(&blocks, LATER, |_| None), [], "its page is not there");
        assert_eq!(prints.look(&blocks, LATER, holding(2)), blocks);
    }

    #[test]
    fn a_new_block_is_not_looked_at_before_it_has_its_contents() {
        let (mut prints, blocks) = (Prints::default(), [block(4096, 1000, LATER)]);
        assert_eq!(prints.look(&blocks, LATER, holding(1)), []);
        assert_eq!(prints.look(&blocks, 2 * LATER, holding(2)), []);
        assert_eq!(prints.look(&blocks, 2 * LATER, holding(2)), []);
    }

    #[test]
    fn a_later_block_at_an_address_is_another_one() {
        let mut prints = Prints::default();
        assert_eq!(prints.look(&[block(4096, 1000, 1)], LATER, holding(1)), []);
        assert_eq!(prints.look(&[block(4096, 1000, 2)], LATER, holding(2)), []);
    }

    #[test]
    fn what_is_read_lies_inside_of_the_block() {
        assert_eq!(middle_of(&block(4096, 63, 0)), None);
        assert_eq!(middle_of(&block(4096, 64, 0)), Some(4096));
        assert_eq!(middle_of(&block(4096, 1000, 0)), Some(4096 + 464));
    }
}
