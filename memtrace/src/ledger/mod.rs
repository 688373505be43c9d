//! The accounting: what is live, who allocated it, and what was seen only in part.
//!
//! Events are applied in the order of the ring buffer, which is the order in which memory changed
//! hands (see `memtrace_common::wire`). At any time, for every site and in total,
//! allocated = live + freed + discarded by exec. The rules for heap blocks are in `heap.rs`,
//! those for address ranges in `mappings.rs`.
//!
//! Memory is bounded by [`Limits`]: what does not fit is counted as a loss.

pub mod account;
mod check;
mod crowded;
pub mod distribution;
mod heap;
mod index;
mod inherited;
mod live;
mod losses;
mod lot;
mod mapped;
mod mappings;
mod outlived;
mod pages;
mod pending;
mod ranges;
mod sites;
mod summit;
mod unseen;

pub use self::{
    account::Account,
    check::{LiveBlock, Suspects},
    distribution::Distribution,
    inherited::{HeapAtFork, InheritedHeap},
    sites::{SiteEntry, SiteId},
};
use memtrace_common::sample::Interval;

use self::{
    heap::{Caller, Heap, Reallocated},
    losses::LossCounts,
    mapped::{Owner, Requester},
    mappings::{Mapped, Mappings},
    outlived::Outlived,
    sites::SiteTable,
};
use crate::{
    analysis::survivors,
    model::{
        event::{Action, Event},
        loss::Loss,
        site::{Amount, LiveItem, Site, SiteStats, Survivors},
    },
};

/// The sizes of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Live heap blocks: 32 bytes each, touched when used, and 12 to 24 for finding them.
    pub live_blocks: usize,
    /// Contiguous mapped ranges: about 100 bytes each, allocated when used.
    pub live_ranges: usize,
    /// Sites: about 250 bytes each, allocated when used, and as much again where they are sampled.
    pub sites: usize,
}

/// What is known of the target when the window opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// The program break, where it is known.
    pub initial_break: Option<u64>,
    /// Bytes of a page, a power of two.
    pub page_bytes: u64,
}

/// Sums over the whole window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerTotals {
    /// malloc and kin.
    pub heap: SiteStats,
    /// mmap and kin, called by the program.
    pub mappings: SiteStats,
    /// mmap and kin, called by the allocator for itself.
    pub allocator_mappings: SiteStats,
    /// mmap, called by pymalloc for its arenas.
    pub pymalloc_arenas: SiteStats,
    /// Frees of blocks that are not known: from before the window, unless events were lost.
    pub unmatched_frees: u64,
    /// Unmapped bytes that are not known, in whole pages.
    pub unmatched_unmapped_bytes: u64,
    /// Heap and program mappings that were live when an exec discarded them.
    pub discarded_by_exec: Amount,
    /// Events applied.
    pub events: u64,
    /// Children forked.
    pub forks: u64,
    /// Programs executed.
    pub execs: u64,
    /// Threads that ended.
    pub thread_exits: u64,
    /// realloc, munmap and mremap calls that have been entered and have not returned.
    pub open_calls: u64,
}

/// What heap and mappings write to alike.
#[derive(Debug)]
struct Books {
    sites: SiteTable,
    losses: LossCounts,
    /// Books are wanted of what is obtained now.
    watched: bool,
    /// What was obtained before this may have been freed unseen.
    unseen_until_ns: u64,
    /// What became of blocks whose release may have been missed.
    outlived: Outlived,
}

impl Books {
    fn intern(&mut self, site: Site) -> SiteId {
        match self.watched {
            true => self.sites.intern(site, &mut self.losses),
            false => SiteId::UNWATCHED,
        }
    }
}

/// The accounting of one window.
#[derive(Debug)]
pub struct Ledger {
    start: Start,
    heap: Heap,
    mappings: Mappings,
    books: Books,
    counts: Counts,
}

/// Events that are only counted.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    events: u64,
    forks: u64,
    execs: u64,
    thread_exits: u64,
}

impl Ledger {
    /// Opens the books and allocates the tables.
    pub fn new(limits: Limits, start: Start) -> Self {
        Self {
            start,
            heap: Heap::new(limits.live_blocks),
            mappings: Mappings::new(limits.live_ranges, start.page_bytes, start.initial_break),
            books: Books {
                sites: SiteTable::new(limits.sites),
                losses: LossCounts::default(),
                watched: true,
                unseen_until_ns: 0,
                outlived: Outlived::default(),
            },
            counts: Counts::default(),
        }
    }

