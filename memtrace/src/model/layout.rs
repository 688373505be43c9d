//! Where in its heaps everything lies at one moment: every chunk with its state, and which pages
//! are there. What a census only has in sums; it holds for a moment that has passed, and nothing of
//! what is in the chunks.

use super::census::Extent;

/// What a piece of a segment is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PieceKind {
    /// A chunk that is handed out.
    InUse = 0,
    /// A chunk in a bin.
    Free = 1,
    /// A chunk in a fastbin: free for the program, in use for its neighbours.
    Fastbin = 2,
    /// A chunk in a thread's tcache: the same.
    Tcache = 3,
    /// The unused end of a heap.
    Top = 4,
    /// The allocator's own: headers, fence posts.
    Metadata = 5,
    /// Memory of others within the heap, or what was not understood.
    Unknown = 6,
}

impl PieceKind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::InUse,
        Self::Free,
        Self::Fastbin,
        Self::Tcache,
        Self::Top,
        Self::Metadata,
        Self::Unknown,
    ];

    /// The kind with this number; `None` for those of later versions.
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// A piece of a segment. A chunk's range begins at its header, 16 bytes before the program's memory
/// (`malloc/malloc.c`, `chunk2mem`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it lies.
    pub extent: Extent,
    /// What it is.
    pub kind: PieceKind,
}

/// A contiguous stretch of an arena, from `start` on without gaps.
///
/// A heap of a hundred million chunks is not unusual; a piece takes one or two bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentLayout {
    start: u64,
    end: u64,
    pieces: u64,
    /// Of each piece: its bytes, over 8, times 8, plus its kind, in LEB128.
    codes: Vec<u8>,
}

/// Sizes of pieces are multiples of this.
pub const PIECE_UNIT_BYTES: u64 = 8;

impl SegmentLayout {
    /// One that begins here and has no pieces yet.
    pub fn at(start: u64) -> Self {
        Self { start, end: start, ..Self::default() }
    }

    /// First address.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// One past the last address.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// How many pieces it has.
    pub fn len(&self) -> u64 {
        self.pieces
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.pieces == 0
    }

    /// Bytes that the pieces take in memory.
    pub fn code_bytes(&self) -> usize {
        self.codes.len()
    }

    /// The next piece, up to `end`, which is a multiple of [`PIECE_UNIT_BYTES`] behind the last;
    /// nothing is added where it is not.
    pub fn push(&mut self, kind: PieceKind, end: u64) {
        let bytes = end.saturating_sub(self.end);
        if bytes == 0 || !bytes.is_multiple_of(PIECE_UNIT_BYTES) {
            return;
        }
        let mut code = bytes | kind as u64;
        while code >= 0x80 {
            self.codes.push(code as u8 | 0x80);
            code >>= 7;
        }
        self.codes.push(code as u8);
        self.pieces += 1;
        self.end = end;
    }

    /// All pieces, in ascending order.
    pub fn pieces(&self) -> Pieces<'_> {
        Pieces { codes: &self.codes, at: self.start }
    }

    /// The pieces as they are kept: see [`Self::append`].
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// Adds pieces as [`Self::codes`] has them. `false` where these are none; whole ones before may
    /// have been added then.
    pub fn append(&mut self, codes: &[u8]) -> bool {
        let mut pieces = Pieces { codes, at: self.end };
        let count = pieces.by_ref().count() as u64;
        let (rest, end) = (pieces.codes.len(), pieces.at);
        self.codes.extend_from_slice(&codes[..codes.len() - rest]);
        self.pieces += count;
        self.end = end;
        rest == 0
    }

    /// Where it is now, to come back to.
    pub fn mark(&self) -> Mark {
        Mark { end: self.end, pieces: self.pieces, code_bytes: self.codes.len() }
    }

    /// Takes back what was added since.
    pub fn take_back(&mut self, mark: Mark) {
        let Mark { end, pieces, code_bytes } = mark;
        self.codes.truncate(code_bytes);
        (self.end, self.pieces) = (end, pieces);
    }

    /// Says of pieces in use that begin at these addresses, which ascend, that they are something
    /// else.
    pub fn retag(&mut self, starts: &[u64], kind: PieceKind) {
        let first = starts.partition_point(|start| *start < self.start);
        let mut starts = starts[first..].iter().peekable();
        let (mut at, mut code_at) = (self.start, 0);
        while let Some(next) = starts.peek() {
            let mut pieces = Pieces { codes: &self.codes[code_at..], at };
            let Some(piece) = pieces.find(|piece| piece.extent.end > **next) else { return };
            let (rest, end) = (pieces.codes.len(), pieces.at);
            if piece.extent.start == **next && piece.kind == PieceKind::InUse {
                let own = code_bytes(piece.extent.bytes() | piece.kind as u64);
                let first = self.codes.len() - rest - own;
                self.codes[first] = self.codes[first] & !KIND_BITS | kind as u8;
            }
            (at, code_at) = (end, self.codes.len() - rest);
            while starts.next_if(|start| **start < at).is_some() {}
        }
    }
}

