//! From chunk to chunk through a segment of a heap that nobody holds still.
//!
//! A chunk is in use when the one after it says so (`PREV_INUSE`). Memory is copied window by
//! window. When a header makes no sense, it was probably read while it changed: the chain is taken up
//! from chunks before, by their headers as they are now. When these do not agree, the sums are set
//! back to where they were at the start of the window, and it is copied again. When that does not
//! help, the walk goes on at the next address from which headers lead on.
//!
//! Between two windows the heap may have changed so that no chunk starts any more where the next
//! one should: each window begins with the last chunks of the one before, which must still lead
//! there. A word that is taken for a size can lead anywhere.

mod catch_up;
mod course;
mod recent;
mod resync;
mod turn;

use self::{
    course::{Course, Pending},
    recent::{Anchors, Recent},
};
use super::{
    book::Book,
    drawing::Drawing,
    header::{FENCE_BYTES, Header, Meaning},
    inquiry::{Chunk, Observer},
    recording::Recording,
    segment::{Segment, Surveyor},
    shape::{ALIGNMENT_BYTES, CHUNK_HEADER_BYTES, align_down},
    tally::{ChunkKind, Tally},
    target::Pages,
    tcache::Candidates,
    window::Window,
};
use crate::model::{arena_map::ArenaMap, layout::PieceKind};

/// Goes through segments, and adds up.
pub struct Chain<'t, 'o> {
    surveyor: &'t Surveyor<'t>,
    book: Book<'t>,
    window: Window<'t>,
    observer: &'o mut dyn Observer,
    /// Chunks since the last checkpoint, for the observer.
    seen: Vec<Chunk>,
    candidates: Candidates,
    drawing: Option<Drawing>,
    /// Writes down every piece.
    pub recording: Option<Recording>,
    /// What was walked, piece by piece; see [`Chain::walk_again`].
    pub stretches: Vec<Stretch>,
    /// Windows that were read again.
    pub retries: u64,
    /// Places where the chain was lost and found again.
    pub resyncs: u64,
}

/// Chunks next to each other that were read at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The first chunk.
    pub start: u64,
    /// Where the last one ends.
    pub end: u64,
    /// Chunks in use, in tcaches and in fastbins.
    pub in_use_bytes: u64,
    /// It was read again because it changed.
    pub retried: bool,
    /// Chunks before it.
    pub anchors: Anchors,
}

impl<'t, 'o> Chain<'t, 'o> {
    /// Nothing walked yet; `candidates` are those of arenas before.
    pub fn new(
        surveyor: &'t Surveyor<'t>,
        observer: &'o mut dyn Observer,
        candidates: Candidates,
    ) -> Self {
        Self {
            surveyor,
            book: Book::without_notes(Pages::new(&surveyor.target)),
            window: Window::new(surveyor.target.memory),
            observer,
            seen: Vec::new(),
            candidates,
            drawing: None,
            recording: None,
            stretches: Vec::new(),
            retries: 0,
            resyncs: 0,
        }
    }

    /// The same, and draws a picture.
    pub fn drawing(
        surveyor: &'t Surveyor<'t>,
        observer: &'o mut dyn Observer,
        candidates: Candidates,
    ) -> Self {
        let drawing = Some(Drawing::new(surveyor.target.page_bytes));
        let book = Book::new(Pages::new(&surveyor.target));
        Self { book, drawing, ..Self::new(surveyor, observer, candidates) }
    }

    /// What may be tcaches, of all segments, and the picture of them.
    pub fn finish(self) -> (Candidates, ArenaMap) {
        (self.candidates, self.drawing.map(Drawing::finish).unwrap_or_default())
    }

    /// Draws what was noted; it stays.
    fn draw(&mut self) {
        if let Some(drawing) = &mut self.drawing {
            drawing.draw(self.book.read());
        }
    }

    #[inline]
    fn piece(&mut self, kind: PieceKind, end: u64) {
        if let Some(recording) = &mut self.recording {
            recording.piece(kind, end);
        }
    }

    /// Walks a segment of the arena at `arena`, whose sums so far are `tally`. `fastbins` are the
    /// chunks in the arena's fastbins, ascending. The segment's end is brought up to date.
    pub fn walk(
        &mut self,
        arena: u64,
        segment: &mut Segment,
        fastbins: &[u64],
        mut tally: Tally,
    ) -> Tally {
        let page = align_down(segment.start, self.book.page_bytes());
        self.drawing.iter_mut().for_each(|drawing| drawing.begin(page));
        tally.before_segment(&mut self.book, segment.start);
        tally.metadata(&mut self.book, segment.start, segment.first);
        self.recording.iter_mut().for_each(|it| it.begin(segment.start, segment.first));
        let range = (segment.first, u64::MAX);
        let candidates = self.candidates.count();
        let mut course = Course::new(arena, segment, fastbins, tally, range, candidates);
        self.window.clear();
        while self.step(&mut course) {}
        self.commit(&mut course);
        course.tally.finish_segment(&mut self.book);
        let Course { tally, segment, .. } = course;
        let end = segment.end;
        self.draw();
        self.drawing.iter_mut().for_each(|drawing| drawing.end(end));
        self.recording.iter_mut().for_each(|recording| recording.end(end));
        tally
    }

