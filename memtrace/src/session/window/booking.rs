//! From the ring into the books: each record, and each stack that is new.

use std::sync::Arc;

use super::Window;
use crate::{
    capture::{self, KeptEvent},
    decode::decode,
    model::{
        event::{Action, Event},
        stack::{Frame, RawStack, StackId},
    },
    probe::ring::Ring,
    symbolize::Observed,
    sys::clock,
};

/// Most stacks that wait for the next look; each is sent by the kernel side only once.
const MAX_PUZZLING: usize = 1024;

/// A stack through code that is not known.
pub(super) struct Puzzling {
    id: StackId,
    stack: RawStack,
    /// Names of its Python frames, as they were when it arrived.
    python: Vec<Option<Arc<Frame>>>,
}

impl Window {
    /// Books up to `limit` waiting records.
    pub(in crate::session) fn drain(&mut self, ring: &mut Ring, limit: usize) -> usize {
        if let Some(log) = &mut self.kernel_log {
            log.flush();
        }
        let drained = ring.drain(limit, |record| self.book(record));
        self.solve_puzzles();
        if drained > 0 && !self.trampoline_known && self.growth.is_none() {
            self.find_trampoline();
        }
        self.look_at_starting_program();
        if std::mem::take(&mut self.code_changed) {
            self.read_mappings();
            log::info!("the target loaded code, which is known now");
        } else if self.python.is_due(clock::monotonic_ns()) {
            self.look_for_python_again();
        }
        drained
    }

    /// Books what has happened until now. It comes to an end where records come as fast as they are
    /// booked.
    pub(super) fn drain_present(&mut self, ring: &mut Ring) {
        const BATCH: usize = 1024;
        let now_ns = clock::monotonic_ns();
        while self.drain(ring, BATCH) == BATCH && self.newest_ns < now_ns {}
    }

    fn book(&mut self, record: &[u8]) {
        let Ok(mut event) = decode(record) else {
            self.undecodable += 1;
            return;
        };
        self.newest_ns = self.newest_ns.max(event.time_ns);
        self.salt(&mut event);
        match &event.action {
            Action::Stack { id, stack } => self.observe(*id, stack, event.time_ns),
            Action::Exec => {
                self.book_memory(event.clone());
                self.follow_exec(&event);
            }
            Action::CodeChange => self.code_changed = true,
            Action::Child { pid, shares_memory } => {
                self.see_child(*pid, *shares_memory, event.time_ns);
            }
            _ => self.book_memory(event),
        }
    }

    fn book_memory(&mut self, event: Event) {
        if self.growth.is_some() {
            return self.book_growth(event);
        }
        let is_arena = self.arena_calls.is_arena(&event);
        let event = if is_arena { event } else { self.late_heaps.attribute(event) };
        if let Some(inherited) = &mut self.inherited {
            inherited.see(&event);
        }
        if self.governing.cost().misses_releases {
            self.release_mapped_block(&event);
        }
        let process = self.number();
        self.keep(KeptEvent { event, is_arena, is_unseen: false, process });
    }

    pub(super) fn keep(&mut self, kept: KeptEvent) {
        capture::apply(&mut self.ledger, &kept);
        if let Some(recorder) = &mut self.recorder {
            recorder.event(kept);
        }
    }

    /// Resolves a new stack while the target is there to be asked where its code came from.
    fn observe(&mut self, id: StackId, stack: &RawStack, taken_ns: u64) {
        self.arena_calls.observe(id, stack);
        self.late_heaps.observe(id, stack);
        let python = self.python.name(stack, taken_ns);
        if let Some(recorder) = &mut self.recorder {
            recorder.stack(id, stack, &python);
        }
        match self.code.observe(id, stack, &python) {
            Observed::UnknownMapping if self.puzzling.len() < MAX_PUZZLING => {
                self.puzzling.push(Puzzling { id, stack: stack.clone(), python });
            }
            Observed::TableFull => self.unkept_stacks += 1,
            Observed::UnknownMapping | Observed::Kept => {}
        }
    }

    /// Looks for the code that was not known, now or when the time for a look has come.
    pub(super) fn solve_puzzles(&mut self) {
        if self.puzzling.is_empty() || !self.refresh_mappings() {
            return;
        }
        for Puzzling { id, stack, python } in std::mem::take(&mut self.puzzling) {
            self.code.observe(id, &stack, &python);
        }
    }
}