/// The lowest bits of a code, which are the kind.
const KIND_BITS: u8 = PIECE_UNIT_BYTES as u8 - 1;

/// How long a code is in LEB128.
fn code_bytes(code: u64) -> usize {
    (u64::BITS - (code | 1).leading_zeros()).div_ceil(7) as usize
}

/// A place in a segment that is being made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    end: u64,
    pieces: u64,
    code_bytes: usize,
}

/// The pieces of a segment.
#[derive(Clone, Debug)]
pub struct Pieces<'s> {
    codes: &'s [u8],
    at: u64,
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let (mut code, mut shift, mut codes) = (0_u64, 0, self.codes);
        loop {
            let (byte, rest) = codes.split_first()?;
            codes = rest;
            code |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if *byte < 0x80 {
                break;
            }
            shift += 7;
        }
        let kind = PieceKind::from_u8((code % PIECE_UNIT_BYTES) as u8)?;
        let start = self.at;
        let end = start.checked_add(code - code % PIECE_UNIT_BYTES)?;
        if end == start {
            return None;
        }
        (self.at, self.codes) = (end, codes);
        Some(Piece { extent: Extent { start, end }, kind })
    }
}

/// An arena of glibc's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArenaLayout {
    /// Which of the census's glibc heaps it is of.
    pub heap: u32,
    /// As [`super::census::Arena::index`].
    pub index: u32,
    /// As [`super::census::Arena::attached_threads`].
    pub attached_threads: Option<u64>,
    /// Its stretches, ascending.
    pub segments: Vec<SegmentLayout>,
}

/// A pool of pymalloc's that has blocks in use, or of which that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolLayout {
    /// First address.
    pub start: u64,
    /// Bytes of a block; 0 where the pool's header was in swap, or changed while it was read.
    pub block_bytes: u32,
    /// Blocks in use.
    pub in_use: u32,
    /// Blocks that it has room for.
    pub capacity: u32,
}

impl PoolLayout {
    /// One that is in use. What has no room in its fields is more than any pool has.
    pub fn used(start: u64, block_bytes: u64, in_use: u64, capacity: u64) -> Self {
        let [block_bytes, in_use, capacity] =
            [block_bytes, in_use, capacity].map(|it| u32::try_from(it).unwrap_or(u32::MAX));
        Self { start, block_bytes, in_use, capacity }
    }

    /// Whether its header was understood.
    pub fn is_known(&self) -> bool {
        self.block_bytes > 0
    }
}

/// An arena of pymalloc's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PymallocArenaLayout {
    /// Where it lies.
    pub extent: Extent,
    /// Bytes of a pool, used or not.
    pub pool_bytes: u64,
    /// Those that are not free, ascending.
    pub pools: Vec<PoolLayout>,
}

/// All heaps of a process that were walked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeapLayout {
    /// When it was like this, since the window was opened; negative where it was before.
    pub at_ns: i64,
    /// Size of a page.
    pub page_bytes: u64,
    /// Size of a huge page where the kernel gives them to the heap by itself; 0 where it does not.
    pub huge_page_bytes: u64,
    /// glibc's arenas.
    pub arenas: Vec<ArenaLayout>,
    /// Blocks that glibc mapped one by one: whole mappings, ascending.
    pub mapped: Vec<Extent>,
    /// CPython's arenas, ascending.
    pub pymalloc: Vec<PymallocArenaLayout>,
    /// Which pages of the process are in memory: ascending, and no two touch.
    pub resident: Vec<Extent>,
    /// Bytes of heap, and of pages in memory, that found no room in it.
    pub left_out_bytes: u64,
}

