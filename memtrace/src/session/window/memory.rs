//! The target's memory beside the records: samples of it, and walks of the heap.

use super::{
    super::{
        Sample,
        walker::{MOST_BLOCKS, NoWalk, Request, Walk},
    },
    Window,
};
use crate::{
    capture::Layouts,
    model::{
        coverage::{Coverage, Family},
        room::Room,
    },
    report,
    sys::clock,
};

impl Window {
    /// How the trace goes.
    pub(in crate::session) fn sample(&mut self) -> Sample {
        self.memory.look_at_group();
        let totals = self.ledger.totals();
        let ring_full: u64 =
            self.kernel.counters().map(|counters| counters.ring_full.iter().sum()).unwrap_or(0);
        Sample {
            elapsed_ns: clock::monotonic_ns().saturating_sub(self.opened_ns),
            events: totals.events,
            lost: ring_full + self.undecodable,
            live_bytes: totals.heap.live.bytes,
            rss_bytes: self.memory.rss_bytes(),
        }
    }

    /// Adds a sample to the timeline.
    pub(in crate::session) fn sample_memory(&mut self) {
        let sample = self.memory.sample(self.live_bytes());
        if let (Some(recorder), Some(sample)) = (&mut self.recorder, sample) {
            recorder.sample(sample);
        }
    }

    /// What was allocated or mapped in the window and is still there.
    pub(super) fn live_bytes(&self) -> u64 {
        let totals = self.ledger.totals();
        if self.growth.is_some() {
            // Pages in use are what RSS is set against.
            return totals.heap.live.bytes;
        }
        totals.heap.live.bytes.saturating_add(totals.mappings.live.bytes)
    }

    /// What the next walk of the heap is to look for.
    pub(in crate::session) fn walk_request(&self, is_last: bool) -> Request {
        let image = self.ledger.totals().execs;
        // Pages are no blocks of the heap.
        if self.growth.is_some() {
            return Request { image, is_last, suspects: None, layout: false };
        }
        let suspects = match is_last {
            true => Some(self.ledger.suspects(MOST_BLOCKS)),
            false => self.doubtful(),
        };
        let layout = is_last || self.walks.lacks_first();
        Request { image, is_last, suspects, layout }
    }

    /// Takes a walk, unless it is of a program that the target does not run any more. `false` when
    /// another one is wanted at once.
    pub(in crate::session) fn take_walk(
        &mut self,
        walked: Option<Result<Box<Walk>, NoWalk>>,
    ) -> bool {
        let image = self.ledger.totals().execs;
        match walked {
            Some(Ok(walk)) if !self.is_same_process(&walk) => {}
            Some(Ok(walk)) if walk.image == image => {
                self.memory.add_walk(&walk.census);
                return self.add_walk(*walk);
            }
            Some(Err(miss)) if miss.image == image => self.walks.miss(&miss),
            Some(_) => {}
            None => self.walks.note("the heap was not walked: its walker has ended".to_owned()),
        }
        true
    }

    fn is_same_process(&self, walk: &Walk) -> bool {
        walk.start_time_ticks == self.process.start_time_ticks
    }

    /// The last walk's findings wait for the records of what happened meanwhile.
    fn add_walk(&mut self, mut walk: Walk) -> bool {
        if !walk.is_last
            && let Some(blocks) = &mut walk.blocks
        {
            let now_ns = clock::monotonic_ns();
            if self.governing.misses_releases() {
                self.ledger.releases_were_unseen_until(now_ns);
            }
            let freed = self.book_freed(&std::mem::take(&mut blocks.freed), now_ns);
            self.walks.count_freed(freed);
        }
        self.walks.add(walk)
    }

    /// What the walks found, and how many live blocks one stands for by that.
    pub(super) fn finish_walks(
        &mut self,
        closed_ns: u64,
        coverage: &Coverage,
    ) -> (report::Walks, Layouts, Room) {
        let freed = self.walks.take_freed();
        let live = self.ledger.totals().heap;
        let freed = self.book_freed(&freed, closed_ns);
        self.walks.count_freed(freed);
        let mut guessed = self.book_probably_freed(closed_ns);
        let (given_up, room) = self.book_crowded_out(closed_ns, coverage.factor_of(Family::Heap));
        guessed += given_up;
        let live = if guessed.count > 0 { self.ledger.totals().heap } else { live };
        let (walks, layouts) = std::mem::take(&mut self.walks).finish(&live, guessed);
        (walks, layouts, room)
    }

    /// The last walk took too long, or whoever waits for it did not want to.
    pub(in crate::session) fn miss_last_walk(&mut self) {
        let note = "the walk of the heap at the end was not waited for: what it is like then is \
                    not known, and survivors were not looked for in it";
        self.walks.note(note.to_owned());
    }
}
