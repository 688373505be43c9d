//! The rules of mmap and kin.
//!
//! * Ranges are rounded to pages as the kernel does, but the bytes that rounding adds are not
//!   booked: a mapping of 5000 bytes allocates 5000 and, unmapped whole, frees 5000. They belong
//!   to its last page. A mapping counts 1 until its last piece is gone, in however many pieces.
//! * `munmap` and `mremap` take their range out from `*Begin` on, as another thread can be handed
//!   it before `*End`; until then it counts as live. A failure puts it back; a missing `*End`
//!   ([`Loss::Unpaired`]) is taken for a success, for the reason given in [`super::heap`].
//! * `mremap` is a release of the old range and a new mapping by its own site, also in place. Its
//!   flags are not reported: with `MREMAP_DONTUNMAP` the (now empty) old range counts as released.
//! * A range that is mapped over existing ones releases them. Without `MAP_FIXED` that proves that
//!   an unmap was not seen ([`Loss::ImpliedFree`]).
//! * What the allocator maps for itself has books of its own and no site. Which books a release
//!   goes to is decided by the range, not by the call.

use slab::Slab;

use super::{
    Books,
    account::Account,
    heap::Caller,
    pages::{MAP_FIXED, Range, rounding_bytes},
    pending::Pending,
    ranges::{MappingId, Piece, RangeSet},
    sites::SiteId,
};
use crate::model::{
    loss::Loss,
    site::{Amount, Site},
};

/// Something that was mapped by one call, as far as it is left.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// The site; `None` for the allocator's own.
    pub site: Option<SiteId>,
    /// When it was mapped, `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Bytes that were asked for and are left.
    pub bytes: u64,
    /// Addresses that are left; the mapping is gone when there are none.
    span_bytes: u64,
    /// Part of the program break, which grows in place.
    is_break: bool,
}

/// A new range, and who obtained it.
#[derive(Clone, Copy, Debug)]
pub struct Mapped {
    /// Start.
    pub address: u64,
    /// As passed.
    pub length_bytes: u64,
    /// The caller.
    pub site: Site,
    /// Obtained by the allocator for itself.
    pub internal: bool,
}

/// Ranges taken out by a call that has not returned.
#[derive(Clone, Debug)]
struct OpenRelease {
    address: u64,
    length_bytes: u64,
    taken: Taken,
}

/// What was known of a range.
#[derive(Clone, Debug, Default)]
struct Taken {
    pieces: Vec<Piece>,
    /// Bytes of the range that no piece covers.
    unknown_bytes: u64,
}

/// Mapped ranges and their books.
#[derive(Debug)]
pub struct Mappings {
    limit: usize,
    page_bytes: u64,
    program_break: Option<u64>,
    ranges: RangeSet,
    mappings: Slab<Mapping>,
    open: Pending<OpenRelease>,
    program: Account,
    allocator: Account,
    unmatched_unmapped_bytes: u64,
}

impl Mappings {
    /// Makes the books for at most `limit` ranges of pages of this size.
    pub fn new(limit: usize, page_bytes: u64, program_break: Option<u64>) -> Self {
        Self {
            limit,
            page_bytes,
            program_break,
            ranges: RangeSet::default(),
            mappings: Slab::new(),
            open: Pending::default(),
            program: Account::default(),
            allocator: Account::default(),
            unmatched_unmapped_bytes: 0,
        }
    }

    /// `mmap` returned a range.
    pub fn map(&mut self, caller: Caller, mapped: Mapped, map_flags: u32, books: &mut Books) {
        self.abandon_open(caller.tid, books);
        let rounding_bytes = rounding_bytes(map_flags, self.page_bytes);
        let may_replace = map_flags & MAP_FIXED != 0;
        self.place(caller.time_ns, mapped, rounding_bytes, may_replace, books);
    }

    /// `munmap` or `mremap` was entered.
    pub fn release_begin(
        &mut self,
        caller: Caller,
        address: u64,
        length_bytes: u64,
        books: &mut Books,
    ) {
        self.abandon_open(caller.tid, books);
        if self.open.has_room() {
            let taken = self.take_pages(address, length_bytes, books);
            self.open.open(caller.tid, OpenRelease { address, length_bytes, taken });
        }
    }

    /// `munmap` returned.
    pub fn unmap_end(
        &mut self,
        caller: Caller,
        address: u64,
        length_bytes: u64,
        failed: bool,
        books: &mut Books,
    ) {
        let taken = self.close_open(caller.tid, address, length_bytes, books);
        if failed {
            self.restore(taken, books);
        } else {
            self.release(taken, books);
        }
    }

