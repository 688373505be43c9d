//! What is mapped, and its books: puts ranges in, takes them out, and books both.
//!
//! A range that is taken out still counts as live until it is released, or put back.

use hashbrown::HashMap;
use memtrace_common::sample::Interval;
use slab::Slab;

use super::{
    Books,
    account::{Account, Entry},
    pages::Range,
    ranges::{MappingId, Piece, RangeSet},
    sites::SiteId,
};
use crate::model::{
    loss::Loss,
    site::{LiveItem, Site},
};

/// Something that was mapped by one call, as far as it is left.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// The site; `None` for allocators' own.
    pub site: Option<SiteId>,
    /// When it was mapped, `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Bytes that were asked for and are left.
    pub bytes: u64,
    /// Addresses that are left; the mapping is gone when there are none.
    span_bytes: u64,
    /// Part of the program break, which grows in place.
    is_break: bool,
    owner: Owner,
}

/// Whose memory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The program's.
    Program,
    /// The allocator's, for itself.
    Allocator,
    /// pymalloc's, for Python's small objects.
    Pymalloc,
    /// Nobody's: no books were wanted.
    Unwatched,
}

/// Who asked for memory.
#[derive(Clone, Copy, Debug)]
pub struct Requester {
    /// The caller.
    pub site: Site,
    /// Whose the memory is.
    pub owner: Owner,
}

/// What was known of a range.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// The parts of mappings in it.
    pub pieces: Vec<Piece>,
    /// Bytes of the range that no piece covers.
    pub unknown_bytes: u64,
}

/// Mapped ranges and their books.
#[derive(Debug)]
pub struct MappedSet {
    limit: usize,
    ranges: RangeSet,
    mappings: Slab<Mapping>,
    program: Account,
    allocator: Account,
    pymalloc: Account,
    unwatched: Account,
    unmatched_unmapped_bytes: u64,
}

