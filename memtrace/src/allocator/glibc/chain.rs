//! From chunk to chunk through a segment of a heap that nobody holds still.
//!
//! A chunk is in use when the one after it says so (`PREV_INUSE`). Memory is copied window by
//! window. When a header makes no sense, it was probably read while it changed: the sums are set
//! back to where they were at the start of the window, and it is copied again. When that does not
//! help, the walk goes on at the next address from which headers lead on.

use super::{
    inquiry::{Chunk, Observer},
    segment::{Segment, Surveyor},
    shape::{
        ALIGNMENT_BYTES, CHUNK_HEADER_BYTES, FLAGS, IS_MAPPED, PREVIOUS_IN_USE,
        SMALLEST_CHUNK_BYTES, align_up,
    },
    tally::{ChunkKind, Tally},
    target::Pages,
    tcache::Candidates,
    window::Window,
};

/// How often a window is copied again before its state is taken for what it is.
const MOST_RETRIES: u32 = 4;
/// How often in a segment, for each MiB of it and besides.
const RETRIES_PER_MIB: u64 = 8;
/// Headers that must follow each other where the walk takes up the chain again.
const CHAIN_LENGTH: u32 = 8;
/// Headers beyond the window that are read one by one for that, in a segment.
const MOST_FAR_READS: u32 = 4096;
/// Fence posts (with what aligns them) are no longer than this, at the end of a segment.
const FENCE_BYTES: u64 = 0x40;

/// Goes through segments, and adds up.
pub struct Chain<'t, 'o> {
    surveyor: &'t Surveyor<'t>,
    pages: Pages<'t>,
    window: Window<'t>,
    observer: &'o mut dyn Observer,
    /// Chunks since the last checkpoint, for the observer.
    seen: Vec<Chunk>,
    candidates: Candidates,
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
}

/// A chunk of which the next will tell whether it is in use.
#[derive(Clone, Copy)]
struct Pending {
    start: u64,
    end: u64,
    /// The second word of the program's memory: the place of a tcache's key.
    key: u64,
}

/// Where a walk can be taken up again.
#[derive(Clone, Copy)]
struct Checkpoint {
    at: u64,
    pending: Option<Pending>,
    tally: Tally,
    fast: usize,
    candidates: usize,
}

/// The state of a walk through one segment.
struct Course<'s> {
    arena: u64,
    segment: &'s mut Segment,
    /// Chunks in fastbins, ascending, and the first that is not behind.
    fastbins: &'s [u64],
    fast: usize,
    at: u64,
    pending: Option<Pending>,
    tally: Tally,
    /// Where to stop, at the latest behind the chunk that is there.
    until: u64,
    /// What the last chunk in use has behind that.
    overshoot: u64,
    checkpoint: Checkpoint,
    retries: u32,
    retries_left: u64,
    far_reads_left: u32,
}

