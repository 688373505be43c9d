//! Every piece of the heap, written down while it is walked, with what the walk takes back taken back
//! here, too. Its size is bounded: what finds no room is counted.

use super::{shape::align_down, tcache::Tcaches};
use crate::model::layout::{ArenaLayout, Mark, PIECE_UNIT_BYTES, PieceKind, SegmentLayout};

/// What was written down so far.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// Arenas in the order of the ring; all of the first heap.
    pub arenas: Vec<ArenaLayout>,
    /// Bytes of segments that found no room.
    pub left_out_bytes: u64,
    segment: SegmentLayout,
    mark: Mark,
    /// Bytes of code that may still be taken, the segment's own included.
    room: usize,
}

impl Recording {
    /// Nothing yet, and never more than so many bytes of code.
    pub fn new(most_code_bytes: usize) -> Self {
        Self { room: most_code_bytes, ..Self::default() }
    }

    /// The segments that come next are of this arena.
    pub fn arena(&mut self, index: u32) {
        self.arenas.push(ArenaLayout { index, ..ArenaLayout::default() });
    }

    /// A segment begins, with the allocator's own up to the first chunk.
    pub fn begin(&mut self, start: u64, first: u64) {
        self.segment = SegmentLayout::at(align_down(start, PIECE_UNIT_BYTES));
        self.piece(PieceKind::Metadata, first);
        self.keep();
    }

    /// The next piece of it.
    #[inline]
    pub fn piece(&mut self, kind: PieceKind, end: u64) {
        if self.segment.code_bytes() < self.room {
            self.segment.push(kind, end);
        }
    }

    /// What there is so far stays.
    pub fn keep(&mut self) {
        self.mark = self.segment.mark();
    }

    /// What was written down since is void.
    pub fn take_back(&mut self) {
        self.segment.take_back(self.mark);
    }

    /// The segment ends here.
    pub fn end(&mut self, end: u64) {
        let segment = std::mem::take(&mut self.segment);
        self.left_out_bytes += end.saturating_sub(segment.end());
        self.room = self.room.saturating_sub(segment.code_bytes());
        if let Some(arena) = self.arenas.last_mut().filter(|_| !segment.is_empty()) {
            arena.segments.push(segment);
        }
    }

    /// Says of chunks that were taken for ones in use that they are in caches, or are caches.
    pub fn settle(&mut self, tcaches: &Tcaches) {
        let starts = |chunks: &[(u64, u64)]| {
            let mut starts: Vec<u64> = chunks.iter().map(|(chunk, _)| *chunk).collect();
            starts.sort_unstable();
            starts
        };
        let (cached, structures) = (starts(&tcaches.chunks), starts(&tcaches.structures));
        for segment in self.arenas.iter_mut().flat_map(|arena| &mut arena.segments) {
            segment.retag(&cached, PieceKind::Tcache);
            segment.retag(&structures, PieceKind::Metadata);
        }
    }
}