    /// Looks out for the moment at which all sites together have the most live bytes, from here on;
    /// see [`Self::at_summit`].
    pub fn watch_summit(&mut self) {
        self.books.sites.watch_summit();
    }

    /// Takes note of an event of which no books are wanted. What it obtains is in no site, total or
    /// distribution, but it is known: its release later on is not one of unknown memory. What it
    /// releases is released.
    pub fn apply_unwatched(&mut self, event: &Event) {
        self.books.watched = false;
        self.apply(event);
        self.books.watched = true;
    }

    /// Probes that see releases were not there for some time up to this: a block of before whose
    /// memory was handed out again since, or is free, is not one that was lost.
    pub fn releases_were_unseen_until(&mut self, time_ns: u64) {
        self.books.unseen_until_ns = time_ns;
    }

    /// Books an event. Any sequence of events is accepted; what does not add up is counted as a
    /// loss.
    pub fn apply(&mut self, event: &Event) {
        self.counts.events += u64::from(self.books.watched);
        let caller = caller(event);
        let site = |stack| Site { stack, function: event.function, object: event.object };
        let books = &mut self.books;
        match event.action {
            Action::Alloc { address, size_bytes, stack } => {
                self.heap.alloc(caller, address, size_bytes, site(stack), books);
            }
            Action::Free { address } => self.heap.free(caller, address, books),
            Action::ReallocBegin { old_address } => {
                self.heap.realloc_begin(caller, old_address, books);
            }
            Action::ReallocEnd { old_address, new_address, size_bytes, stack } => {
                let site = site(stack);
                let result = Reallocated { old_address, new_address, size_bytes, site };
                self.heap.realloc_end(caller, result, books);
            }
            Action::Fork => self.counts.forks += u64::from(self.books.watched),
            Action::Exec => self.exec(),
            Action::ThreadExit => self.thread_exit(event.tid),
            _ => self.apply_mapping(caller, event),
        }
    }

    /// Books a mapping as an arena of pymalloc. Its release is like any other.
    pub fn apply_arena(&mut self, event: &Event) {
        let Action::Map { address, length_bytes, map_flags, stack, .. } = event.action else {
            return self.apply(event);
        };
        self.counts.events += 1;
        let caller = caller(event);
        let site = Site { stack, function: event.function, object: event.object };
        let by = Requester { site, owner: Owner::Pymalloc };
        let mapped = Mapped { address, length_bytes, by };
        self.mappings.map(caller, mapped, map_flags, &mut self.books);
    }

    fn apply_mapping(&mut self, caller: Caller, event: &Event) {
        let Event { function, internal, .. } = *event;
        let owner = if internal { Owner::Allocator } else { Owner::Program };
        let by = |stack| Requester { site: Site { stack, function, object: event.object }, owner };
        let Self { mappings, books, .. } = self;
        match event.action {
            Action::Map { address, length_bytes, map_flags, stack, .. } => {
                let mapped = Mapped { address, length_bytes, by: by(stack) };
                mappings.map(caller, mapped, map_flags, books);
            }
            Action::UnmapBegin { address, length_bytes }
            | Action::RemapBegin { old_address: address, old_length_bytes: length_bytes } => {
                mappings.release_begin(caller, address, length_bytes, books);
            }
            Action::UnmapEnd { address, length_bytes, failed } => {
                mappings.unmap_end(caller, address, length_bytes, failed, books);
            }
            Action::RemapEnd {
                old_address,
                old_length_bytes,
                new_address,
                new_length_bytes,
                stack,
            } => {
                let (address, length_bytes) = (new_address, new_length_bytes);
                let new = Mapped { address, length_bytes, by: by(stack) };
                mappings.remap_end(caller, old_address, old_length_bytes, new, books);
            }
            Action::Break { old_break, new_break, stack } => {
                mappings.move_break(caller, old_break, new_break, by(stack), books);
            }
            _ => {}
        }
    }

    fn exec(&mut self) {
        self.counts.execs += u64::from(self.books.watched);
        self.heap.discard();
        self.mappings.discard();
        self.books.sites.discard();
    }

    fn thread_exit(&mut self, tid: u32) {
        self.counts.thread_exits += u64::from(self.books.watched);
        self.heap.thread_exit(tid, &mut self.books);
        self.mappings.thread_exit(tid, &mut self.books);
    }

    /// What was known when the window opened.
    pub fn start(&self) -> Start {
        self.start
    }

