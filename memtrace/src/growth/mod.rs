//! The growth mode's view of a target: from what it asked of the kernel to what grew by it.
//!
//! The ledger keeps two books of it. Ranges are address space that can be used: what is only reserved
//! (`PROT_NONE`) does not count until `mprotect` permits its use, and from then on it belongs to who
//! did that. Blocks are pages in use, each from its first use until it is given back; they are a
//! sample, and each stands for as many bytes as its probability says.
//!
//! * A page belongs to whoever used it first, also after it was moved by `mremap`. To the ledger it
//!   has an id, by which it stays the same when it moves.
//! * A large page counts at its first address: giving back only a part of it that is not the first
//!   changes nothing.
//! * Pages that are used before the window are not known; giving them back changes nothing.

mod account;
mod pages;
mod ranges;

use std::collections::HashMap;

use self::{
    account::{Account, Differences},
    pages::{Page, Pages},
    ranges::{Range, Ranges},
};
use crate::model::{
    AllocFn,
    event::{Action, Event},
    mapping::{Mapping, Permissions},
    stack::StackId,
};

/// `PROT_NONE` of asm-generic/mman-common.h.
const PROT_NONE: u32 = 0;
/// `MAP_FIXED` of the same.
const MAP_FIXED: u32 = 0x10;
/// `MAP_POPULATE` of asm-generic/mman.h: its pages are used before the call returns.
const MAP_POPULATE: u32 = 0x8000;

/// Turns what the kernel side tells into what the ledger books.
#[derive(Debug)]
pub struct Growth {
    page_bytes: u64,
    program_break: Option<u64>,
    /// Address space that is taken and cannot be used.
    reserved: Ranges,
    pages: Pages,
    /// What calls that have not returned may take, by thread.
    open: HashMap<u32, Open>,
    /// What the kernel's word is set against, where calls may be missed.
    account: Option<Account>,
}

/// Address space that changed and was not seen to, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unseen {
    /// Was obtained.
    pub obtained_bytes: u64,
    /// Was given back.
    pub given_back_bytes: u64,
}

/// A call that has not returned.
#[derive(Debug, Default)]
struct Open {
    pages: Vec<(u64, Page)>,
    /// The ledger has not been told of it.
    is_hidden: bool,
}

impl Growth {
    /// Of a target with these mappings; `program_break` is where it is known.
    pub fn new(page_bytes: u64, program_break: Option<u64>, mappings: &[Mapping]) -> Self {
        let mut reserved = Ranges::default();
        let unusable = |mapping: &&Mapping| mapping.permissions == Permissions::default();
        for mapping in mappings.iter().filter(unusable) {
            reserved.add(Range { start: mapping.start, end: mapping.end });
        }
        let (pages, open) = (Pages::default(), HashMap::new());
        Self { page_bytes, program_break, reserved, pages, open, account: None }
    }

    /// Takes the process's mappings for what it has, from now on; see [`Self::deviation`].
    pub fn learn(&mut self, mappings: &[Mapping]) {
        match &mut self.account {
            Some(account) => account.learn(mappings),
            None => self.account = Some(Account::of(self.page_bytes, mappings)),
        }
    }

    /// By how much the process's address space, as the kernel said between the last time that this was
    /// asked and now, is more or less than can be by what was seen; `None` when that cannot be told.
    pub fn deviation(&mut self, kernel_bytes: Option<u64>) -> Option<i64> {
        self.account.as_mut()?.deviation(kernel_bytes)
    }

    /// To be called before mappings are read for [`Self::reconcile`].
    pub fn note_changes(&mut self) {
        if let Some(account) = &mut self.account {
            account.note_changes();
        }
    }

    /// Whether anything is known that [`Self::deviation`] can be told by.
    pub fn is_account_known(&self) -> bool {
        self.account.as_ref().is_some_and(Account::is_known)
    }

    /// Whether anything is known that [`Self::reconcile`] can tell by: less than that, see
    /// [`Self::is_account_known`].
    pub fn can_reconcile(&self) -> bool {
        self.account.as_ref().is_some_and(Account::has_differences)
    }

    /// Books what changed and was not seen to, as nobody's, if it is more than so much. All that was
    /// seen until the mappings were read must have been booked; `like` says when it is.
    pub fn reconcile(
        &mut self,
        mappings: &[Mapping],
        sane_bytes: u64,
        like: &Event,
        out: &mut Vec<Event>,
    ) -> Unseen {
        let Some(account) = &mut self.account else { return Unseen::default() };
        let differences = account.differences(mappings);
        let unseen = differences.sum();
        if unseen.obtained_bytes + unseen.given_back_bytes <= sane_bytes {
            return Unseen::default();
        }
        self.book_unseen(differences, like, out);
        unseen
    }

