//! A process that is being traced: its window, and what tells of it.

use std::{
    io,
    task::{Context, Poll, ready},
};

use tokio::{io::unix::AsyncFd, time::Instant};

use super::{
    attach::AttachError,
    run::{DRAIN_BATCH, readable},
    walker::{NoWalk, Walk, Walker},
    window::{Ending, Window},
};
use crate::{budget::Change, probe::ring::Ring, report::EndReason, sys::pidfd::PidFd};

/// Something that happened to one of the processes.
#[derive(Debug)]
pub(super) enum Occurrence {
    /// It ended.
    Exited,
    /// `None` when there will be no more.
    Walked(Option<Result<Box<Walk>, NoWalk>>),
    /// Records wait.
    Records,
}

/// See the module.
pub(super) struct Traced {
    pub(super) window: Window,
    ring: AsyncFd<Ring>,
    pidfd: AsyncFd<PidFd>,
    /// `None` when the heap is not walked, or not any more.
    walker: Option<Walker>,
    asked_last: bool,
    /// When its budget is to be looked at.
    pub(super) budget_at: Option<Instant>,
}

impl Traced {
    /// What waits for an opened window; to be called inside of the runtime.
    pub(super) fn new(
        (window, ring, pidfd): (Window, Ring, PidFd),
        walker: Option<Walker>,
    ) -> Result<Self, AttachError> {
        let ring = readable(ring).map_err(AttachError::Runtime)?;
        let pidfd = readable(pidfd).map_err(AttachError::Runtime)?;
        let budget_at = next_budget(&window);
        Ok(Self { window, ring, pidfd, walker, asked_last: false, budget_at })
    }

    /// Its end, or the end of a walk.
    pub(super) fn poll_change(&mut self, context: &mut Context<'_>) -> Poll<Occurrence> {
        if self.pidfd.poll_read_ready(context).is_ready() {
            return Poll::Ready(Occurrence::Exited);
        }
        match &mut self.walker {
            Some(walker) => walker.poll_walked(context).map(Occurrence::Walked),
            None => Poll::Pending,
        }
    }

    /// That records wait.
    pub(super) fn poll_records(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.ring.poll_read_ready_mut(context))?.clear_ready();
        Poll::Ready(Ok(()))
    }

    /// Books up to `limit` waiting records.
    pub(super) fn drain(&mut self, limit: usize) {
        self.window.drain(self.ring.get_mut(), limit);
    }

    /// Looks for growth that was missed.
    pub(super) fn look_for_unseen(&mut self) {
        self.window.look_for_unseen(self.ring.get_mut());
    }

    /// When its heap is to be walked next.
    pub(super) fn next_walk_at(&self) -> Option<Instant> {
        self.walker.as_ref().and_then(Walker::next_at)
    }

    /// Walks its heap if that is due.
    pub(super) fn walk_if_due(&mut self, now: Instant) {
        let is_due = self.next_walk_at().is_some_and(|at| at <= now);
        if let Some(walker) = self.walker.as_mut().filter(|_| is_due) {
            walker.walk(self.window.walk_request(false));
        }
    }

    /// Looks at its budget if that is due; what was changed to keep to it.
    pub(super) fn keep_budget(&mut self, now: Instant) -> Option<Change> {
        self.budget_at.filter(|at| *at <= now)?;
        if self.window.is_in_burst() {
            self.drain(DRAIN_BATCH);
            self.window.look_at_contents();
        }
        let change = self.window.keep_budget();
        self.budget_at = next_budget(&self.window);
        change
    }

    /// Takes the end of a walk.
    pub(super) fn take_walk(&mut self, walked: Option<Result<Box<Walk>, NoWalk>>) {
        if walked.is_none() {
            self.walker = None;
        }
        let is_of_use = self.window.take_walk(walked);
        if let Some(walker) = self.walker.as_mut().filter(|_| !is_of_use) {
            walker.walk(self.window.walk_request(false));
        }
    }

    /// Asks for the last walk as soon as none is under way; whether there is one to wait for.
    pub(super) fn walk_last(&mut self) -> bool {
        let Some(walker) = &mut self.walker else { return false };
        if walker.is_walking() {
            return true;
        }
        if self.asked_last {
            return false;
        }
        self.asked_last = walker.walk(self.window.walk_request(true));
        self.asked_last
    }

    /// The last walk is not waited for.
    pub(super) fn miss_last_walk(&mut self) {
        if self.walker.as_ref().is_some_and(Walker::is_walking) {
            self.window.miss_last_walk();
        }
    }

    /// Removes the probes.
    pub(super) fn close(self, reason: EndReason) -> Ending {
        self.window.close(self.ring.into_inner(), reason)
    }
}

fn next_budget(window: &Window) -> Option<Instant> {
    window.budget_is_due_in().map(|wait| Instant::now() + wait)
}
