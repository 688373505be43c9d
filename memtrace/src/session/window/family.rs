//! A process among others: its number, what it got from its parent, and its children.

use super::Window;
use crate::{
    capture::{CapturedProcess, Header},
    ledger::HeapAtFork,
    model::{event::Event, stack::StackId},
};

/// What a process is among those that are traced together.
#[derive(Clone, Debug, Default)]
pub(in crate::session) struct Place {
    /// In the order of the attaches, from 0.
    pub(in crate::session) number: u8,
    /// The traced process that forked it.
    pub(in crate::session) parent: Option<u32>,
    /// When that was, where it was seen; `CLOCK_MONOTONIC`.
    pub(in crate::session) forked_ns: Option<u64>,
    /// What it got of its parent's memory, where that is known.
    pub(in crate::session) heap: Option<HeapAtFork>,
}

impl Place {
    /// What a capture says of it at first.
    pub(super) fn begun(&self, header: Header) -> CapturedProcess {
        let Self { number, parent, forked_ns, .. } = *self;
        CapturedProcess { number, parent, forked_ns, header, ..CapturedProcess::default() }
    }
}

/// A child that was forked.
#[derive(Clone, Debug)]
pub(in crate::session) struct SeenFork {
    pub(in crate::session) pid: u32,
    pub(in crate::session) parent: u32,
    /// `CLOCK_MONOTONIC`.
    pub(in crate::session) time_ns: u64,
    /// `None` where it has no copy of it.
    pub(in crate::session) heap: Option<HeapAtFork>,
}

/// Far apart for numbers that are near each other (2^64 divided by the golden ratio).
const SALT: u64 = 0x9e37_79b9_7f4a_7c15;

/// Equal addresses in two processes need not be the same code: their stacks have different ids.
pub(super) fn salted(id: StackId, number: u8) -> StackId {
    match StackId(id.0 ^ SALT.wrapping_mul(number.into())) {
        _ if id == StackId::NONE => id,
        StackId::NONE => id,
        salted => salted,
    }
}

impl Window {
    /// Its number among several.
    pub(in crate::session) fn number(&self) -> u8 {
        self.place.as_ref().map_or(0, |place| place.number)
    }

    /// Its process id.
    pub(in crate::session) fn pid(&self) -> u32 {
        self.process.pid
    }

    /// Children that were forked since this was asked last.
    pub(in crate::session) fn take_forks(&mut self) -> Vec<SeenFork> {
        std::mem::take(&mut self.forks)
    }

    /// Tells its stacks from those of others.
    pub(super) fn salt(&self, event: &mut Event) {
        let number = self.number();
        if number > 0
            && let Some(stack) = event.action.stack_mut()
        {
            *stack = salted(*stack, number);
        }
    }

    /// A child begins with what is live now.
    pub(super) fn see_child(&mut self, pid: u32, shares_memory: bool, time_ns: u64) {
        let heap = || HeapAtFork::of(&self.ledger, self.inherited.as_ref());
        let heap = (!shares_memory).then(heap);
        self.forks.push(SeenFork { pid, parent: self.process.pid, time_ns, heap });
    }

    /// It may share memory with others, which is looked at only where it is one of several.
    pub(super) fn look_at_pages(&mut self) {
        if self.place.is_some() {
            self.pages_before = self.proc.private_pages(self.process.pid).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_stacks_of_two_processes_are_told_apart_and_none_stays_none() {
        let id = StackId(0x1234);
        assert_eq!(salted(id, 0), id);
        let all: std::collections::BTreeSet<_> = (0..=255).map(|it| salted(id, it)).collect();
        assert_eq!(all.len(), 256);
        assert_eq!(salted(StackId::NONE, 3), StackId::NONE);
        assert_ne!(salted(StackId(SALT), 1), StackId::NONE);
    }
}