    fn book_unseen(&mut self, differences: Differences, like: &Event, out: &mut Vec<Event>) {
        for Range { start, end } in differences.gone {
            let (address, length_bytes) = (start, end - start);
            let function = AllocFn::Munmap;
            let begin = Action::UnmapBegin { address, length_bytes };
            let end = Action::UnmapEnd { address, length_bytes, failed: false };
            for action in [begin, end] {
                self.book(Event { function, action, ..like.clone() }, out);
            }
        }
        for (Range { start, end }, permissions) in differences.unseen {
            let (address, length_bytes) = (start, end - start);
            let prot = protection(permissions);
            let (map_flags, stack) = (MAP_FIXED | MAP_POPULATE, StackId::NONE);
            let action = Action::Map { address, length_bytes, prot, map_flags, stack };
            self.book(Event { function: AllocFn::Mmap, action, ..like.clone() }, out);
        }
    }

    /// Tells what the ledger is to book of an event.
    pub fn book(&mut self, event: Event, out: &mut Vec<Event>) {
        if let Some(account) = &mut self.account {
            account.see(&event);
        }
        match event.action {
            Action::Alloc { address, .. } => self.use_page(event, address, out),
            Action::Map { .. } => self.map(event, out),
            Action::Protect { .. } => self.protect(event, out),
            Action::Discard { address, length_bytes } => {
                let pages = self.take_pages(address, length_bytes);
                self.free(&event, &pages, out);
            }
            Action::UnmapBegin { address, length_bytes }
            | Action::RemapBegin { old_address: address, old_length_bytes: length_bytes } => {
                self.open(event, address, length_bytes, out);
            }
            Action::UnmapEnd { failed, .. } => self.unmap(event, failed, out),
            Action::RemapEnd { .. } => self.remap(event, out),
            Action::Break { new_break, .. } => self.move_break(event, new_break, out),
            Action::Exec => {
                let account = self.account.take();
                *self = Self { account, ..Self::new(self.page_bytes, None, &[]) };
                out.push(event);
            }
            _ => out.push(event),
        }
    }

    fn use_page(&mut self, event: Event, address: u64, out: &mut Vec<Event>) {
        let Action::Alloc { size_bytes, stack, .. } = event.action else { return };
        // A copy on write, or a page that the kernel took away meanwhile.
        let pages = self.pages.take(Range { start: address, end: address + 1 });
        self.free(&event, &pages, out);
        let id = self.pages.add(address);
        // The sample stands for as many bytes as its probability says.
        let stands_for = (size_bytes as f64 * event.interval.weight(size_bytes)).round() as u64;
        let action = Action::Alloc { address: id, size_bytes: stands_for, stack };
        out.push(Event { action, interval: Default::default(), ..event });
    }

    fn map(&mut self, event: Event, out: &mut Vec<Event>) {
        let Action::Map { address, length_bytes, prot, map_flags, .. } = event.action else {
            return;
        };
        let Some(range) = self.range(address, length_bytes) else { return };
        let replaces = map_flags & MAP_FIXED != 0;
        if replaces && map_flags & MAP_POPULATE == 0 {
            let pages = self.pages.take(range);
            self.free(&event, &pages, out);
        }
        if prot != PROT_NONE {
            self.reserved.remove(range);
            out.push(event);
            return;
        }
        if replaces {
            self.release(&event, range, out);
        }
        self.reserved.add(range);
    }

    /// What could not be used and can be from now on has grown by this; the rest is as it was.
    fn protect(&mut self, event: Event, out: &mut Vec<Event>) {
        let Action::Protect { address, length_bytes, prot, stack } = event.action else { return };
        let Some(range) = self.range(address, length_bytes) else { return };
        if prot == PROT_NONE {
            self.release(&event, range, out);
            self.reserved.add(range);
            return;
        }
        for grown in self.reserved.within(range) {
            let (address, length_bytes) = (grown.start, grown.end - grown.start);
            let map_flags = MAP_FIXED;
            let action = Action::Map { address, length_bytes, prot, map_flags, stack };
            out.push(Event { action, ..event.clone() });
        }
        self.reserved.remove(range);
    }

