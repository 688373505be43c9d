//! Blocks that may have been freed while nobody looked.

use super::{
    super::contents::{Contents, LARGEST_BYTES, MOST_BLOCKS},
    Window,
};
use crate::{
    allocator::{self, AllocatorId},
    capture::KeptEvent,
    ledger::{LiveBlock, Suspects},
    model::{
        AllocFn,
        chunk_sizes::may_be_mapped,
        event::{Action, Event},
        room::Room,
        site::Amount,
    },
    probe::target::PlannedObject,
    session::walker,
    sys::clock,
};

impl Window {
    /// What a walk of the heap is to look for while the window is open: the more often it is asked for,
    /// the less memory that came and went is taken for memory that stays.
    pub(super) fn doubtful(&self) -> Option<Suspects> {
        let missed_until_ns = match self.governing.misses_releases() {
            true => u64::MAX,
            false => 0,
        };
        let has_missed = self.governing.cost().misses_releases;
        has_missed.then(|| self.ledger.doubtful(walker::MOST_BLOCKS, missed_until_ns))
    }

    /// Whether all is seen now, and will not be soon.
    pub(in crate::session) fn is_in_burst(&self) -> bool {
        self.growth.is_none() && self.governing.is_in_burst()
    }

    /// To be called as long as all is seen, with all that was seen booked: what counts as live is live
    /// then, so that what is written to it later tells whether it still is.
    pub(in crate::session) fn look_at_contents(&mut self) {
        let now_ns = clock::monotonic_ns();
        let blocks = self.ledger.of_sizes(64..=LARGEST_BYTES, MOST_BLOCKS);
        let Some(contents) = self.contents() else { return };
        let written = contents.look(&blocks, now_ns);
        let watch_ns = self.governing.mean_phase_ns();
        let ledger = &self.ledger;
        let is_odd = |block: &LiveBlock| ledger.would_be_odd(block, now_ns, watch_ns);
        let freed: Vec<LiveBlock> = written.into_iter().filter(is_odd).collect();
        self.book_freed(&freed, now_ns);
    }

    /// Of the program that runs now.
    fn contents(&mut self) -> Option<&mut Contents> {
        let image = self.ledger.totals().execs;
        if self.contents.as_ref().is_none_or(|(of, _)| *of != image) {
            let contents = Contents::open(&self.proc, self.process.pid).ok()?;
            self.contents = Some((image, contents));
        }
        self.contents.as_mut().map(|(_, contents)| contents)
    }

    /// The probes of mappings are always there: what they tell of a block whose free was missed.
    pub(super) fn release_mapped_block(&mut self, event: &Event) {
        let block = allocator::released_with(event).and_then(|block| self.ledger.block_at(block));
        if let Some(block) = block {
            self.book_freed(&[block], event.time_ns);
        }
    }

    /// Books what was found to be free, also in the capture; how much of it still counted as live.
    pub(super) fn book_freed(&mut self, freed: &[LiveBlock], time_ns: u64) -> Amount {
        let mut sum = Amount::default();
        for block in freed {
            if let Some(amount) = self.ledger.free_unseen(block, time_ns) {
                sum += amount;
                self.record_unseen(block, time_ns);
            }
        }
        sum
    }

    /// Books blocks as freed whose addresses others use by now, as far as can be told; when the heap has
    /// been asked. How much that was.
    pub(super) fn book_probably_freed(&mut self, closed_ns: u64) -> Amount {
        if !self.governing.cost().misses_releases {
            return Amount::default();
        }
        let mut blocks = self.ledger.probably_freed(closed_ns, self.governing.pace_while_watched());
        // The probes of mappings were always there.
        blocks.retain(|it| !may_be_mapped(it.address.get(), it.size_bytes));
        self.book_freed(&blocks, closed_ns)
    }

    /// Books blocks as freed for which the heap has no room, going by its last walk; when those that were
    /// probably freed are booked. `factor` is how many blocks one stands for, because only a part of the
    /// time was watched. How much that was, and how many each of the others stands for.
    pub(super) fn book_crowded_out(&mut self, closed_ns: u64, factor: f64) -> (Amount, Room) {
        let is_glibcs = |it: &PlannedObject| {
            matches!(it.plan.allocator, AllocatorId::Glibc | AllocatorId::Pymalloc)
        };
        if !self.governing.cost().misses_releases || !self.objects.iter().all(is_glibcs) {
            return Default::default();
        }
        let Some(mut chunks) = self.walks.chunks() else { return Default::default() };
        if self.sees_blocks_of_python() {
            // What the heap has grown by can be theirs.
            chunks.before = None;
        }
        let is_there = |it: &LiveBlock| !may_be_mapped(it.address.get(), it.size_bytes);
        let (blocks, room) = self.ledger.crowded_out(&chunks, factor, is_there);
        (self.book_freed(&blocks, closed_ns), room)
    }

    fn sees_blocks_of_python(&self) -> bool {
        let mut probes = self.objects.iter().flat_map(|object| &object.plan.probes);
        probes.any(|probe| probe.function.is_python())
    }

    fn record_unseen(&mut self, block: &LiveBlock, time_ns: u64) {
        let process = self.number();
        let Some(recorder) = &mut self.recorder else { return };
        let event =
            Event::of(AllocFn::Free, 0, time_ns, Action::Free { address: block.address.get() });
        recorder.event(KeptEvent { event, is_arena: false, is_unseen: true, process });
    }
}
