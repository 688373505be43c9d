//! Whose a chunk is.

use super::{BlameInput, Players};
use crate::model::{
    blame::Culprit,
    census::Extent,
    layout::{HeapLayout, Piece, PieceKind, Pieces},
    site::LiveItem,
};

/// From a chunk's header to the program's memory (`malloc/malloc.c`, `chunk2mem`).
const HEADER_BYTES: u64 = 16;

/// Whose it is, and which of the live blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Who.
    pub player: u32,
    /// Index in [`BlameInput::live`].
    pub item: Option<u32>,
}

/// Chunks of one, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    /// Their bytes.
    pub bytes: u64,
    /// How many.
    pub count: u64,
    /// What of them is in memory.
    pub resident_bytes: u64,
}

/// Tells whose chunks are that are asked for in ascending order, segment by segment.
pub struct Owners<'i> {
    input: BlameInput<'i>,
    players: Players,
    /// The first live block that is not behind.
    next: usize,
    before: Option<Before<'i>>,
    chunks: Vec<Chunks>,
}

impl<'i> Owners<'i> {
    /// Of these blocks.
    pub fn new(input: &BlameInput<'i>, players: Players) -> Self {
        let before = input.before.filter(|_| !input.is_exact).map(Before::new);
        let chunks = vec![Chunks::default(); players.count()];
        Self { input: *input, players, next: 0, before, chunks }
    }

    /// A segment begins.
    pub fn seek(&mut self, address: u64) {
        self.next = self.input.live.partition_point(|item| item.address < address);
        self.before.iter_mut().for_each(|before| before.seek(address));
    }

    /// Whose a chunk in use is.
    #[inline]
    pub fn of_chunk(&mut self, chunk: Extent) -> Owner {
        let address = chunk.start + HEADER_BYTES;
        let live = self.input.live;
        while live.get(self.next).is_some_and(|item| item.address < address) {
            self.next += 1;
        }
        match live.get(self.next) {
            Some(item) if item.address == address => self.known(self.next, item),
            _ => self.unknown(chunk),
        }
    }

    /// Whose a block is that was mapped by itself; an aligned one begins somewhere in it.
    pub fn of_mapped(&mut self, block: Extent) -> Owner {
        let first = self.input.live.partition_point(|item| item.address <= block.start);
        match self.input.live.get(first).filter(|item| item.address < block.end) {
            Some(item) => self.known(first, item),
            None => self.unknown_mapped(block),
        }
    }

    fn known(&self, at: usize, item: &LiveItem) -> Owner {
        let culprit = self.input.culprits.get(item.site as usize);
        Owner { player: culprit.copied().unwrap_or(item.site), item: u32::try_from(at).ok() }
    }

    fn unknown(&mut self, chunk: Extent) -> Owner {
        let was_there = self.before.as_mut().is_none_or(|before| before.has(chunk));
        self.unknown_if(was_there)
    }

    fn unknown_mapped(&self, block: Extent) -> Owner {
        let mapped = self.before.as_ref().map(|before| &before.layout.mapped);
        self.unknown_if(mapped.is_none_or(|mapped| mapped.binary_search(&block).is_ok()))
    }

    fn unknown_if(&self, was_there: bool) -> Owner {
        let is_old = self.input.is_exact || (self.before.is_some() && was_there);
        let culprit = if is_old { Culprit::BeforeAttach } else { Culprit::NotSampled };
        Owner { player: self.players.number(culprit), item: None }
    }

    /// Adds a chunk of somebody's.
    #[inline]
    pub fn count(&mut self, player: u32, bytes: u64, resident_bytes: u64) {
        if let Some(chunks) = self.chunks.get_mut(player as usize) {
            chunks.bytes += bytes;
            chunks.count += 1;
            chunks.resident_bytes += resident_bytes;
        }
    }

    /// All of somebody's.
    pub fn chunks(&self, player: u32) -> Chunks {
        self.chunks.get(player as usize).copied().unwrap_or_default()
    }
}

/// The chunks that were in use near the start.
struct Before<'i> {
    layout: &'i HeapLayout,
    pieces: Option<Pieces<'i>>,
    current: Option<Piece>,
}

impl<'i> Before<'i> {
    fn new(layout: &'i HeapLayout) -> Self {
        Self { layout, pieces: None, current: None }
    }

    /// The segment that began nearest before an address.
    fn seek(&mut self, address: u64) {
        let mut segments = self.layout.arenas.iter().flat_map(|arena| &arena.segments);
        let segment = segments.rfind(|it| (it.start()..=it.end()).contains(&address));
        self.pieces = segment.map(|segment| segment.pieces());
        self.current = None;
    }

    /// Whether there was this very chunk.
    fn has(&mut self, chunk: Extent) -> bool {
        let Some(pieces) = &mut self.pieces else { return false };
        while self.current.is_none_or(|piece| piece.extent.start < chunk.start) {
            self.current = pieces.next();
            if self.current.is_none() {
                self.pieces = None;
                return false;
            }
        }
        self.current == Some(Piece { extent: chunk, kind: PieceKind::InUse })
    }
}
