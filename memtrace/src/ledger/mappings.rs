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

use super::{
    Books,
    heap::Caller,
    mapped::{MappedSet, Owner, Requester, Taken},
    pages::{MAP_FIXED, Range, rounding_bytes},
    pending::Pending,
};
use crate::model::loss::Loss;

/// A new range, and who obtained it.
#[derive(Clone, Copy, Debug)]
pub struct Mapped {
    /// Start.
    pub address: u64,
    /// As passed.
    pub length_bytes: u64,
    /// The caller.
    pub by: Requester,
}

/// Ranges taken out by a call that has not returned.
#[derive(Clone, Debug)]
struct OpenRelease {
    address: u64,
    length_bytes: u64,
    taken: Taken,
}

/// Mapped ranges and the calls that change them.
#[derive(Debug)]
pub struct Mappings {
    page_bytes: u64,
    program_break: Option<u64>,
    mapped: MappedSet,
    open: Pending<OpenRelease>,
}

impl Mappings {
    /// Makes the books for at most `limit` ranges of pages of this size.
    pub fn new(limit: usize, page_bytes: u64, program_break: Option<u64>) -> Self {
        let (mapped, open) = (MappedSet::new(limit), Pending::default());
        Self { page_bytes, program_break, mapped, open }
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
            self.mapped.restore(taken, books);
        } else {
            self.mapped.release(taken, books);
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
            self.mapped.restore(taken, books);
            return;
        }
        let mut by = new.by;
        if self.mapped.is_of_allocator(&taken) {
            by.owner = Owner::Allocator;
        }
        self.mapped.release(taken, books);
        // With MREMAP_FIXED, which is not reported, it may replace others.
        self.place(caller.time_ns, Mapped { by, ..new }, self.page_bytes, true, books);
    }

    /// The program break moved; `old_break` is 0 when the call did not tell.
    pub fn move_break(
        &mut self,
        caller: Caller,
        old_break: u64,
        new_break: u64,
        by: Requester,
        books: &mut Books,
    ) {
        self.abandon_open(caller.tid, books);
        let known = self.program_break.replace(new_break);
        let Some(old_break) = Some(old_break).filter(|old| *old != 0).or(known) else {
            return;
        };
        if let Some(grown) = Range::new(old_break, new_break) {
            self.mapped.replace(grown, false, books);
            self.mapped.map_break(grown, caller.time_ns, by, books);
        } else if let Some(shrunk) = Range::new(new_break, old_break) {
            let taken = self.mapped.take(shrunk, books);
            self.mapped.release(taken, books);
        }
    }

    /// The thread is gone.
    pub fn thread_exit(&mut self, tid: u32, books: &mut Books) {
        self.abandon_open(tid, books);
    }

    /// The address space is gone.
    pub fn discard(&mut self) {
        self.mapped.discard();
        self.open.clear();
        self.program_break = None;
    }

    /// What is mapped; ranges of open calls too.
    pub fn mapped(&self) -> &MappedSet {
        &self.mapped
    }

    /// Calls that have not returned.
    pub fn open_calls(&self) -> usize {
        self.open.open_calls()
    }

    fn place(
        &mut self,
        time_ns: u64,
        new: Mapped,
        rounding_bytes: u64,
        may_replace: bool,
        books: &mut Books,
    ) {
        let Mapped { address, length_bytes, by } = new;
        let Some(range) = Range::of_pages(address, length_bytes, rounding_bytes) else {
            books.losses.count(Loss::Undecodable); // no kernel maps this
            return;
        };
        self.mapped.replace(range, may_replace, books);
        self.mapped.map(range, length_bytes, time_ns, by, books);
    }

    fn take_pages(&mut self, address: u64, length_bytes: u64, books: &mut Books) -> Taken {
        match Range::of_pages(address, length_bytes, self.page_bytes) {
            Some(range) => self.mapped.take(range, books),
            None => Taken::default(),
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
        self.mapped.release(open.taken, books);
    }
}