    /// A range that can be used no longer.
    fn release(&self, event: &Event, range: Range, out: &mut Vec<Event>) {
        for used in self.reserved.without(range) {
            let (address, length_bytes) = (used.start, used.end - used.start);
            let begin = Action::UnmapBegin { address, length_bytes };
            let end = Action::UnmapEnd { address, length_bytes, failed: false };
            out.extend([begin, end].map(|action| Event { action, ..event.clone() }));
        }
    }

    fn open(&mut self, event: Event, address: u64, length_bytes: u64, out: &mut Vec<Event>) {
        self.close_lost(&event, out);
        let pages = self.take_pages(address, length_bytes);
        let range = self.range(address, length_bytes);
        let is_hidden = range.is_some_and(|range| !self.reserved.within(range).is_empty());
        let tid = event.tid;
        match (event.action.clone(), range) {
            (Action::UnmapBegin { .. }, Some(range)) if is_hidden => {
                self.release(&event, range, out);
            }
            (Action::RemapBegin { .. }, _) if is_hidden => {}
            _ => out.push(event),
        }
        self.open.insert(tid, Open { pages, is_hidden });
    }

    /// A call of this thread whose end was not seen is taken for a success.
    fn close_lost(&mut self, event: &Event, out: &mut Vec<Event>) {
        if let Some(open) = self.open.remove(&event.tid) {
            self.free(event, &open.pages, out);
        }
    }

    fn unmap(&mut self, event: Event, failed: bool, out: &mut Vec<Event>) {
        let Action::UnmapEnd { address, length_bytes, .. } = event.action else { return };
        let open = self.open.remove(&event.tid).unwrap_or_default();
        if failed {
            self.pages.put_back(open.pages, 0);
        } else {
            self.free(&event, &open.pages, out);
            if let Some(range) = self.range(address, length_bytes) {
                self.reserved.remove(range);
            }
        }
        if !open.is_hidden {
            out.push(event);
        }
    }

    fn remap(&mut self, event: Event, out: &mut Vec<Event>) {
        let Action::RemapEnd {
            old_address, old_length_bytes, new_address, new_length_bytes, ..
        } = event.action
        else {
            return;
        };
        let mut open = self.open.remove(&event.tid).unwrap_or_default();
        if new_address == 0 {
            self.pages.put_back(open.pages, 0);
        } else {
            let kept_end = old_address.saturating_add(new_length_bytes);
            let cut = open.pages.iter().position(|(at, _)| *at >= kept_end);
            let beyond = open.pages.split_off(cut.unwrap_or(open.pages.len()));
            self.free(&event, &beyond, out);
            self.pages.put_back(open.pages, new_address.wrapping_sub(old_address));
        }
        if !open.is_hidden {
            out.push(event);
        } else if let Some((old, new)) = self
            .range(old_address, old_length_bytes)
            .zip(self.range(new_address, new_length_bytes))
            .filter(|_| new_address != 0)
        {
            self.reserved.remove(old);
            self.reserved.add(new);
        }
    }

    fn move_break(&mut self, event: Event, new_break: u64, out: &mut Vec<Event>) {
        let before = self.program_break.replace(new_break);
        if let Some(before) = before.filter(|before| *before > new_break) {
            let pages = self.pages.take(Range { start: new_break, end: before });
            self.free(&event, &pages, out);
        }
        out.push(event);
    }

    /// Pages that were taken out are given back.
    fn free(&mut self, event: &Event, pages: &[(u64, Page)], out: &mut Vec<Event>) {
        self.pages.forget(pages);
        let function = AllocFn::PageFault;
        out.extend(pages.iter().map(|(_, page)| {
            let action = Action::Free { address: page.id };
            Event { function, action, interval: Default::default(), ..event.clone() }
        }));
    }

    fn take_pages(&mut self, address: u64, length_bytes: u64) -> Vec<(u64, Page)> {
        self.range(address, length_bytes).map(|range| self.pages.take(range)).unwrap_or_default()
    }

    fn range(&self, address: u64, length_bytes: u64) -> Option<Range> {
        pages_of(address, length_bytes, self.page_bytes)
    }
}

/// The pages of a range; `None` when it is empty or no address space holds it.
fn pages_of(address: u64, length_bytes: u64, page_bytes: u64) -> Option<Range> {
    let end = address.checked_add(length_bytes)?.checked_next_multiple_of(page_bytes)?;
    let start = address - address % page_bytes;
    (length_bytes > 0).then_some(Range { start, end })
}

/// `PROT_*` bits.
fn protection(permissions: Permissions) -> u32 {
    u32::from(permissions.read)
        | u32::from(permissions.write) << 1
        | u32::from(permissions.execute) << 2
}

#[cfg(test)]
mod tests;