    /// `mremap` returned; `new.address` is 0 when it failed.
    pub fn remap_end(
        &mut self,
        caller: Caller,
        old_address: u64,
        old_length_bytes: u64,
        new: Mapped,
        books: &mut Books,
    ) {
        let taken = self.close_open(caller.tid, old_address, old_length_bytes, books);
        if new.address == 0 {
            self.restore(taken, books);
            return;
        }
        let internal = new.internal || self.is_of_allocator(&taken);
        self.release(taken, books);
        // With MREMAP_FIXED, which is not reported, it may replace others.
        self.place(caller.time_ns, Mapped { internal, ..new }, self.page_bytes, true, books);
    }

    /// The program break moved; `old_break` is 0 when the call did not tell.
    pub fn move_break(
        &mut self,
        caller: Caller,
        old_break: u64,
        new_break: u64,
        by: (Site, bool),
        books: &mut Books,
    ) {
        self.abandon_open(caller.tid, books);
        let known = self.program_break.replace(new_break);
        let Some(old_break) = Some(old_break).filter(|old| *old != 0).or(known) else {
            return;
        };
        if let Some(grown) = Range::new(old_break, new_break) {
            self.grow_break(caller.time_ns, grown, by, books);
        } else if let Some(shrunk) = Range::new(new_break, old_break) {
            let taken = self.take(shrunk, books);
            self.release(taken, books);
        }
    }

    /// The thread is gone.
    pub fn thread_exit(&mut self, tid: u32, books: &mut Books) {
        self.abandon_open(tid, books);
    }

    /// The address space is gone.
    pub fn discard(&mut self) {
        self.ranges.clear();
        self.mappings.clear();
        self.open.clear();
        self.program.discard();
        self.allocator.discard();
        self.program_break = None;
    }

    /// What is mapped; ranges of open calls too.
    pub fn mappings(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings.iter().map(|(_, mapping)| mapping)
    }

    /// The books over all sites.
    pub fn program_account(&self) -> &Account {
        &self.program
    }

    /// The books of the allocator's own mappings.
    pub fn allocator_account(&self) -> &Account {
        &self.allocator
    }

    /// Unmapped bytes that are not known, in whole pages.
    pub fn unmatched_unmapped_bytes(&self) -> u64 {
        self.unmatched_unmapped_bytes
    }

    /// Calls that have not returned.
    pub fn open_calls(&self) -> usize {
        self.open.open_calls()
    }

    #[cfg(test)]
    pub fn range_count(&self) -> usize {
        self.ranges.piece_count()
    }

    fn place(
        &mut self,
        time_ns: u64,
        mapped: Mapped,
        rounding_bytes: u64,
        may_replace: bool,
        books: &mut Books,
    ) {
        let Mapped { address, length_bytes, site, internal } = mapped;
        let Some(range) = Range::of_pages(address, length_bytes, rounding_bytes) else {
            books.losses.count(Loss::Undecodable); // no kernel maps this
            return;
        };
        self.replace(range, may_replace, books);
        let site = self.owner(site, internal, books);
        let mapping = Mapping {
            site,
            time_ns,
            bytes: length_bytes,
            span_bytes: range.span_bytes(),
            is_break: false,
        };
        self.add(range, mapping, books);
    }

    fn grow_break(&mut self, time_ns: u64, grown: Range, by: (Site, bool), books: &mut Books) {
        self.replace(grown, false, books);
        let (site, internal) = by;
        let bytes = grown.span_bytes();
        if internal && self.extend_break(grown) {
            return;
        }
        let site = self.owner(site, internal, books);
        let mapping = Mapping { site, time_ns, bytes, span_bytes: bytes, is_break: true };
        self.add(grown, mapping, books);
    }

    /// The allocator's heap grows in many small steps, which have nothing to tell them apart: it
    /// stays one mapping.
    fn extend_break(&mut self, grown: Range) -> bool {
        let Range { start, end } = grown;
        let Some(id) = self.ranges.ending_at(start).map(|below| below.mapping) else {
            return false;
        };
        match self.mappings.get_mut(id.0 as usize) {
            Some(mapping) if mapping.is_break && mapping.site.is_none() => {
                mapping.bytes += grown.span_bytes();
                mapping.span_bytes += grown.span_bytes();
            }
            _ => return false,
        }
        self.ranges.insert(Piece { start, end, slack_bytes: 0, mapping: id });
        self.allocator.extend(grown.span_bytes());
        true
    }