    /// The sums.
    pub fn totals(&self) -> LedgerTotals {
        let (heap, program) = (self.heap.account(), self.mappings.mapped().program_account());
        let mut discarded_by_exec = heap.discarded();
        discarded_by_exec += program.discarded();
        let Counts { events, forks, execs, thread_exits } = self.counts;
        LedgerTotals {
            heap: heap.stats(),
            mappings: program.stats(),
            allocator_mappings: self.mappings.mapped().allocator_account().stats(),
            pymalloc_arenas: self.mappings.mapped().pymalloc_account().stats(),
            unmatched_frees: self.heap.unmatched_frees(),
            unmatched_unmapped_bytes: self.mappings.mapped().unmatched_unmapped_bytes(),
            discarded_by_exec,
            events,
            forks,
            execs,
            thread_exits,
            open_calls: (self.heap.open_calls() + self.mappings.open_calls()) as u64,
        }
    }

    /// Heap and program mappings that are live.
    pub fn live_bytes(&self) -> u64 {
        let program = self.mappings.mapped().program_account().live().bytes;
        self.heap.account().live().bytes.saturating_add(program)
    }

    /// The highest [`Self::live_bytes`] so far, and how many highest ones there have been; `None`
    /// where nobody looked out for it.
    pub fn summit(&self) -> Option<(u64, u64)> {
        self.books.sites.summit().map(|summit| (summit.bytes(), summit.number()))
    }

    /// What a site had live when all of them together had the most; `None` where nobody looked out
    /// for it.
    pub fn at_summit(&self, site: SiteId) -> Option<Amount> {
        self.books.sites.at_summit(site)
    }

    /// Every site that allocated, in the order of first appearance.
    pub fn sites(&self) -> impl Iterator<Item = (SiteId, &SiteEntry)> {
        self.books.sites.iter()
    }

    /// By site, the live blocks and mappings that are at least `min_age_ns` old at `now_ns`; sites
    /// without any are left out. Blocks and ranges that an open call was given are among them.
    pub fn survivors(&self, now_ns: u64, min_age_ns: u64) -> Vec<(SiteId, Survivors)> {
        let slots = self.books.sites.id_count();
        let old_enough = || self.live_items().filter(|item| item.age_ns(now_ns) >= min_age_ns);
        let slot_of = |item: &LiveItem| item.site as usize;
        survivors::by_slot(old_enough, slot_of, LiveItem::amount, slots, now_ns)
            .into_iter()
            .map(|(slot, survivors)| (SiteId::at(slot), survivors))
            .collect()
    }

    /// Live blocks and the program's live mappings; their `site` is a [`SiteId::index`].
    pub fn live_items(&self) -> impl Iterator<Item = LiveItem> {
        let blocks = self.heap.blocks().map(|block| LiveItem {
            address: block.address.get(),
            bytes: block.size_bytes,
            time_ns: block.time_ns,
            site: block.site.index() as u32,
            interval: block.interval,
        });
        blocks.chain(self.mappings.mapped().live_items())
    }

    /// Address and requested bytes of every live heap block.
    pub fn heap_blocks(&self) -> impl Iterator<Item = (u64, u64)> {
        self.heap.blocks().map(|block| (block.address.get(), block.size_bytes))
    }

    /// Requested bytes of every heap block, reallocated ones anew.
    pub fn sizes(&self) -> &Distribution {
        self.heap.sizes()
    }

    /// Nanoseconds from allocation to free, of every heap block whose free was seen.
    pub fn lifetimes(&self) -> &Distribution {
        self.heap.lifetimes()
    }

    /// The largest mean distance of samples among heap blocks so far; exact where all were looked at.
    pub fn coarsest(&self) -> Interval {
        self.heap.account().coarsest()
    }

    /// Calls of which one half is missing so far.
    pub fn unpaired(&self) -> u64 {
        self.books.losses.unpaired()
    }

    /// What was missed of calls since there were so many unpaired ones has been made good for.
    pub fn settle_unpaired(&mut self, since: u64) {
        self.books.losses.settle_unpaired(since);
    }

    /// Every user-side loss that happened, with its count.
    pub fn losses(&self) -> impl Iterator<Item = (Loss, u64)> {
        self.books.losses.iter()
    }
}

fn caller(event: &Event) -> Caller {
    let Event { tid, time_ns, interval, .. } = *event;
    Caller { tid, time_ns, interval }
}

#[cfg(test)]
mod tests;
