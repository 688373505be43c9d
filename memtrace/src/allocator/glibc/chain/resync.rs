//! Where headers lead on, behind a place at which they do not.

use super::{
    super::{
        header::{Header, Meaning},
        segment::Segment,
        shape::{ALIGNMENT_BYTES, SMALLEST_CHUNK_BYTES, align_up},
        target::{Pages, PresentMemory},
        window::Window,
    },
    catch_up::Arrival,
    course::Patience,
};

/// Chunks that must follow each other where the walk takes up the chain again.
const CHAIN_LENGTH: u32 = 8;
/// A chunk in use this large is doubtful there: nothing but its header, which may be what a chunk
/// has left behind or any word, tells its size, while that of a free one is also at its end.
pub(super) const DOUBTFUL_BYTES: u64 = 64 << 10;
/// And is taken for one only when nothing else leads on in so many bytes.
const DOUBT_BYTES: u64 = 1 << 20;

/// How sure it is that a chunk starts somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lead {
    Sure,
    /// One of the chunks that follow is large, and in use.
    Doubtful,
    Not,
}

/// How much of a window must be behind a place, so that most chains from there are in it.
const REACH_BYTES: u64 = 64 << 10;

/// Somebody who looks for the chain.
pub(super) struct Seeker<'w, 't> {
    pub window: &'w mut Window<'t>,
    pub pages: &'w mut Pages<'t>,
    pub memory: &'w PresentMemory<'t>,
    pub segment: &'w Segment,
    /// Nobody cares for what is behind this.
    pub limit: u64,
    pub patience: &'w mut Patience,
}

impl Seeker<'_, '_> {
    /// The next address from which headers lead on, however far.
    pub fn next(&mut self, from: u64) -> Option<u64> {
        let mut at = align_up(from, ALIGNMENT_BYTES);
        while at + SMALLEST_CHUNK_BYTES <= self.segment.end {
            if self.leads_on(at) {
                return Some(at);
            }
            if self.pages.is_gone() {
                return None;
            }
            at += ALIGNMENT_BYTES;
        }
        None
    }

    /// The same where the heap changes: large chunks are taken for such only when there is nothing
    /// else. Behind the limit, and in a process that has ended, there is nothing to find.
    pub fn find(&mut self, from: u64) -> Option<u64> {
        let mut doubtful = None;
        let mut at = align_up(from, ALIGNMENT_BYTES);
        while at < self.limit && at + SMALLEST_CHUNK_BYTES <= self.segment.end {
            if let Some(doubtful) = doubtful.filter(|start| at - start > DOUBT_BYTES) {
                return Some(doubtful);
            }
            self.show(at);
            if self.pages.is_gone() {
                return None;
            }
            match self.lead(at) {
                Lead::Sure => return Some(at),
                Lead::Doubtful => doubtful = doubtful.or(Some(at)),
                Lead::Not => {}
            }
            at += ALIGNMENT_BYTES;
        }
        doubtful
    }

    /// Whether headers lead on from here.
    pub fn leads_on(&mut self, at: u64) -> bool {
        self.show(at);
        self.lead(at) != Lead::Not
    }

    /// Where the chain from one chunk comes to, at or behind a place, if headers lead there and on.
    pub fn arrival(&mut self, from: u64, place: u64) -> Option<Arrival> {
        let (mut at, mut previous_bytes) = (from, None);
        while at < place {
            let header = self.header(at).filter(|header| !header.is_foreign(self.segment))?;
            match header.meaning(at, self.segment, previous_bytes) {
                Meaning::Chunk(end) => at = end,
                Meaning::Top => return Some(Arrival::Top),
                Meaning::Fence | Meaning::Nonsense => return None,
            }
            previous_bytes = Some(header.bytes());
        }
        let header = self.header(at).filter(|header| header.follows(previous_bytes))?;
        let arrival = Arrival::Chunk { at, is_in_use: header.previous_in_use() };
        (self.lead(at) != Lead::Not).then_some(arrival)
    }

    fn show(&mut self, at: u64) {
        let reach = at.saturating_add(REACH_BYTES).min(self.segment.end);
        if !self.window.reaches(at, reach) {
            self.window.load(self.pages, at, self.segment.end);
        }
    }