    /// Walks a stretch of a segment again: bytes in use now (as in [`Stretch`]), and bytes that
    /// were not understood.
    pub fn walk_again(&mut self, arena: u64, mut segment: Segment, stretch: Stretch) -> (u64, u64) {
        self.book.pages.forget();
        self.window.clear();
        let range = (stretch.start, stretch.end);
        let mut course = Course::new(arena, &mut segment, &[], Tally::default(), range, 0);
        course.recent = Recent::of(stretch.anchors);
        self.find_start(&mut course);
        let is_there = course.at < course.limit();
        while is_there && self.step(&mut course) {}
        let in_use = course.tally.in_use.bytes.saturating_sub(course.overshoot);
        (in_use, course.tally.skipped_bytes + course.tally.swapped_bytes)
    }

    /// One chunk on; `false` at the end.
    fn step(&mut self, course: &mut Course<'_>) -> bool {
        if course.at >= course.segment.end {
            return self.at_end(course);
        }
        if !self.window.holds(course.at) && !self.turn_page(course) {
            return self.nonsense(course);
        }
        let header = self.window.header(course.at);
        if course.at >= course.until {
            return self.stop(course, header);
        }
        match header.meaning(course.at, course.segment, course.previous_bytes()) {
            Meaning::Chunk(end) => {
                self.settle(course, header.previous_in_use());
                self.begin(course, end);
                true
            }
            Meaning::Top => {
                self.settle(course, header.previous_in_use());
                self.top(course, course.at);
                false
            }
            Meaning::Fence => self.fence(course, header),
            Meaning::Nonsense => self.nonsense(course),
        }
    }

    /// Where the stretch is over, and the walk too; whatever is at that place now.
    fn stop(&mut self, course: &mut Course<'_>, header: Header) -> bool {
        if header.previous_in_use() && course.pending.is_some() {
            course.overshoot = course.at - course.until;
        }
        self.settle(course, header.previous_in_use());
        false
    }

    /// Adds the chunk before, now that it is known what it is.
    fn settle(&mut self, course: &mut Course<'_>, in_use: bool) {
        let Some(Pending { start, end, key }) = course.pending.take() else { return };
        let kind = match in_use {
            false => ChunkKind::Free,
            true if course.is_fast(start) => ChunkKind::Fast,
            true => ChunkKind::InUse,
        };
        course.tally.chunk(&mut self.book, kind, start, end);
        self.piece(kind.into(), end);
        if kind == ChunkKind::InUse {
            self.candidates.consider(&self.window, start, end - start);
        }
        if self.observer.is_interested() {
            self.seen.push(Chunk { start, end, in_use: kind == ChunkKind::InUse, key });
        }
    }

    fn begin(&mut self, course: &mut Course<'_>, end: u64) {
        let start = course.at;
        let key = self.window.word(start + CHUNK_HEADER_BYTES + 8);
        course.pending = Some(Pending { start, end, key });
        course.recent.push(start);
        course.at = end;
    }

    /// The end of a segment: it is that of `top`, or of a chunk that has become `top` meanwhile.
    fn at_end(&mut self, course: &mut Course<'_>) -> bool {
        if course.segment.top.is_some() && self.retry(course) {
            return true;
        }
        let last = course.pending.take();
        match (last, course.segment.top) {
            (Some(last), Some(_)) => self.top(course, last.start),
            (Some(last), None) => {
                course.tally.skipped(&mut self.book, last.start, last.end);
                self.piece(PieceKind::Unknown, last.end);
            }
            (None, _) => {}
        }
        false
    }

    fn top(&mut self, course: &mut Course<'_>, start: u64) {
        // A segment that shrinks while it is walked can end before the chunk that was read last.
        let (end, trim) = (course.segment.end.max(start), course.segment.top_trim);
        course.tally.top(&mut self.book, start, end, trim);
        self.piece(PieceKind::Top, end);
        course.at = end;
        if self.observer.is_interested() {
            self.seen.push(Chunk { start, end, in_use: false, key: 0 });
        }
    }

    /// Behind a pair of fence posts the segment ends, or somebody else has called `sbrk`.
    fn fence(&mut self, course: &mut Course<'_>, header: Header) -> bool {
        self.settle(course, header.previous_in_use());
        let (at, end) = (course.at, course.segment.end.max(course.at));
        let rest = end - at;
        let fence_end = if rest <= FENCE_BYTES { end } else { at + 2 * ALIGNMENT_BYTES };
        course.tally.metadata(&mut self.book, at, fence_end);
        self.piece(PieceKind::Metadata, fence_end);
        course.at = fence_end;
        if fence_end < end {
            let found = self.seeker(course).next(fence_end).unwrap_or(end);
            course.tally.gap(&mut self.book, fence_end, found);
            self.piece(PieceKind::Unknown, found);
            course.resume(found);
        }
        course.at < end
    }
}
