//! Which live blocks to ask the heap for, and what follows from its answer: one lost free is a false
//! leak.

use std::{num::NonZeroU64, ops::RangeInclusive};

use super::{Ledger, live::Block};
use crate::model::{AllocFn, site::Amount};

/// A live heap block, told from later ones at its address by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LiveBlock {
    /// Where it is.
    pub address: NonZeroU64,
    /// When it was obtained, `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Requested bytes.
    pub size_bytes: u64,
}

impl From<&Block> for LiveBlock {
    fn from(block: &Block) -> Self {
        let Block { address, time_ns, size_bytes, .. } = *block;
        Self { address, time_ns, size_bytes }
    }
}

/// A chance as small as this is odd.
const ODD: f64 = 0.01;

/// Blocks to ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspects {
    /// The largest, in no order.
    pub blocks: Vec<LiveBlock>,
    /// Those that are not among them, by requested bytes.
    pub others: Amount,
}

impl Ledger {
    /// The largest live blocks of malloc, at most so many. CPython's allocator may hand out a part of
    /// a block of malloc, of which the heap says nothing.
    pub fn suspects(&self, most: usize) -> Suspects {
        self.suspects_of(most, |_| true)
    }

    /// The same of those only whose release may have been missed because nothing was there to see
    /// it: those obtained before `time_ns`, or before the last such time.
    pub fn doubtful(&self, most: usize, time_ns: u64) -> Suspects {
        let until_ns = self.books.unseen_until_ns.max(time_ns);
        self.suspects_of(most, |block| block.time_ns < until_ns)
    }

    /// The largest of those with sizes in this range, at most so many.
    pub fn of_sizes(&self, sizes: RangeInclusive<u64>, most: usize) -> Vec<LiveBlock> {
        self.suspects_of(most, |block| sizes.contains(&block.size_bytes)).blocks
    }

    /// Whether it would be odd for a block to be live still: of its site's blocks, so many are freed
    /// while they are watched, for `watch_ns` on average, that hardly one would be left now.
    pub fn would_be_odd(&self, block: &LiveBlock, now_ns: u64, watch_ns: u64) -> bool {
        let Some(stats) = self.heap.site_of(block).and_then(|site| self.books.sites.stats(site))
        else {
            return false;
        };
        let freed: f64 = stats.freed.count as f64 / stats.allocated.count.max(1) as f64;
        let watches = now_ns.saturating_sub(block.time_ns) as f64 / watch_ns.max(1) as f64;
        f64::powf(1.0 - freed, watches) < ODD
    }

    fn suspects_of(&self, most: usize, is_wanted: impl Fn(&Block) -> bool) -> Suspects {
        let of_malloc = || self.blocks_of_malloc().filter(|block| is_wanted(block));
        let (smallest, mut room) = smallest_class(of_malloc(), most);
        let mut suspects = Suspects::default();
        for block in of_malloc() {
            let finds_room = class(block) == smallest && room > 0;
            room -= usize::from(finds_room);
            if class(block) > smallest || finds_room {
                suspects.blocks.push(block.into());
            } else {
                suspects.others += Amount::one(block.size_bytes);
            }
        }
        suspects
    }

    pub(super) fn blocks_of_malloc(&self) -> impl Iterator<Item = &Block> {
        self.heap.blocks().filter(|block| !self.is_pythons(block))
    }

    fn is_pythons(&self, block: &Block) -> bool {
        let function = self.books.sites.function(block.site);
        function.is_some_and(AllocFn::is_python)
    }

    /// The live block at an address; not one that an open realloc was given.
    pub fn block_at(&self, address: u64) -> Option<LiveBlock> {
        self.heap.block_at(NonZeroU64::new(address)?)
    }

    /// Books a block as freed whose memory the heap says at `time_ns` is free; one that was freed or reallocated
    /// since is left alone. What was booked.
    pub fn free_unseen(&mut self, block: &LiveBlock, time_ns: u64) -> Option<Amount> {
        self.heap.free_unseen(*block, time_ns, &mut self.books)
    }

    /// The same of the block that is live at an address now.
    pub fn free_unseen_at(&mut self, address: u64, time_ns: u64) -> Amount {
        let block = NonZeroU64::new(address).and_then(|address| self.heap.block_at(address));
        block.and_then(|block| self.free_unseen(&block, time_ns)).unwrap_or_default()
    }
}

/// The power of two that its size reaches.
fn class(block: &Block) -> usize {
    block.size_bytes.checked_ilog2().unwrap_or(0) as usize
}