/// What a header is.
enum Header {
    /// A chunk up to this address.
    Chunk(u64),
    /// `top`, up to the end.
    Top,
    /// The first of a pair of fence posts.
    Fence,
    Nonsense,
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
            pages: Pages::new(&surveyor.target),
            window: Window::new(surveyor.target.memory),
            observer,
            seen: Vec::new(),
            candidates,
            stretches: Vec::new(),
            retries: 0,
            resyncs: 0,
        }
    }

    /// What may be tcaches, of all segments.
    pub fn into_candidates(self) -> Candidates {
        self.candidates
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
        tally.before_segment(&mut self.pages, segment.start);
        tally.metadata(&mut self.pages, segment.start, segment.first);
        let until = u64::MAX;
        let mut course = self.course(arena, segment, fastbins, tally, segment.first, until);
        while self.step(&mut course) {}
        self.commit(&mut course);
        course.tally.finish_segment();
        course.tally
    }

    /// Walks a stretch of a segment again: bytes in use now (as in [`Stretch`]), and bytes that
    /// were not understood.
    pub fn walk_again(&mut self, arena: u64, mut segment: Segment, stretch: Stretch) -> (u64, u64) {
        self.pages.forget();
        let Stretch { start, end, .. } = stretch;
        let tally = Tally::default();
        let mut course = self.course(arena, &mut segment, &[], tally, start, end);
        while self.step(&mut course) {}
        let in_use = course.tally.in_use.bytes.saturating_sub(course.overshoot);
        (in_use, course.tally.skipped_bytes + course.tally.swapped_bytes)
    }

    fn course<'s>(
        &mut self,
        arena: u64,
        segment: &'s mut Segment,
        fastbins: &'s [u64],
        tally: Tally,
        at: u64,
        until: u64,
    ) -> Course<'s> {
        self.window.clear();
        let fast = fastbins.partition_point(|chunk| *chunk < at);
        let candidates = self.candidates.count();
        let checkpoint = Checkpoint { at, pending: None, tally, fast, candidates };
        let length = segment.end.min(until).saturating_sub(at);
        Course {
            arena,
            segment,
            fastbins,
            fast,
            at,
            pending: None,
            tally,
            until,
            overshoot: 0,
            checkpoint,
            retries: 0,
            retries_left: 64 + (length >> 20) * RETRIES_PER_MIB,
            far_reads_left: MOST_FAR_READS,
        }
    }

    /// One chunk on; `false` at the end.
    fn step(&mut self, course: &mut Course<'_>) -> bool {
        if course.at >= course.segment.end {
            return self.at_end(course);
        }
        if !self.window.holds(course.at) {
            self.turn_page(course);
        }
        let header = self.window.word(course.at + 8);
        if course.at >= course.until {
            return self.stop(course, header);
        }
        match self.classify(course, header) {
            Header::Chunk(end) => {
                self.settle(course, header & PREVIOUS_IN_USE != 0);
                self.begin(course, end);
                true
            }
            Header::Top => {
                self.settle(course, header & PREVIOUS_IN_USE != 0);
                self.top(course, course.at);
                false
            }
            Header::Fence => self.fence(course, header),
            Header::Nonsense => self.nonsense(course),
        }
    }

    /// Where the stretch is over, and the walk too; whatever is at that place now.
    fn stop(&mut self, course: &mut Course<'_>, header: u64) -> bool {
        let in_use = header & PREVIOUS_IN_USE != 0;
        if in_use && course.pending.is_some() {
            course.overshoot = course.at - course.until;
        }
        self.settle(course, in_use);
        false
    }

    fn classify(&self, course: &Course<'_>, header: u64) -> Header {
        let (at, size) = (course.at, header & !FLAGS);
        let end = at.saturating_add(size);
        let is_chunk = size >= SMALLEST_CHUNK_BYTES
            && size % ALIGNMENT_BYTES == 0
            && header & IS_MAPPED == 0
            && end <= course.segment.end;
        let is_last = course.segment.end - at <= FENCE_BYTES;
        match is_chunk {
            true if course.segment.top != Some(at) => Header::Chunk(end),
            true if end == course.segment.end => Header::Top,
            true => Header::Nonsense,
            false if size == 0x10 || (size == 0 && is_last) => self.fence_or_not(course, header),
            false => Header::Nonsense,
        }
    }

    /// A fence post follows a chunk in use, or a free one whose size is before it.
    fn fence_or_not(&self, course: &Course<'_>, header: u64) -> Header {
        let footer = self.window.word(course.at);
        let follows_free = course.pending.is_some_and(|it| it.end - it.start == footer);
        let is_fence = header & IS_MAPPED == 0 && (header & PREVIOUS_IN_USE != 0 || follows_free);
        if is_fence { Header::Fence } else { Header::Nonsense }
    }

    /// Adds the chunk before, now that it is known what it is.
    fn settle(&mut self, course: &mut Course<'_>, in_use: bool) {
        let Some(Pending { start, end, key }) = course.pending.take() else { return };
        let kind = match in_use {
            false => ChunkKind::Free,
            true if course.is_fast(start) => ChunkKind::Fast,
            true => ChunkKind::InUse,
        };
        course.tally.chunk(&mut self.pages, kind, start, end);
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
        course.at = end;
    }

    /// The next window; what was found up to here stays.
    fn turn_page(&mut self, course: &mut Course<'_>) {
        if course.at != course.checkpoint.at {
            self.commit(course);
        }
        self.window.load(&mut self.pages, course.at, course.segment.end);
    }

    fn commit(&mut self, course: &mut Course<'_>) {
        self.record(course, course.pending.map_or(course.at, |pending| pending.start));
        self.advance(course);
    }

    /// What was found up to here stays.
    fn advance(&mut self, course: &mut Course<'_>) {
        for chunk in self.seen.drain(..) {
            self.observer.chunk(chunk);
        }
        course.retries = 0;
        course.checkpoint = Checkpoint {
            at: course.at,
            pending: course.pending,
            tally: course.tally,
            fast: course.fast,
            candidates: self.candidates.count(),
        };
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
            self.stretches.push(Stretch { start, end, in_use_bytes, retried });
        }
    }

    /// The end of a segment: it is that of `top`, or of a chunk that has become `top` meanwhile.
    fn at_end(&mut self, course: &mut Course<'_>) -> bool {
        if course.segment.top.is_some() && self.retry(course) {
            return true;
        }
        let last = course.pending.take();
        match (last, course.segment.top) {
            (Some(last), Some(_)) => self.top(course, last.start),
            (Some(last), None) => course.tally.skipped(&mut self.pages, last.start, last.end),
            (None, _) => {}
        }
        false
    }

    fn top(&mut self, course: &mut Course<'_>, start: u64) {
        let (end, trim) = (course.segment.end, course.segment.top_trim);
        course.tally.top(&mut self.pages, start, end, trim);
        course.at = end;
        if self.observer.is_interested() {
            self.seen.push(Chunk { start, end, in_use: false, key: 0 });
        }
    }

    /// Behind a pair of fence posts the segment ends, or somebody else has called `sbrk`.
    fn fence(&mut self, course: &mut Course<'_>, header: u64) -> bool {
        self.settle(course, header & PREVIOUS_IN_USE != 0);
        let (at, end) = (course.at, course.segment.end);
        let rest = end - at;
        let fence_end = if rest <= FENCE_BYTES { end } else { at + 2 * ALIGNMENT_BYTES };
        course.tally.metadata(&mut self.pages, at, fence_end);
        course.at = fence_end;
        if fence_end < end {
            let found = self.find_chain(course, fence_end).unwrap_or(end);
            course.tally.gap(&mut self.pages, fence_end, found);
            course.at = found;
        }
        course.at < end
    }

    fn nonsense(&mut self, course: &mut Course<'_>) -> bool {
        if self.retry(course) {
            return true;
        }
        self.resyncs += 1;
        let from = course.pending.take().map_or(course.at, |pending| pending.start);
        let found = self.find_chain(course, course.at + ALIGNMENT_BYTES);
        let found = found.unwrap_or(course.segment.end);
        self.record(course, from);
        course.tally.skipped(&mut self.pages, from, found);
        course.at = found;
        self.advance(course);
        course.at < course.segment.end
    }

    /// Sets everything back to the checkpoint, unless that was done often enough.
    fn retry(&mut self, course: &mut Course<'_>) -> bool {
        if course.retries >= MOST_RETRIES || course.retries_left == 0 {
            return false;
        }
        course.retries += 1;
        course.retries_left -= 1;
        self.retries += 1;
        let Checkpoint { at, pending, tally, fast, candidates } = course.checkpoint;
        (course.at, course.pending, course.tally, course.fast) = (at, pending, tally, fast);
        self.candidates.truncate(candidates);
        self.seen.clear();
        self.pages.forget();
        self.window.clear();
        self.surveyor.refresh(course.arena, course.segment);
        true
    }

    /// The next address from which headers lead on.
    fn find_chain(&mut self, course: &mut Course<'_>, from: u64) -> Option<u64> {
        let mut at = align_up(from, ALIGNMENT_BYTES);
        while at + SMALLEST_CHUNK_BYTES <= course.segment.end {
            if !self.window.holds(at) {
                self.window.load(&mut self.pages, at, course.segment.end);
            }
            if self.leads_on(course, at) {
                return Some(at);
            }
            at += ALIGNMENT_BYTES;
        }
        None
    }

    fn leads_on(&self, course: &mut Course<'_>, start: u64) -> bool {
        let mut at = start;
        for number in 0..CHAIN_LENGTH {
            if number > 0 && (at == course.segment.end || course.segment.top == Some(at)) {
                return true;
            }
            let Some(header) = self.header(course, at) else { return false };
            let size = header & !FLAGS;
            let end = at.saturating_add(size);
            let is_chunk = size >= SMALLEST_CHUNK_BYTES
                && size.is_multiple_of(ALIGNMENT_BYTES)
                && header & IS_MAPPED == 0
                // A free chunk never has NON_MAIN_ARENA, so that its absence says nothing.
                && (!course.segment.is_main || header & FLAGS & !PREVIOUS_IN_USE == 0)
                && (number > 0 || header & PREVIOUS_IN_USE != 0)
                && end <= course.segment.end;
            let is_fence = number > 0 && size == 0x10 && header & PREVIOUS_IN_USE != 0;
            if !is_chunk {
                return is_fence;
            }
            at = end;
        }
        true
    }

    fn header(&self, course: &mut Course<'_>, at: u64) -> Option<u64> {
        if at >= course.segment.end {
            return None;
        }
        if self.window.holds(at) {
            return Some(self.window.word(at + 8));
        }
        course.far_reads_left = course.far_reads_left.checked_sub(1)?;
        self.surveyor.memory.word(at + 8)
    }
}

impl Course<'_> {
    fn is_fast(&mut self, chunk: u64) -> bool {
        while self.fastbins.get(self.fast).is_some_and(|fast| *fast < chunk) {
            self.fast += 1;
        }
        self.fastbins.get(self.fast) == Some(&chunk)
    }
}