    fn owner(&self, site: Site, internal: bool, books: &mut Books) -> Option<SiteId> {
        (!internal).then(|| books.sites.intern(site, &mut books.losses))
    }

    fn add(&mut self, range: Range, mapping: Mapping, books: &mut Books) {
        if self.ranges.piece_count() >= self.limit {
            books.losses.count(Loss::LiveRangesFull);
            return;
        }
        let Mapping { site, bytes, .. } = mapping;
        let slack_bytes = range.span_bytes() - bytes;
        let id = MappingId(self.mappings.insert(mapping) as u32);
        let Range { start, end } = range;
        self.ranges.insert(Piece { start, end, slack_bytes, mapping: id });
        match site {
            None => self.allocator.allocate(bytes),
            Some(site) => {
                self.program.allocate(bytes);
                books.sites.allocate(site, bytes);
            }
        }
    }

    /// Releases what a new range covers.
    fn replace(&mut self, range: Range, may_replace: bool, books: &mut Books) {
        let covered = self.take(range, books).pieces;
        if !covered.is_empty() && !may_replace {
            books.losses.count(Loss::ImpliedFree);
        }
        self.release(Taken { pieces: covered, unknown_bytes: 0 }, books);
    }

    fn take_pages(&mut self, address: u64, length_bytes: u64, books: &mut Books) -> Taken {
        match Range::of_pages(address, length_bytes, self.page_bytes) {
            Some(range) => self.take(range, books),
            None => Taken::default(),
        }
    }

    fn take(&mut self, range: Range, books: &mut Books) -> Taken {
        let count_before = self.ranges.piece_count();
        let pieces = self.ranges.remove(range.start, range.end);
        if self.ranges.piece_count() > count_before.max(self.limit) {
            self.drop_upper_rest(range.end, books);
        }
        let known_bytes: u64 = pieces.iter().map(Piece::span_bytes).sum();
        Taken { pieces, unknown_bytes: range.span_bytes() - known_bytes }
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

    fn close_open(
        &mut self,
        tid: u32,
        address: u64,
        length_bytes: u64,
        books: &mut Books,
    ) -> Taken {
        match self.open.close(tid) {
            Some(open) if (open.address, open.length_bytes) == (address, length_bytes) => {
                return open.taken;
            }
            Some(open) => self.abandon(open, books),
            None => {}
        }
        if length_bytes != 0 {
            books.losses.count(Loss::Unpaired);
        }
        self.take_pages(address, length_bytes, books)
    }

    fn abandon_open(&mut self, tid: u32, books: &mut Books) {
        if let Some(open) = self.open.close(tid) {
            self.abandon(open, books);
        }
    }

    fn abandon(&mut self, open: OpenRelease, books: &mut Books) {
        books.losses.count(Loss::Unpaired);
        self.release(open.taken, books);
    }

    fn restore(&mut self, taken: Taken, books: &mut Books) {
        for piece in taken.pieces {
            // Whatever was mapped there in the meantime (MAP_FIXED) is the newer truth.
            let newer = self.ranges.remove(piece.start, piece.end);
            self.ranges.insert(piece);
            for piece in newer {
                let covered = self.ranges.remove(piece.start, piece.end);
                self.ranges.insert(piece);
                covered.into_iter().for_each(|piece| self.release_piece(piece, books));
            }
        }
    }

    fn release(&mut self, taken: Taken, books: &mut Books) {
        self.unmatched_unmapped_bytes =
            self.unmatched_unmapped_bytes.saturating_add(taken.unknown_bytes);
        taken.pieces.into_iter().for_each(|piece| self.release_piece(piece, books));
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
        let released = Amount { bytes: piece.asked_bytes(), count: u64::from(is_last) };
        match mapping.site {
            None => self.allocator.release(released),
            Some(site) => {
                self.program.release(released);
                books.sites.release(site, released);
            }
        }
        if is_last {
            self.mappings.remove(key);
        }
    }

    fn is_of_allocator(&self, taken: &Taken) -> bool {
        !taken.pieces.is_empty()
            && taken.pieces.iter().all(|piece| {
                self.mappings
                    .get(piece.mapping.0 as usize)
                    .is_some_and(|mapping| mapping.site.is_none())
            })
    }
}