/// The smallest class of which there is still room for some, and for how many.
fn smallest_class<'b>(blocks: impl Iterator<Item = &'b Block>, most: usize) -> (usize, usize) {
    let mut counts = [0_usize; u64::BITS as usize];
    for block in blocks {
        counts[class(block)] += 1;
    }
    let mut room = most;
    for (class, count) in counts.iter().enumerate().rev() {
        if *count >= room {
            return (class, room);
        }
        room -= count;
    }
    (0, room)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ledger::{Limits, Start},
        model::{
            event::{Action, Event},
            loss::Loss,
            stack::StackId,
        },
    };

    fn event(time_ns: u64, action: Action) -> Event {
        Event::of(AllocFn::Malloc, 1, time_ns, action)
    }

    fn alloc(address: u64, size_bytes: u64, time_ns: u64) -> Event {
        event(time_ns, Action::Alloc { address, size_bytes, stack: StackId(1) })
    }

    fn ledger(sizes: &[u64]) -> Ledger {
        let limits = Limits { live_blocks: 100, live_ranges: 10, sites: 10 };
        let start = Start { time_ns: 0, initial_break: None, page_bytes: 4096 };
        let mut ledger = Ledger::new(limits, start);
        for (at, size) in (1..).zip(sizes) {
            ledger.apply(&alloc(at, *size, at));
        }
        ledger
    }

    fn addresses(suspects: &Suspects) -> Vec<u64> {
        suspects.blocks.iter().map(|block| block.address.get()).collect()
    }

    #[test]
    fn the_largest_blocks_are_suspects_and_the_others_are_counted() {
        let ledger = ledger(&[16, 5000, 0, 17, 4096, 100_000]);
        let suspects = ledger.suspects(3);
        let mut found = addresses(&suspects);
        found.sort_unstable();
        assert_eq!(found, [2, 5, 6]);
        assert_eq!(suspects.others, Amount::new(33, 3));
        let all = ledger.suspects(6);
        assert_eq!((all.blocks.len(), all.others), (6, Amount::default()));
        assert_eq!(ledger.suspects(0).others.count, 6);
    }

    #[test]
    fn a_block_is_doubtful_when_nobody_may_have_seen_its_release() {
        let mut ledger = ledger(&[16, 5000, 17]);
        assert!(addresses(&ledger.doubtful(9, 0)).is_empty());
        ledger.releases_were_unseen_until(3);
        assert_eq!(addresses(&ledger.doubtful(9, 0)), [1, 2]);
        assert_eq!(addresses(&ledger.doubtful(9, u64::MAX)), [1, 2, 3], "they are missed now");
    }

    #[test]
    fn what_stays_is_odd_only_where_blocks_are_freed_soon() {
        let mut ledger = ledger(&[100, 100, 100, 100]);
        let block = ledger.block_at(1).expect("it is live");
        assert!(!ledger.would_be_odd(&block, u64::MAX, 10), "of this site nothing was ever freed");
        ledger.apply(&event(10, Action::Free { address: 2 }));
        ledger.apply(&event(11, Action::Free { address: 3 }));
        assert!(!ledger.would_be_odd(&block, 61, 10), "one of 64 lives for six watches");
        assert!(ledger.would_be_odd(&block, 71, 10));
        assert_eq!(ledger.of_sizes(1..=99, 9), []);
        assert_eq!(ledger.of_sizes(100..=100, 9).len(), 2);
    }

    #[test]
    fn small_blocks_that_come_first_do_not_take_the_places_of_large_ones() {
        let suspects = ledger(&[17, 16, 100]).suspects(2);
        assert_eq!(addresses(&suspects), [1, 3]);
    }

    #[test]
    fn what_was_freed_unseen_is_no_survivor_and_is_counted_as_a_loss() {
        let mut ledger = ledger(&[16, 5000]);
        let suspects = ledger.suspects(10);
        assert_eq!(ledger.free_unseen(&suspects.blocks[1], 10), Some(Amount::one(5000)));
        let totals = ledger.totals();
        assert_eq!((totals.heap.live.bytes, totals.heap.freed.bytes), (16, 5000));
        assert_eq!(ledger.losses().collect::<Vec<_>>(), [(Loss::FreedUnseen, 1)]);
        assert_eq!(ledger.survivors(10, 0)[0].1.amount.bytes, 16);
    }

    #[test]
    fn what_happened_to_a_block_meanwhile_goes_before_what_the_heap_said() {
        let mut ledger = ledger(&[1, 2, 3]);
        let suspects = ledger.suspects(10);
        ledger.apply(&event(10, Action::Free { address: 1 }));
        ledger.apply(&event(11, Action::Free { address: 2 }));
        ledger.apply(&alloc(2, 9, 12));
        ledger.apply(&event(13, Action::ReallocBegin { old_address: 3 }));
        assert!(suspects.blocks.iter().all(|block| ledger.free_unseen(block, 14).is_none()));
        assert_eq!(ledger.totals().heap.live, Amount::new(12, 2));
    }
}
