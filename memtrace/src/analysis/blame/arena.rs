//! An arena, segment by segment and piece by piece: whose its chunks are, who holds its end, and who
//! what of it when no thread uses it any more.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    Players,
    owners::{Owner, Owners},
    page::{Pages, Role},
};
use crate::model::{
    blame::{Culprit, Holder, StrandedArena, TopPin},
    layout::{ArenaLayout, Piece, PieceKind, SegmentLayout},
};

/// What is found besides pages.
pub struct Found {
    /// Who holds its end.
    pub top: Option<TopPin>,
    /// It, where no thread uses it.
    pub stranded: Option<StrandedArena>,
}

/// The highest chunks so far, as long as they are of one.
#[derive(Clone, Copy, Debug, Default)]
struct Highest {
    player: Option<u32>,
    chunks: u64,
    /// Where the last chunk of somebody else ends.
    from: u64,
    end: u64,
}

impl Highest {
    fn chunk(&mut self, player: u32, end: u64) {
        if self.player != Some(player) {
            *self = Self { player: Some(player), chunks: 0, from: self.end, end: self.end };
        }
        self.chunks += 1;
        self.end = end;
    }
}

/// Looks at all of its pieces.
pub fn arena<'i>(
    layout: &ArenaLayout,
    players: Players,
    owners: &mut Owners<'i>,
    pages: &mut Pages<'i>,
) -> Found {
    let is_stranded = layout.attached_threads == Some(0);
    let mut pass = Pass { layout, players, owners, pages, is_stranded, held: BTreeMap::new() };
    let mut top = None;
    for segment in &layout.segments {
        top = pass.segment(segment).or(top);
    }
    Found { top, stranded: is_stranded.then(|| pass.stranded()) }
}

struct Pass<'p, 'i> {
    layout: &'p ArenaLayout,
    players: Players,
    owners: &'p mut Owners<'i>,
    pages: &'p mut Pages<'i>,
    is_stranded: bool,
    /// Bytes of chunks, where no thread uses the arena.
    held: BTreeMap<u32, u64>,
}

impl Pass<'_, '_> {
    fn segment(&mut self, segment: &SegmentLayout) -> Option<TopPin> {
        self.owners.seek(segment.start());
        self.pages.begin(segment.start());
        let mut resident = self.pages.resident_from(segment.start());
        let mut highest = Highest { end: segment.start(), ..Highest::default() };
        let mut top = None;
        for piece in segment.pieces() {
            let role = self.role(piece);
            if let Role::Held(Owner { player, .. }) = role {
                highest.chunk(player, piece.extent.end);
                let bytes = resident.bytes(piece.extent.start, piece.extent.end);
                self.count(player, piece, bytes);
            }
            if role == Role::Top {
                top = self.top(highest, piece.extent.start);
            }
            self.pages.piece(role, piece.extent);
        }
        self.pages.end(segment.end());
        top
    }

    #[inline]
    fn role(&mut self, Piece { extent, kind }: Piece) -> Role {
        let of = |culprit| Owner { player: self.players.number(culprit), item: None };
        match kind {
            PieceKind::InUse => Role::Held(self.owners.of_chunk(extent)),
            PieceKind::Free => Role::Free,
            PieceKind::Fastbin => Role::Joins,
            PieceKind::Tcache => Role::Held(of(Culprit::AllocatorCache)),
            PieceKind::Top => Role::Top,
            PieceKind::Metadata | PieceKind::Unknown => Role::Held(of(Culprit::Allocator)),
        }
    }

    /// What the allocator has for itself is nobody's chunk.
    fn count(&mut self, player: u32, piece: Piece, resident_bytes: u64) {
        if matches!(piece.kind, PieceKind::Metadata | PieceKind::Unknown) {
            return;
        }
        let bytes = piece.extent.bytes();
        self.owners.count(player, bytes, resident_bytes);
        if self.is_stranded {
            *self.held.entry(player).or_default() += bytes;
        }
    }

    fn top(&self, highest: Highest, start: u64) -> Option<TopPin> {
        let culprit = self.players.culprit(highest.player?);
        let mut resident = self.pages.resident_from(highest.from);
        Some(TopPin {
            heap: self.layout.heap,
            arena: self.layout.index,
            culprit,
            chunks: highest.chunks,
            behind_bytes: resident.bytes(highest.from, start.max(highest.from)),
        })
    }

    fn stranded(self) -> StrandedArena {
        let mut resident_bytes = 0;
        for segment in &self.layout.segments {
            let mut resident = self.pages.resident_from(segment.start());
            resident_bytes += resident.bytes(segment.start(), segment.end());
        }
        let holder = |(player, chunk_bytes): (u32, u64)| Holder {
            culprit: self.players.culprit(player),
            chunk_bytes,
        };
        let mut holders: Vec<Holder> = self.held.into_iter().map(holder).collect();
        holders.sort_by_key(|holder| Reverse(holder.chunk_bytes));
        let (heap, arena) = (self.layout.heap, self.layout.index);
        StrandedArena { heap, arena, resident_bytes, holders }
    }
}
