//! The target's memory beside the records: samples of it, and walks of the heap.

use super::{
    super::{
        Sample,
        walker::{MOST_BLOCKS, NoWalk, Request, Walk},
    },
    Window,
};
use crate::{
    capture::{KeptEvent, Layouts},
    model::{
        AllocFn,
        event::{Action, Event},
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
        // Pages are no blocks of the heap.
        let has_blocks = is_last && self.growth.is_none();
        let suspects = has_blocks.then(|| self.ledger.suspects(MOST_BLOCKS));
        let layout = self.growth.is_none() && (is_last || self.walks.lacks_first());
        Request { image: self.ledger.totals().execs, suspects, layout }
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
                return self.walks.add(*walk);
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

    /// Books what the last walk found to be free, also in the capture.
    pub(super) fn finish_walks(&mut self, closed_ns: u64) -> (report::Walks, Layouts) {
        let process = self.number();
        let recorder = &mut self.recorder;
        let walks = std::mem::take(&mut self.walks);
        walks.finish(&mut self.ledger, |block| {
            let action = Action::Free { address: block.address.get() };
            let function = AllocFn::Free;
            let event = Event {
                function,
                tid: 0,
                time_ns: closed_ns,
                internal: false,
                interval: Default::default(),
                object: Default::default(),
                action,
            };
            if let Some(recorder) = recorder {
                recorder.event(KeptEvent { event, is_arena: false, is_unseen: true, process });
            }
        })
    }

    /// The last walk took too long, or whoever waits for it did not want to.
    pub(in crate::session) fn miss_last_walk(&mut self) {
        let note = "the walk of the heap at the end was not waited for: what it is like then is \
                    not known, and survivors were not looked for in it";
        self.walks.note(note.to_owned());
    }
}
