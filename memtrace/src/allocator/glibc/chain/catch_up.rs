//! Back to the chain from chunks before the place where it was lost. The heap has gone on there
//! since they were read: a chunk was merged with others, or cut. Most chunks before still start
//! where they did, and their headers, as they are now, lead to where the chain is now. A place of
//! which nothing is known but that headers lead on from it may hold what a chunk has left behind.

use super::{
    super::{tally::ChunkKind, window::OVERLAP_BYTES},
    Chain,
    course::Course,
    recent::Anchors,
    resync::DOUBTFUL_BYTES,
};

/// Where the chain comes to, at or behind a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The first chunk that is not before it, and whether the one before that is in use.
    Chunk { at: u64, is_in_use: bool },
    /// `top`, which is before it.
    Top,
}

impl Arrival {
    /// Whether not much is lost if the one chunk that leads there is what another has left behind.
    fn is_near(self, place: u64) -> bool {
        matches!(self, Self::Chunk { at, .. } if at - place < DOUBTFUL_BYTES)
    }
}

impl Chain<'_, '_> {
    /// Takes up the chain behind what was found for sure; `false` when the chunks before do not
    /// agree on where it is.
    pub(super) fn catch_up(&mut self, course: &mut Course<'_>) -> bool {
        if course.patience.retries == 0 {
            return false;
        }
        course.patience.retries -= 1;
        course.retries += 1;
        self.retries += 1;
        self.book.pages.forget();
        self.surveyor.refresh(course.arena, course.segment);
        self.take_up(course)
    }

    /// The same where nothing is known to have changed.
    pub(super) fn take_up(&mut self, course: &mut Course<'_>) -> bool {
        let from = course.found();
        let anchors = course.recent.anchors(from.saturating_sub(OVERLAP_BYTES), from);
        if anchors[0] == 0 {
            return false;
        }
        self.window.load_around(&mut self.book.pages, (anchors[0], from), course.reach());
        let Some(arrival) = self.arrival(course, anchors, from) else { return false };
        course.pending = None;
        match arrival {
            Arrival::Top => self.top(course, from),
            Arrival::Chunk { at, is_in_use } => {
                self.rest(course, from, at.min(course.until), is_in_use);
                course.at = at;
            }
        }
        true
    }

    /// Where a chunk leads to as it did before, or where two lead to, or one if that is near.
    fn arrival(&mut self, course: &mut Course<'_>, anchors: Anchors, from: u64) -> Option<Arrival> {
        let mut seeker = self.seeker(course);
        let mut others = Vec::new();
        let anchors = anchors.into_iter().filter(|anchor| *anchor != 0);
        for arrival in anchors.filter_map(|anchor| seeker.arrival(anchor, from)) {
            let is_known = matches!(arrival, Arrival::Chunk { at, .. } if at == from);
            if is_known || others.contains(&arrival) {
                return Some(arrival);
            }
            others.push(arrival);
        }
        others.first().copied().filter(|arrival| arrival.is_near(from))
    }

    /// What is left of a chunk that has come to reach over a place up to which all is added.
    fn rest(&mut self, course: &mut Course<'_>, from: u64, end: u64, is_in_use: bool) {
        if from < end {
            let kind = if is_in_use { ChunkKind::InUse } else { ChunkKind::Free };
            course.tally.chunk(&mut self.book, kind, from, end);
            self.piece(kind.into(), end);
        }
    }
}
