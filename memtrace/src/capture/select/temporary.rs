//! What was freed by the thread that obtained it, before it obtained anything else: buffers that a
//! loop could keep, arguments that a call copies.
//!
//! A `realloc` frees its old block and obtains another, so that a block that only grew is temporary. What
//! the allocator obtains for itself in between does not count.

use hashbrown::HashMap;
use memtrace_common::sample::Interval;

use crate::{
    ledger::Ledger,
    model::{
        event::{Action, Event},
        site::{Amount, Site},
        stack::StackId,
    },
};

/// The last that each thread obtained, and what turned out to be temporary.
#[derive(Debug, Default)]
pub struct Temporary {
    last: HashMap<u32, Obtained>,
    by_site: HashMap<Site, Amount>,
}

/// A block or a range.
#[derive(Clone, Copy, Debug)]
struct Obtained {
    address: u64,
    bytes: u64,
    time_ns: u64,
    site: Site,
    interval: Interval,
    is_mapped: bool,
}

impl Temporary {
    /// Looks at an event that is in the books; to be called before the ledger has it.
    pub fn visit(&mut self, event: &Event, ledger: &Ledger) {
        let Event { tid, .. } = *event;
        match event.action {
            _ if event.internal => {}
            Action::Alloc { address, size_bytes, stack } => {
                self.obtain(event, address, size_bytes, stack, false);
            }
            Action::Map { address, length_bytes, stack, .. } => {
                self.obtain(event, address, length_bytes, stack, true);
            }
            Action::Free { address } => {
                self.forget_another(tid, address, ledger);
                self.release(tid, address, None);
            }
            Action::ReallocBegin { old_address } => self.forget_another(tid, old_address, ledger),
            Action::ReallocEnd { new_address: 0, size_bytes: 1.., .. }
            | Action::RemapEnd { new_address: 0, .. }
            | Action::UnmapEnd { failed: true, .. } => {}
            Action::ReallocEnd { old_address, new_address, size_bytes, stack } => {
                self.release(tid, old_address, None);
                self.obtain(event, new_address, size_bytes, stack, false);
            }
            Action::UnmapEnd { address, length_bytes, .. } => {
                self.release(tid, address, Some(length_bytes));
            }
            Action::RemapEnd {
                old_address,
                old_length_bytes,
                new_address,
                new_length_bytes,
                stack,
            } => {
                self.release(tid, old_address, Some(old_length_bytes));
                self.obtain(event, new_address, new_length_bytes, stack, true);
            }
            Action::Break { .. } | Action::ThreadExit => self.forget(tid),
            Action::Exec => self.last.clear(),
            _ => {}
        }
    }

    /// The thread obtained something that is not in the books.
    pub fn forget(&mut self, tid: u32) {
        self.last.remove(&tid);
    }

    /// By site.
    pub fn into_amounts(self) -> HashMap<Site, Amount> {
        self.by_site
    }

    fn obtain(&mut self, event: &Event, address: u64, bytes: u64, stack: StackId, is_mapped: bool) {
        let site = Site { stack, function: event.function, object: event.object };
        let Event { time_ns, interval, .. } = *event;
        let obtained = Obtained { address, bytes, time_ns, site, interval, is_mapped };
        self.last.insert(event.tid, obtained);
    }

    /// What is at the address may be somebody else's by now.
    fn forget_another(&mut self, tid: u32, address: u64, ledger: &Ledger) {
        let Some(last) = self.last.get(&tid).filter(|last| last.address == address) else { return };
        if ledger.block_at(address).is_none_or(|block| block.time_ns != last.time_ns) {
            self.forget(tid);
        }
    }

    /// A block, or so many bytes of a range; a part of a range is not yet its end.
    fn release(&mut self, tid: u32, address: u64, mapped_bytes: Option<u64>) {
        let Some(last) = self.last.get(&tid).copied() else { return };
        let is_whole = mapped_bytes.is_none_or(|bytes| bytes >= last.bytes);
        if last.address == address && last.is_mapped == mapped_bytes.is_some() && is_whole {
            let amount = Amount::sampled(last.bytes, last.interval);
            *self.by_site.entry(last.site).or_default() += amount;
            self.forget(tid);
        }
    }
}