impl HeapLayout {
    /// How much of a range is in memory.
    pub fn resident_bytes(&self, range: Extent) -> u64 {
        let first = self.resident.partition_point(|run| run.end <= range.start);
        let runs = self.resident[first..].iter().take_while(|run| run.start < range.end);
        runs.map(|run| run.end.min(range.end) - run.start.max(range.start)).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pieces_come_back_as_they_were_added() {
        let mut segment = SegmentLayout::at(0x1000);
        segment.push(PieceKind::Metadata, 0x1010);
        segment.push(PieceKind::InUse, 0x1040);
        segment.push(PieceKind::Top, 0x4000_0000_0000);
        let pieces: Vec<_> =
            segment.pieces().map(|it| (it.extent.start, it.extent.end, it.kind)).collect();
        let expected = [
            (0x1000, 0x1010, PieceKind::Metadata),
            (0x1010, 0x1040, PieceKind::InUse),
            (0x1040, 0x4000_0000_0000, PieceKind::Top),
        ];
        assert_eq!(pieces, expected);
        assert_eq!((segment.len(), segment.end()), (3, 0x4000_0000_0000));
    }

    #[test]
    fn what_is_no_piece_is_not_added() {
        let mut segment = SegmentLayout::at(0x1000);
        segment.push(PieceKind::InUse, 0x1000);
        segment.push(PieceKind::InUse, 0x0800);
        segment.push(PieceKind::InUse, 0x1003);
        assert!(segment.is_empty() && segment.pieces().next().is_none());
    }

    #[test]
    fn what_is_taken_back_was_never_there() {
        let mut segment = SegmentLayout::at(0x1000);
        segment.push(PieceKind::InUse, 0x1040);
        let (mark, before) = (segment.mark(), segment.clone());
        segment.push(PieceKind::Free, 0x9000);
        segment.take_back(mark);
        assert_eq!(segment, before);
    }

    #[test]
    fn a_range_is_as_resident_as_its_pages() {
        let extent = |start, end| Extent { start, end };
        let resident = vec![extent(0x1000, 0x3000), extent(0x5000, 0x6000)];
        let layout = HeapLayout { resident, ..HeapLayout::default() };
        assert_eq!(layout.resident_bytes(extent(0x2ff0, 0x5010)), 0x20);
        assert_eq!(layout.resident_bytes(extent(0, 0x10_0000)), 0x3000);
        assert_eq!(layout.resident_bytes(extent(0x3000, 0x5000)), 0);
    }

    proptest! {
        #[test]
        fn any_pieces_come_back(
            start in 0..u64::MAX / 2,
            pieces in prop::collection::vec((1..1_u64 << 40, 0..7_u8), 0..50),
        ) {
            let mut segment = SegmentLayout::at(start);
            let mut expected = Vec::new();
            let mut at = start;
            for (units, kind) in pieces {
                let end = at + units * PIECE_UNIT_BYTES;
                let kind = PieceKind::from_u8(kind).unwrap();
                segment.push(kind, end);
                expected.push(Piece { extent: Extent { start: at, end }, kind });
                at = end;
            }
            prop_assert_eq!(segment.pieces().collect::<Vec<_>>(), expected);
            let mut again = SegmentLayout::at(start);
            prop_assert!(again.append(segment.codes()));
            prop_assert_eq!(again, segment);
        }

        #[test]
        fn no_bytes_are_taken_for_pieces_that_do_not_come_back(start: u64, codes: Vec<u8>) {
            let mut segment = SegmentLayout::at(start);
            let is_whole = segment.append(&codes);
            prop_assert_eq!(is_whole, segment.codes() == codes);
            prop_assert_eq!(segment.pieces().count() as u64, segment.len());
            prop_assert_eq!(segment.pieces().last().map_or(start, |it| it.extent.end), segment.end());
        }

        #[test]
        fn only_pieces_in_use_that_begin_there_become_something_else(
            pieces in prop::collection::vec((1..300_u64, 0..7_u8), 0..50),
            chosen in prop::collection::btree_set(0..4000_u64, 0..60),
        ) {
            let (mut segment, mut end) = (SegmentLayout::at(0x1000), 0x1000);
            for (units, kind) in pieces {
                end += units * PIECE_UNIT_BYTES;
                segment.push(PieceKind::from_u8(kind).unwrap(), end);
            }
            let starts: Vec<u64> = chosen.into_iter().map(|it| 0xff0 + it * 8).collect();
            let before: Vec<Piece> = segment.pieces().collect();
            segment.retag(&starts, PieceKind::Tcache);
            let retagged = |piece: &Piece| {
                let is_one = piece.kind == PieceKind::InUse && starts.contains(&piece.extent.start);
                Piece { kind: if is_one { PieceKind::Tcache } else { piece.kind }, ..*piece }
            };
            let expected: Vec<Piece> = before.iter().map(retagged).collect();
            prop_assert_eq!(segment.pieces().collect::<Vec<_>>(), expected);
        }
    }
}
