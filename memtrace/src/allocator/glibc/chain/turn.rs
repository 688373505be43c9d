//! From window to window: what stays, what is read again, and where the chain goes on when it was
//! lost.

use super::super::{
    header::Header, recording::Recording, shape::ALIGNMENT_BYTES, tally::Tally,
    window::OVERLAP_BYTES,
};
use super::{
    Chain, Stretch,
    course::{Checkpoint, Course},
    resync::Seeker,
};
use crate::model::layout::PieceKind;

/// How often a window is copied again before its state is taken for what it is.
const MOST_RETRIES: u32 = 4;

impl<'t> Chain<'t, '_> {
    /// The next window; what was found up to here stays. `false` when the last chunks do not lead
    /// here any more.
    pub(super) fn turn_page(&mut self, course: &mut Course<'_>) -> bool {
        if course.at != course.checkpoint.at {
            self.commit(course);
        }
        let anchor = course.recent.first_from(course.at.saturating_sub(OVERLAP_BYTES));
        let range = anchor.map_or((course.at, course.at), |anchor| (anchor, course.found()));
        self.window.load_around(&mut self.book.pages, range, course.reach());
        match (anchor, course.pending) {
            (Some(anchor), _) => self.leads_to(course, anchor),
            (None, Some(large)) => self.is_still(large.start, large.end - large.start),
            (None, None) => true,
        }
    }

    /// Whether the chunks from here on lead to where the walk is, in this window.
    fn leads_to(&self, course: &Course<'_>, from: u64) -> bool {
        let mut at = from;
        while at < course.at {
            let Some(end) = self.window.header(at).end(at, course.segment) else { return false };
            at = end;
        }
        at == course.at
    }

    /// Whether a chunk outside of the window has this size.
    fn is_still(&self, start: u64, bytes: u64) -> bool {
        let header = self.surveyor.memory.words(start);
        header.is_some_and(|[footer, size]| Header { footer, size }.bytes() == bytes)
    }

    pub(super) fn commit(&mut self, course: &mut Course<'_>) {
        self.record(course, course.found());
        self.advance(course);
    }

    /// What was found up to here stays.
    fn advance(&mut self, course: &mut Course<'_>) {
        for chunk in self.seen.drain(..) {
            self.observer.chunk(chunk);
        }
        self.draw();
        self.recording.iter_mut().for_each(Recording::keep);
        course.mark(self.candidates.count());
    }

    /// Remembers what was walked since the checkpoint, up to `end`.
    fn record(&mut self, course: &Course<'_>, end: u64) {
        let Checkpoint { at, pending, tally, .. } = course.checkpoint;
        let start = pending.map_or(at, |pending| pending.start);
        let held = |tally: &Tally| tally.in_use.bytes + tally.fastbins.bytes;
        let is_whole = course.tally.gap_bytes == tally.gap_bytes;
        if start < end && is_whole {
            let in_use_bytes = held(&course.tally) - held(&tally);
            let retried = course.retries > 0;
            let anchors =
                course.checkpoint.recent.anchors(start.saturating_sub(OVERLAP_BYTES), start);
            self.stretches.push(Stretch { start, end, in_use_bytes, retried, anchors });
        }
    }

    /// Sets everything back to the checkpoint, unless that was done often enough.
    pub(super) fn retry(&mut self, course: &mut Course<'_>) -> bool {
        if course.retries >= MOST_RETRIES || course.patience.retries == 0 {
            return false;
        }
        course.retries += 1;
        course.patience.retries -= 1;
        self.retries += 1;
        course.rewind();
        self.candidates.truncate(course.checkpoint.candidates);
        self.seen.clear();
        self.book.take_back();
        self.recording.iter_mut().for_each(Recording::take_back);
        self.book.pages.forget();
        self.window.clear();
        self.surveyor.memory.forget();
        self.surveyor.refresh(course.arena, course.segment);
        true
    }

    /// Where no chunk starts: the chunk that led here may be none itself, or is not any more.
    pub(super) fn nonsense(&mut self, course: &mut Course<'_>) -> bool {
        if self.catch_up(course) {
            return course.at < course.segment.end;
        }
        if self.retry(course) {
            return true;
        }
        self.resyncs += 1;
        let last = course.pending.take();
        let from = last.map_or(course.at, |last| last.start);
        let search = course.search_from(last);
        let found = self.seeker(course).find(search).unwrap_or(course.limit());
        self.record(course, from);
        course.tally.skipped(&mut self.book, from, found);
        self.piece(PieceKind::Unknown, found);
        course.resume(found);
        self.advance(course);
        course.at < course.segment.end
    }

    /// Begins where a chunk starts now, if none does where one did.
    pub(super) fn find_start(&mut self, course: &mut Course<'_>) {
        if self.take_up(course) {
            return;
        }
        let from = course.at;
        let mut seeker = self.seeker(course);
        if !seeker.leads_on(from) {
            let found = seeker.find(from + ALIGNMENT_BYTES).unwrap_or(course.limit());
            course.tally.skipped(&mut self.book, from, found);
            course.resume(found);
        }
    }

    pub(super) fn seeker<'s>(&'s mut self, course: &'s mut Course<'_>) -> Seeker<'s, 't> {
        let limit = course.limit();
        Seeker {
            limit,
            window: &mut self.window,
            pages: &mut self.book.pages,
            memory: self.surveyor.memory,
            segment: course.segment,
            patience: &mut course.patience,
        }
    }
}
