//! The rules of malloc and kin.
//!
//! * A block that was obtained at an address that is still live proves that a free was not seen:
//!   the old block is booked as freed ([`Loss::ImpliedFree`]), without a lifetime.
//! * `realloc` makes its old block unfindable from `ReallocBegin` on, because another thread can
//!   be handed its address before `ReallocEnd`; until then it still counts as live. Success is a
//!   free and an allocation by the realloc's own site, also when the block stays in place.
//! * When a `ReallocEnd` is missing ([`Loss::Unpaired`], noticed at the thread's next heap event
//!   or its end), the old block is booked as freed: realloc seldom fails, and a block that is
//!   wrongly kept would be accused of never having been freed. A call that is still open when the
//!   window ends is no loss; its block is live.
//! * Blocks beyond the limit ([`Loss::LiveBlocksFull`]) are not booked at all, so that allocated =
//!   live + freed + discarded; their frees are unmatched.

use std::num::NonZeroU64;

use memtrace_common::sample::Interval;

use super::{
    Books,
    account::{Account, Entry},
    check::LiveBlock,
    distribution::Distribution,
    live::{Block, Inserted, LiveSet, Slot},
    outlived::End,
    pending::Pending,
    sites::SiteId,
};
use crate::model::{
    loss::Loss,
    site::{Amount, Site},
};

/// Who calls, and when.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Thread.
    pub tid: u32,
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// How densely blocks are looked at.
    pub interval: Interval,
}

/// The outcome of a `realloc`.
#[derive(Clone, Copy, Debug)]
pub struct Reallocated {
    /// The old block; 0 makes the call an allocation.
    pub old_address: u64,
    /// The new block; 0 on failure, or when the old block was freed for a size of 0.
    pub new_address: u64,
    /// Requested bytes.
    pub size_bytes: u64,
    /// Who calls realloc.
    pub site: Site,
}

/// A `realloc` that has not returned.
#[derive(Clone, Copy, Debug)]
struct OpenRealloc {
    old_address: u64,
    /// The old block; `None` when it was allocated before the window.
    old: Option<Slot>,
}

/// Heap blocks and their books.
#[derive(Debug)]
pub struct Heap {
    live: LiveSet,
    open: Pending<OpenRealloc>,
    account: Account,
    unmatched_frees: u64,
    sizes: Distribution,
    lifetimes: Distribution,
}

impl Heap {
    /// Allocates everything for at most `limit` live blocks.
    pub fn new(limit: usize) -> Self {
        Self {
            live: LiveSet::new(limit),
            open: Pending::default(),
            account: Account::default(),
            unmatched_frees: 0,
            sizes: Distribution::default(),
            lifetimes: Distribution::default(),
        }
    }

    /// A block was obtained.
    pub fn alloc(
        &mut self,
        caller: Caller,
        address: u64,
        size_bytes: u64,
        site: Site,
        books: &mut Books,
    ) {
        self.abandon_open(caller.tid, books);
        self.add(caller, address, size_bytes, site, books);
    }

    /// A block is being freed.
    pub fn free(&mut self, caller: Caller, address: u64, books: &mut Books) {
        self.abandon_open(caller.tid, books);
        match self.live.remove(address) {
            Some(block) => self.book_free(block, caller.time_ns, books),
            None => self.unmatched_frees += u64::from(books.watched),
        }
    }

    /// `realloc` was entered with a block.
    pub fn realloc_begin(&mut self, caller: Caller, old_address: u64, books: &mut Books) {
        self.abandon_open(caller.tid, books);
        if self.open.has_room() {
            let old = self.live.detach(old_address);
            self.open.open(caller.tid, OpenRealloc { old_address, old });
        }
    }

    /// `realloc` returned.
    pub fn realloc_end(&mut self, caller: Caller, result: Reallocated, books: &mut Books) {
        let Reallocated { old_address, new_address, size_bytes, site } = result;
        let old = self.close_open(caller.tid, old_address, books);
        let failed = new_address == 0 && size_bytes > 0;
        if failed {
            self.restore(old, books);
            return;
        }
        if old_address != 0 {
            self.free_old(old, caller.time_ns, books);
        }
        self.add(caller, new_address, size_bytes, site, books);
    }

    /// The thread is gone.
    pub fn thread_exit(&mut self, tid: u32, books: &mut Books) {
        self.abandon_open(tid, books);
    }

    /// The address space is gone.
    pub fn discard(&mut self) {
        self.live.clear();
        self.open.clear();
        self.account.discard();
    }

    /// Books a block as freed whose free was not seen by `time_ns`, if it is still this one. A block that an
    /// open realloc was given is not.
    pub fn free_unseen(
        &mut self,
        block: LiveBlock,
        time_ns: u64,
        books: &mut Books,
    ) -> Option<Amount> {
        let found = self.live.get(block.address)?;
        if found.time_ns != block.time_ns {
            return None;
        }
        let block = self.live.remove(block.address.get())?;
        count_unseen(Loss::FreedUnseen, &block, books);
        books.outlived.see_end(&block, time_ns, End::Gone);
        self.book_release(block, books);
        Some(Amount::one(block.size_bytes))
    }

