//! Which resident memory is what, range by range, in the order of addresses: what pictures of an
//! arena are made of. What was noted since the last checkpoint can be taken back.

use super::target::{Pages, Presence};
use crate::model::memory::PageState;

/// What a range is for the time being.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeKind {
    /// In chunks that are handed out, or in tcaches.
    InUse,
    /// In a chunk in a bin: the end of its run tells whether it can be given back.
    Free,
    /// In a chunk in a fastbin: as for `Free`.
    Fast,
    /// In `top`.
    Top,
    /// The allocator's own, somebody else's, or not understood.
    Other,
}

/// A note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A range that is resident as a whole.
    Range { kind: RangeKind, start: u64, end: u64 },
    /// A run of chunks that are free or in fastbins is over: of its ranges since the last run,
    /// those between these addresses can be given back.
    RunEnd { from: u64, until: u64 },
}

/// Tells which pages are there, and takes notes.
pub struct Book<'t> {
    /// Which pages are there.
    pub pages: Pages<'t>,
    notes: Vec<Note>,
    is_kept: bool,
}

impl<'t> Book<'t> {
    /// An empty one.
    pub fn new(pages: Pages<'t>) -> Self {
        Self { pages, notes: Vec::new(), is_kept: true }
    }

    /// One that takes no notes.
    pub fn without_notes(pages: Pages<'t>) -> Self {
        Self { is_kept: false, ..Self::new(pages) }
    }

    /// Size of a page.
    pub fn page_bytes(&self) -> u64 {
        self.pages.page_bytes()
    }

    /// How much of a range is there, noted as this.
    pub fn presence(&mut self, kind: RangeKind, start: u64, end: u64) -> Presence {
        if !self.is_kept || start >= end {
            return self.pages.presence(start, end);
        }
        if self.pages.is_in_current(start, end) {
            self.note(kind, start, end);
            return Presence { resident_bytes: end - start, swapped_bytes: 0 };
        }
        let mut resident = Vec::new();
        let mut sum = Presence::default();
        self.pages.for_each_run(start, end, |run| match run.state {
            PageState::Resident => resident.push((run.start, run.end)),
            PageState::Swapped => sum.swapped_bytes += run.end - run.start,
            PageState::Zero => {}
        });
        for (start, end) in resident {
            sum.resident_bytes += end - start;
            self.note(kind, start, end);
        }
        sum
    }

    fn note(&mut self, kind: RangeKind, start: u64, end: u64) {
        match self.notes.last_mut() {
            Some(Note::Range { kind: last, end: last_end, .. })
                if *last == kind && *last_end == start =>
            {
                *last_end = end;
            }
            _ => self.notes.push(Note::Range { kind, start, end }),
        }
    }

    /// A run is over.
    pub fn end_run(&mut self, from: u64, until: u64) {
        if self.is_kept {
            self.notes.push(Note::RunEnd { from, until });
        }
    }

    /// Takes back what was noted since notes were read.
    pub fn take_back(&mut self) {
        self.notes.clear();
    }

    /// Reads the notes.
    pub fn read(&mut self) -> impl Iterator<Item = Note> {
        self.notes.drain(..)
    }
}