    fn lead(&mut self, start: u64) -> Lead {
        let mut lead = Lead::Sure;
        let (mut at, mut previous_bytes) = (start, None);
        for _ in 0..CHAIN_LENGTH {
            let is_first = previous_bytes.is_none();
            let is_large = previous_bytes >= Some(DOUBTFUL_BYTES);
            if !is_first && at == self.segment.end {
                return if is_large { Lead::Doubtful } else { lead };
            }
            let Some(header) = self.header(at) else { return Lead::Not };
            if is_large && header.previous_in_use() {
                lead = Lead::Doubtful;
            }
            if !is_first && self.segment.top == Some(at) {
                return lead;
            }
            if header.is_foreign(self.segment) || (is_first && !self.may_be_first(at, header)) {
                return Lead::Not;
            }
            match header.meaning(at, self.segment, previous_bytes) {
                Meaning::Chunk(end) => at = end,
                Meaning::Top => return lead,
                Meaning::Fence if !is_first => return lead,
                Meaning::Fence | Meaning::Nonsense => return Lead::Not,
            }
            previous_bytes = Some(header.bytes());
        }
        if previous_bytes >= Some(DOUBTFUL_BYTES) { Lead::Doubtful } else { lead }
    }

    /// The chunk before is in use, or there is one, and it is free.
    fn may_be_first(&mut self, at: u64, header: Header) -> bool {
        let before = at.checked_sub(header.footer).filter(|it| *it >= self.segment.first);
        header.previous_in_use()
            || before
                .filter(|before| *before < at && before.is_multiple_of(ALIGNMENT_BYTES))
                .and_then(|before| self.header(before))
                .is_some_and(|before| before.bytes() == header.footer)
    }

    fn header(&mut self, at: u64) -> Option<Header> {
        if at >= self.segment.end {
            return None;
        }
        if self.window.holds(at) {
            return Some(self.window.header(at));
        }
        self.patience.far_reads = self.patience.far_reads.checked_sub(1)?;
        let [footer, size] = self.memory.words(at)?;
        Some(Header { footer, size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        allocator::glibc::{tally::TopTrim, target::Target},
        model::memory::{PageRun, Residency, TargetMemory},
    };

    /// So many headers nobody looks at one by one.
    const SEGMENT_BYTES: u64 = 1 << 40;
    const START: u64 = 0x5555_0000_0000;

    /// A process whose pages are not there, or that is not there itself.
    struct Nothing {
        has_ended: bool,
    }

    impl TargetMemory for Nothing {
        fn read(&self, _address: u64, _buffer: &mut [u8]) -> bool {
            false
        }
    }

    impl Residency for Nothing {
        fn runs(&self, _start: u64, _end: u64) -> Option<Vec<PageRun>> {
            (!self.has_ended).then(Vec::new)
        }
    }

    /// Looks for a chunk, up to a limit behind the start.
    fn find(process: &Nothing, limit_bytes: u64) -> [Option<u64>; 2] {
        let target =
            Target { memory: process, residency: process, mappings: &[], page_bytes: 4096 };
        let end = START + SEGMENT_BYTES;
        let (top, top_trim) = (None, TopTrim::Never);
        let segment = Segment { start: START, first: START, end, top, top_trim, is_main: true };
        let mut seeker = Seeker {
            window: &mut Window::new(process),
            pages: &mut Pages::new(&target),
            memory: &PresentMemory::new(&target),
            segment: &segment,
            limit: START + limit_bytes,
            patience: &mut Patience::new(SEGMENT_BYTES),
        };
        let found = seeker.find(START);
        [found, if process.has_ended { seeker.next(START) } else { None }]
    }

    #[test]
    fn nothing_is_looked_for_in_a_process_that_has_ended() {
        assert_eq!(find(&Nothing { has_ended: true }, SEGMENT_BYTES), [None; 2]);
    }

    #[test]
    fn nothing_is_looked_for_behind_the_limit() {
        assert_eq!(find(&Nothing { has_ended: false }, 1 << 16), [None; 2]);
    }
}
