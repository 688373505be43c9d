//! The budget of an open window.

use std::time::Duration;

use super::{super::governing::Place, Window};
use crate::{
    budget::Change,
    model::{cost::Cost, coverage::Coverage},
    sys::clock,
};

impl Window {
    /// In how long [`Self::keep_budget`] is due; `None` when it never is.
    pub(in crate::session) fn budget_is_due_in(&self) -> Option<Duration> {
        let due_ns = self.governing.due_ns()?;
        Some(Duration::from_nanos(due_ns.saturating_sub(clock::monotonic_ns())))
    }

    /// Arms and disarms as the budget allows.
    pub(in crate::session) fn keep_budget(&mut self) -> Option<Change> {
        let Self { kernel, objects, proc, process, .. } = self;
        let mut place = Place { kernel, objects, proc, pid: process.pid };
        let outcome = self.governing.step(&mut place);
        let now_ns = clock::monotonic_ns();
        if self.governing.is_back_since_last_step() {
            self.ledger.releases_are_seen_from(now_ns);
        }
        if self.governing.misses_releases() {
            self.ledger.releases_are_unseen_from(now_ns);
        }
        outcome.unwrap_or_else(|error| {
            let note = format!("from some moment on nothing was traced any more: {error}");
            self.notes.push(note);
            None
        })
    }

    /// To be called right after the window was closed.
    pub(super) fn close_budget(&mut self) {
        let Self { kernel, objects, proc, process, .. } = self;
        self.governing.closed(&Place { kernel, objects, proc, pid: process.pid });
    }

    /// What it cost, and when the probes were there; before they are removed.
    pub(super) fn finish_budget(&mut self, closed_ns: u64) -> (Cost, Coverage) {
        let Self { kernel, objects, proc, process, .. } = self;
        let place = Place { kernel, objects, proc, pid: process.pid };
        let result = self.governing.finish(&place, closed_ns);
        if self.governing.misses_releases() {
            self.ledger.releases_were_unseen_until(closed_ns);
        }
        result
    }
}