impl MappedSet {
    /// An empty set of at most `limit` ranges.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            ranges: RangeSet::default(),
            mappings: Slab::new(),
            program: Account::default(),
            allocator: Account::default(),
            pymalloc: Account::default(),
            unwatched: Account::default(),
            unmatched_unmapped_bytes: 0,
        }
    }

    /// Maps a range where nothing is; `bytes` of it were asked for.
    pub fn map(
        &mut self,
        range: Range,
        bytes: u64,
        time_ns: u64,
        by: Requester,
        books: &mut Books,
    ) {
        let (site, owner) = Self::requester(by, books);
        let span_bytes = range.span_bytes();
        let mapping = Mapping { site, time_ns, bytes, span_bytes, is_break: false, owner };
        self.add(range, mapping, books);
    }

    /// Growth of the program break by a range where nothing is.
    pub fn map_break(&mut self, range: Range, time_ns: u64, by: Requester, books: &mut Books) {
        let (site, owner) = Self::requester(by, books);
        if owner == Owner::Allocator && self.extend_break(range) {
            return;
        }
        let bytes = range.span_bytes();
        let mapping = Mapping { site, time_ns, bytes, span_bytes: bytes, is_break: true, owner };
        self.add(range, mapping, books);
    }

    /// Releases what a new range covers.
    pub fn replace(&mut self, range: Range, may_replace: bool, books: &mut Books) {
        let covered = self.take(range, books).pieces;
        if !covered.is_empty() && !may_replace {
            books.losses.count(Loss::ImpliedFree);
        }
        self.release(Taken { pieces: covered, unknown_bytes: 0 }, books);
    }

    /// Takes out what is in a range.
    pub fn take(&mut self, range: Range, books: &mut Books) -> Taken {
        let count_before = self.ranges.piece_count();
        let pieces = self.ranges.remove(range.start, range.end);
        if self.ranges.piece_count() > count_before.max(self.limit) {
            self.drop_upper_rest(range.end, books);
        }
        let known_bytes: u64 = pieces.iter().map(Piece::span_bytes).sum();
        Taken { pieces, unknown_bytes: range.span_bytes() - known_bytes }
    }

    /// Puts back what was taken, except where something was mapped in the meantime (MAP_FIXED),
    /// which is the newer truth.
    pub fn restore(&mut self, taken: Taken, books: &mut Books) {
        for piece in taken.pieces {
            let newer = self.ranges.remove(piece.start, piece.end);
            self.ranges.insert(piece);
            for piece in newer {
                let covered = self.ranges.remove(piece.start, piece.end);
                self.ranges.insert(piece);
                covered.into_iter().for_each(|piece| self.release_piece(piece, books));
            }
        }
    }

    /// Books what was taken as released.
    pub fn release(&mut self, taken: Taken, books: &mut Books) {
        if books.watched {
            self.unmatched_unmapped_bytes =
                self.unmatched_unmapped_bytes.saturating_add(taken.unknown_bytes);
        }
        taken.pieces.into_iter().for_each(|piece| self.release_piece(piece, books));
    }

    /// Whether all that was taken, and something was, is the allocator's.
    pub fn is_of_allocator(&self, taken: &Taken) -> bool {
        !taken.pieces.is_empty()
            && taken.pieces.iter().all(|piece| {
                self.mappings
                    .get(piece.mapping.0 as usize)
                    .is_some_and(|mapping| mapping.owner == Owner::Allocator)
            })
    }

    /// Books that the address space is gone.
    pub fn discard(&mut self) {
        self.ranges.clear();
        self.mappings.clear();
        self.program.discard();
        self.allocator.discard();
        self.pymalloc.discard();
        self.unwatched.discard();
    }

    /// What the program has mapped; ranges of open calls too, without an address.
    pub fn live_items(&self) -> impl Iterator<Item = LiveItem> {
        let mut starts: HashMap<usize, u64> = HashMap::with_capacity(self.mappings.len());
        for piece in self.ranges.pieces() {
            starts.entry(piece.mapping.0 as usize).or_insert(piece.start);
        }
        self.mappings.iter().filter_map(move |(key, mapping)| {
            Some(LiveItem {
                address: starts.get(&key).copied().unwrap_or_default(),
                bytes: mapping.bytes,
                time_ns: mapping.time_ns,
                site: mapping.site?.index() as u32,
                interval: Interval::EXACT,
            })
        })
    }

    /// The books over all sites.
    pub fn program_account(&self) -> &Account {
        &self.program
    }

    /// The books of the allocator's own mappings.
    pub fn allocator_account(&self) -> &Account {
        &self.allocator
    }

    /// The books of pymalloc's arenas.
    pub fn pymalloc_account(&self) -> &Account {
        &self.pymalloc
    }

    /// Unmapped bytes that are not known, in whole pages.
    pub fn unmatched_unmapped_bytes(&self) -> u64 {
        self.unmatched_unmapped_bytes
    }

    #[cfg(test)]
    pub fn range_count(&self) -> usize {
        self.ranges.piece_count()
    }

    /// The allocator's heap grows in many small steps, which have nothing to tell them apart: it
    /// stays one mapping.
    fn extend_break(&mut self, grown: Range) -> bool {
        let Range { start, end } = grown;
        let Some(id) = self.ranges.ending_at(start).map(|below| below.mapping) else {
            return false;
        };
        match self.mappings.get_mut(id.0 as usize) {
            Some(mapping) if mapping.is_break && mapping.owner == Owner::Allocator => {
                mapping.bytes += grown.span_bytes();
                mapping.span_bytes += grown.span_bytes();
            }
            _ => return false,
        }
        self.ranges.insert(Piece { start, end, slack_bytes: 0, mapping: id });
        self.allocator.extend(grown.span_bytes());
        true
    }

    fn requester(by: Requester, books: &mut Books) -> (Option<SiteId>, Owner) {
        match by.owner {
            _ if !books.watched => (None, Owner::Unwatched),
            Owner::Program => (Some(books.intern(by.site)), Owner::Program),
            owner => (None, owner),
        }
    }

    fn account(&mut self, owner: Owner) -> &mut Account {
        match owner {
            Owner::Program => &mut self.program,
            Owner::Allocator => &mut self.allocator,
            Owner::Pymalloc => &mut self.pymalloc,
            Owner::Unwatched => &mut self.unwatched,
        }
    }

    fn add(&mut self, range: Range, mapping: Mapping, books: &mut Books) {
        if self.ranges.piece_count() >= self.limit {
            books.losses.count(Loss::LiveRangesFull);
            return;
        }
        let Mapping { site, bytes, owner, .. } = mapping;
        let slack_bytes = range.span_bytes() - bytes;
        let id = MappingId(self.mappings.insert(mapping) as u32);
        let Range { start, end } = range;
        self.ranges.insert(Piece { start, end, slack_bytes, mapping: id });
        self.account(owner).allocate(Entry::one(bytes));
        if let Some(site) = site {
            books.sites.allocate(site, Entry::one(bytes));
        }
    }

    /// A hole in the middle of a range makes two of it. Without room for both, the upper one is
    /// not followed any further, and booked as released rather than accused for ever.
    fn drop_upper_rest(&mut self, start: u64, books: &mut Books) {
        books.losses.count(Loss::LiveRangesFull);
        if let Some(rest) = self.ranges.starting_at(start) {
            let pieces = self.ranges.remove(rest.start, rest.end);
            self.release(Taken { pieces, unknown_bytes: 0 }, books);
        }
    }

    fn release_piece(&mut self, piece: Piece, books: &mut Books) {
        let key = piece.mapping.0 as usize;
        let Some(mapping) = self.mappings.get_mut(key) else {
            debug_assert!(false, "a piece of a mapping that is gone");
            return;
        };
        mapping.bytes -= piece.asked_bytes();
        mapping.span_bytes -= piece.span_bytes();
        let is_last = mapping.span_bytes == 0;
        let (bytes, count) = (piece.asked_bytes(), u64::from(is_last));
        let released = Entry { bytes, count, ..Entry::default() };
        if let Some(site) = mapping.site {
            books.sites.release(site, released);
        }
        let owner = mapping.owner;
        self.account(owner).release(released);
        if is_last {
            self.mappings.remove(key);
        }
    }
}
