//! The table of allocation sites.

use hashbrown::HashMap;

use super::{
    account::{Account, Entry},
    losses::LossCounts,
    summit::Summit,
};
use crate::model::{
    AllocFn,
    loss::Loss,
    site::{Amount, Site, SiteStats},
};

/// Names a site within one ledger; the default is [`Self::OTHERS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(u32);

impl SiteId {
    /// The sum of all sites that did not fit into the table.
    pub const OTHERS: Self = Self(0);

    /// Nobody's: what was obtained while no books were wanted. It is in no table.
    pub(super) const UNWATCHED: Self = Self(u32::MAX);

    /// The site at such a position.
    pub(super) fn at(index: usize) -> Self {
        Self(index as u32)
    }

    /// Position in tables that are kept by site.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One site and its books.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteEntry {
    /// Which; `None` for the sum of the sites that did not fit ([`SiteId::OTHERS`]).
    pub site: Option<Site>,
    /// What it allocated.
    pub account: Account,
}

/// Sites and their books, at most as many as given at the start.
#[derive(Debug)]
pub struct SiteTable {
    limit: usize,
    ids: HashMap<Site, SiteId>,
    /// By id; the first is [`SiteId::OTHERS`].
    entries: Vec<SiteEntry>,
    /// Where the summit is wanted.
    summit: Option<Summit>,
}

impl SiteTable {
    /// A table for at most `limit` sites. It grows with what there is: where memory is locked, all that is
    /// allocated at once is resident, and most programs have a few hundred sites.
    pub fn new(limit: usize) -> Self {
        Self { limit, ids: HashMap::new(), entries: vec![SiteEntry::default()], summit: None }
    }

    /// What a site has done so far.
    pub fn stats(&self, id: SiteId) -> Option<SiteStats> {
        self.entries.get(id.index()).map(|entry| entry.account.stats())
    }

    /// The id of a site, new or known; [`SiteId::OTHERS`], counted, when the table is full.
    pub fn intern(&mut self, site: Site, losses: &mut LossCounts) -> SiteId {
        if let Some(id) = self.ids.get(&site) {
            return *id;
        }
        if self.ids.len() >= self.limit {
            losses.count(Loss::SitesFull);
            return SiteId::OTHERS;
        }
        let id = SiteId(self.entries.len() as u32);
        self.entries.push(SiteEntry { site: Some(site), account: Account::default() });
        self.ids.insert(site, id);
        id
    }

    /// Looks out for the summit from here on.
    pub fn watch_summit(&mut self) {
        self.summit = Some(Summit::default());
    }

    /// The summit, where it was looked out for.
    pub fn summit(&self) -> Option<&Summit> {
        self.summit.as_ref()
    }

    /// Books a new block or range.
    pub fn allocate(&mut self, id: SiteId, entry: Entry) {
        let account = &mut self.entries[id.index()].account;
        let Some(summit) = &mut self.summit else { return account.allocate(entry) };
        let before = account.live();
        account.allocate(entry);
        // What rises and what falls again are differences of the same rounded numbers.
        summit.rise(id, before, account.live().bytes.wrapping_sub(before.bytes));
    }

    /// Books a release.
    pub fn release(&mut self, id: SiteId, released: Entry) {
        let account = &mut self.entries[id.index()].account;
        let Some(summit) = &mut self.summit else { return account.release(released) };
        let before = account.live();
        account.release(released);
        summit.fall(id, before, before.bytes.wrapping_sub(account.live().bytes));
    }

    /// Books the loss of everything live.
    pub fn discard(&mut self) {
        for (id, entry) in (0_u32..).map(SiteId).zip(&mut self.entries) {
            let live = entry.account.live();
            if let Some(summit) = &mut self.summit {
                summit.fall(id, live, live.bytes);
            }
            entry.account.discard();
        }
    }

    /// What a site had live at the summit.
    pub fn at_summit(&self, id: SiteId) -> Option<Amount> {
        let entry = self.entries.get(id.index())?;
        Some(self.summit.as_ref()?.of(id, entry.account.live()))
    }

    /// What a site calls; `None` for those that found no room.
    pub fn function(&self, id: SiteId) -> Option<AllocFn> {
        self.entries.get(id.index())?.site.map(|site| site.function)
    }

    /// Every site that has allocated, in the order of first appearance.
    pub fn iter(&self) -> impl Iterator<Item = (SiteId, &SiteEntry)> {
        (0_u32..).map(SiteId).zip(&self.entries).filter(|(_, entry)| entry.account.is_used())
    }

    /// Number of ids given out; every [`SiteId::index`] is below it.
    pub fn id_count(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stack::StackId;

    fn site(stack: u64) -> Site {
        Site { stack: StackId(stack), function: AllocFn::Malloc, object: Default::default() }
    }

    #[test]
    fn a_full_table_sums_new_sites_up_and_keeps_known_ones() {
        let mut losses = LossCounts::default();
        let mut sites = SiteTable::new(1);
        let known = sites.intern(site(1), &mut losses);
        assert_eq!(sites.intern(site(2), &mut losses), SiteId::OTHERS);
        assert_eq!(sites.intern(site(3), &mut losses), SiteId::OTHERS);
        assert_eq!(sites.intern(site(1), &mut losses), known);
        assert_eq!(losses.iter().collect::<Vec<_>>(), [(Loss::SitesFull, 2)]);
    }

    #[test]
    fn one_stack_that_calls_two_functions_is_two_sites() {
        let mut sites = SiteTable::new(8);
        let malloc = sites.intern(site(1), &mut LossCounts::default());
        let calloc = Site { function: AllocFn::Calloc, ..site(1) };
        assert_ne!(sites.intern(calloc, &mut LossCounts::default()), malloc);
    }
}