    /// Live blocks that are in the books; those of open calls too.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.live.iter().filter(|block| block.site != SiteId::UNWATCHED)
    }

    /// The live block at an address, unless an open realloc was given it.
    pub fn block_at(&self, address: NonZeroU64) -> Option<LiveBlock> {
        let block = self.live.get(address)?;
        Some(block.into())
    }

    /// Who obtained a block, if it is still this one.
    pub fn site_of(&self, block: &LiveBlock) -> Option<SiteId> {
        let found = self.live.get(block.address)?;
        (found.time_ns == block.time_ns).then_some(found.site)
    }

    /// The books over all sites.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Frees (and reallocs) of blocks that are not known.
    pub fn unmatched_frees(&self) -> u64 {
        self.unmatched_frees
    }

    /// Requested bytes of every block.
    pub fn sizes(&self) -> &Distribution {
        &self.sizes
    }

    /// Nanoseconds from allocation to free.
    pub fn lifetimes(&self) -> &Distribution {
        &self.lifetimes
    }

    /// Reallocs that have not returned.
    pub fn open_calls(&self) -> usize {
        self.open.open_calls()
    }

    fn add(
        &mut self,
        caller: Caller,
        address: u64,
        size_bytes: u64,
        site: Site,
        books: &mut Books,
    ) {
        let Some(address) = NonZeroU64::new(address) else {
            return; // realloc to size 0
        };
        let site = books.intern(site);
        let Caller { time_ns, interval, .. } = caller;
        match self.live.insert(Block { address, size_bytes, time_ns, site, interval }) {
            Inserted::New => {}
            Inserted::Replaced(old) => {
                books.outlived.see_end(&old, time_ns, End::Reused);
                self.book_implied_free(old, books);
            }
            Inserted::Full => {
                books.losses.count(Loss::LiveBlocksFull);
                return;
            }
        }
        if site != SiteId::UNWATCHED {
            let entry = Entry { interval, ..Entry::one(size_bytes) };
            self.account.allocate(entry);
            books.sites.allocate(site, entry);
            self.sizes.record(size_bytes, interval.weight(size_bytes));
        }
    }

    /// The old block of a `realloc` that returned.
    fn close_open(&mut self, tid: u32, old_address: u64, books: &mut Books) -> Option<Slot> {
        match self.open.close(tid) {
            Some(open) if open.old_address == old_address => return open.old,
            Some(open) => self.abandon(open, books),
            None => {}
        }
        if old_address != 0 {
            books.losses.count(Loss::Unpaired);
        }
        self.live.detach(old_address)
    }

    fn abandon_open(&mut self, tid: u32, books: &mut Books) {
        if let Some(open) = self.open.close(tid) {
            self.abandon(open, books);
        }
    }

    fn abandon(&mut self, open: OpenRealloc, books: &mut Books) {
        books.losses.count(Loss::Unpaired);
        if let Some(block) = self.take_detached(open.old) {
            self.book_release(block, books);
        }
    }

    fn restore(&mut self, old: Option<Slot>, books: &mut Books) {
        if old.is_some_and(|slot| !self.live.attach(slot))
            && let Some(block) = self.take_detached(old)
        {
            self.book_implied_free(block, books);
        }
    }

    fn free_old(&mut self, old: Option<Slot>, time_ns: u64, books: &mut Books) {
        match self.take_detached(old) {
            Some(block) => self.book_free(block, time_ns, books),
            None => self.unmatched_frees += u64::from(books.watched),
        }
    }

    fn take_detached(&mut self, slot: Option<Slot>) -> Option<Block> {
        self.live.remove_detached(slot?)
    }

    fn book_free(&mut self, block: Block, time_ns: u64, books: &mut Books) {
        if block.site != SiteId::UNWATCHED {
            let weight = block.interval.weight(block.size_bytes);
            self.lifetimes.record(time_ns.saturating_sub(block.time_ns), weight);
        }
        books.outlived.see_end(&block, time_ns, End::Freed);
        self.book_release(block, books);
    }

    fn book_implied_free(&mut self, block: Block, books: &mut Books) {
        count_unseen(Loss::ImpliedFree, &block, books);
        self.book_release(block, books);
    }

    fn book_release(&mut self, block: Block, books: &mut Books) {
        if block.site != SiteId::UNWATCHED {
            let released = Entry { interval: block.interval, ..Entry::one(block.size_bytes) };
            self.account.release(released);
            books.sites.release(block.site, released);
        }
    }
}

/// Counts a free that was not seen, unless nothing was there to see it.
fn count_unseen(loss: Loss, block: &Block, books: &mut Books) {
    if block.time_ns >= books.unseen_until_ns {
        books.losses.count(loss);
    }
}
