//! More live blocks than there is room for: the heap has fewer chunks in use.
//!
//! Where probes come in short bursts, what they saw is taken to stand for the rest, and blocks that were
//! freed while nobody looked count as live if others use their addresses. So live blocks of a size can seem
//! to be more than the heap has chunks of that size in use, and that is known exactly, by its walk. Then
//! only that many are: each stands for fewer, and where even those that were seen are too many, some are
//! given up.

use super::{Ledger, check::LiveBlock, live::Block, lot::lot};
use crate::model::{
    chunk_sizes::ChunkSizes,
    room::{ChunksInUse, Room, Seen},
};

/// The lot is another one than that of what was probably freed.
const DRAW: u64 = 1;

impl Ledger {
    /// So many of the live blocks of malloc as there cannot be, if each stands for no more than those that
    /// it is a sample of, and how many of them each of the others stands for, instead of `factor`. Which
    /// ones cannot be is a guess, in which each of a size has the same chance. `chunks` are in use by all;
    /// `is_there` says which blocks are among them, if they are live.
    pub fn crowded_out(
        &self,
        chunks: &ChunksInUse,
        factor: f64,
        is_there: impl Fn(&LiveBlock) -> bool,
    ) -> (Vec<LiveBlock>, Room) {
        let blocks = || self.blocks_of_malloc().filter(|block| is_there(&LiveBlock::from(*block)));
        let mut seen = [Seen::default(); ChunkSizes::CLASSES];
        for block in blocks() {
            let weight = block.interval.weight(block.size_bytes);
            seen[ChunkSizes::class_of_request(block.size_bytes)].add(weight);
        }
        let is_crowded_out = |block: &&Block| {
            let room = chunks.after.of_request(block.size_bytes) as f64;
            let seen = seen[ChunkSizes::class_of_request(block.size_bytes)];
            lot(block, DRAW) * seen.seeming >= room
        };
        let crowded_out = blocks().filter(is_crowded_out).map(LiveBlock::from).collect();
        (crowded_out, Room::new(&seen, chunks, factor))
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        ledger::{Limits, Start},
        model::{
            AllocFn,
            event::{Action, Event},
            stack::StackId,
        },
    };

    use super::*;

    const SIZES: [u64; 3] = [100, 1000, 10_000];
    const EACH: u64 = 4000;

    /// So many blocks of each size, one after the other.
    fn ledger() -> Ledger {
        let limits = Limits { live_blocks: 1 << 20, live_ranges: 10, sites: 10 };
        let start = Start { time_ns: 0, initial_break: None, page_bytes: 4096 };
        let mut ledger = Ledger::new(limits, start);
        for number in 1..=EACH {
            for (at, size_bytes) in SIZES.into_iter().enumerate() {
                let address = (at as u64 + 1) << 40 | number << 16;
                let action = Action::Alloc { address, size_bytes, stack: StackId(1) };
                ledger.apply(&Event::of(AllocFn::Malloc, 1, number, action));
            }
        }
        ledger
    }

    fn chunks(counts: [u64; 3]) -> ChunksInUse {
        let mut after = ChunkSizes::default();
        for (size, count) in SIZES.into_iter().zip(counts) {
            (0..count).for_each(|_| after.add((size + 16) & !15));
        }
        ChunksInUse { before: None, after, in_window: 1.0 }
    }

    /// How many of each size are given up, and how many each of the others stands for.
    fn crowded_out(counts: [u64; 3], factor: f64) -> ([u64; 3], [f64; 3]) {
        let (blocks, room) = ledger().crowded_out(&chunks(counts), factor, |_| true);
        let of_size = |size| blocks.iter().filter(|block| block.size_bytes == size).count() as u64;
        (SIZES.map(of_size), SIZES.map(|size| room.factor_of(size, factor)))
    }

    #[test]
    fn what_the_heap_has_room_for_stays() {
        assert_eq!(crowded_out([EACH, 2 * EACH, 1 << 20], 1.0), ([0; 3], [1.0; 3]));
    }

    #[test]
    fn of_each_size_only_as_many_stay_as_there_is_room_for() {
        // Of 4,000 there are 2,000, 0 and all.
        let ([half, all, none], stand_for) = crowded_out([2000, 0, EACH], 3.0);
        // Five standard deviations of as many coins.
        assert!(half.abs_diff(2000) < 160, "{half}");
        assert_eq!((all, none), (EACH, 0));
        assert_eq!(stand_for, [1.0; 3]);
    }

    #[test]
    fn of_what_stands_for_more_than_there_is_room_for_nothing_is_given_up() {
        // 4,000 would stand for 12,000: there are 6,000, 12,000 and more.
        let (given_up, stand_for) = crowded_out([6000, 12_000, 20_000], 3.0);
        assert_eq!((given_up, stand_for), ([0; 3], [1.5, 3.0, 3.0]));
    }

    #[test]
    fn what_is_elsewhere_takes_no_room_and_stays() {
        let is_there = |block: &LiveBlock| block.address.get() >> 16 & 1 == 0;
        let (blocks, _) = ledger().crowded_out(&chunks([EACH / 2; 3]), 1.0, is_there);
        assert_eq!(blocks, []);
        let (blocks, _) = ledger().crowded_out(&chunks([EACH / 4; 3]), 1.0, is_there);
        assert!(!blocks.is_empty() && blocks.iter().all(is_there));
    }
}
