//! The same by huge pages: one chunk in use holds all of one.

use std::cmp::Reverse;

use super::{
    Players,
    accounts::{Accounts, Holders},
    owners::Owner,
    page::Role,
    resident::Cursor,
};
use crate::model::blame::{Holder, HugeBlame};

/// All huge pages of all segments.
pub struct Huge {
    bytes: u64,
    players: usize,
    accounts: Accounts,
    unit: u64,
    holders: Holders,
    free_bytes: u64,
}

impl Huge {
    /// Of so many bytes each; so many may hold something.
    pub fn new(bytes: u64, players: usize) -> Self {
        let (accounts, holders) = (Accounts::new(players), Holders::new(players));
        Self { bytes, players, accounts, unit: 0, holders, free_bytes: 0 }
    }

    /// A page of the usual size that is in memory.
    pub fn page(&mut self, page: u64, holders: &[u32], free_bytes: u64) {
        self.show(page);
        holders.iter().for_each(|player| self.holders.add(*player));
        self.free_bytes += free_bytes;
    }

    /// Pages of one piece.
    pub fn range(&mut self, role: Role, start: u64, end: u64, resident: &Cursor<'_>) {
        let mut at = start;
        while at < end {
            let next = (at - at % self.bytes + self.bytes).min(end);
            self.show(at);
            match role {
                Role::Held(Owner { player, .. }) => self.holders.add(player),
                Role::Free | Role::Joins => self.free_bytes += resident.part(at, next),
                Role::Top => {}
            }
            at = next;
        }
    }

    fn show(&mut self, address: u64) {
        let unit = address - address % self.bytes;
        if unit != self.unit {
            self.close();
            self.unit = unit;
        }
    }

    /// What was seen of a huge page is all there is.
    pub fn close(&mut self) {
        self.accounts.hold(self.holders.all(), self.free_bytes);
        self.holders.clear();
        self.free_bytes = 0;
    }

    /// The sums.
    pub fn finish(mut self, players: Players) -> HugeBlame {
        self.close();
        let share = |number: u32| Holder {
            culprit: players.culprit(number),
            chunk_bytes: self.accounts.of(number).trapped_bytes,
        };
        let all = (0..self.players as u32).map(share);
        let mut shares: Vec<Holder> = all.filter(|share| share.chunk_bytes > 0).collect();
        shares.sort_by_key(|share| Reverse(share.chunk_bytes));
        let trapped_bytes = self.accounts.trapped_bytes();
        HugeBlame { page_bytes: self.bytes, trapped_bytes, shares }
    }
}
