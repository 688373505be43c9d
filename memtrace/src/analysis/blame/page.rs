//! Page by page through a segment: who holds each, and what on it is free.

use super::{
    BlameInput, Players,
    accounts::{Accounts, Holders},
    holes::Holes,
    huge::Huge,
    owners::Owner,
    pins::Pins,
    resident::Cursor,
};
use crate::model::{blame::Culprit, census::Extent};

/// What a free chunk needs at its start, so that `malloc_trim` leaves it: `malloc_chunk` with the
/// links of large chunks (`malloc/malloc.c`, `mtrim`).
const FREE_HEADER_BYTES: u64 = 0x30;

/// What a piece is for its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It holds them.
    Held(Owner),
    /// It is free, and trapped where somebody holds the page.
    Free,
    /// It joins free chunks beside it when the heap is trimmed: a chunk in a fastbin.
    Joins,
    /// The end of a heap.
    Top,
}

/// The last piece that holds something.
#[derive(Clone, Copy, Debug)]
struct Blocker {
    player: u32,
    end: u64,
}

/// All pages of all segments.
pub struct Pages<'i> {
    /// Who holds how much.
    pub accounts: Accounts,
    /// Free bytes on pages that trimming gives back.
    pub returnable_bytes: u64,
    /// By huge pages.
    pub huge: Option<Huge>,
    /// Blocks on pages with trapped bytes.
    pub pins: Pins,
    /// Free parts of pages that sites hold, where they are wanted.
    pub holes: Option<Holes>,
    parts: Vec<Extent>,
    page_bytes: u64,
    allocator: u32,
    resident: Cursor<'i>,
    /// The page that is being looked at.
    page: u64,
    holders: Holders,
    items: Vec<u32>,
    free_bytes: u64,
    joining_bytes: u64,
    /// The last who holds something, and the last that is another one's.
    last: Blocker,
    other: Blocker,
}

impl<'i> Pages<'i> {
    /// None yet.
    pub fn new(input: &BlameInput<'i>, players: Players) -> Self {
        let allocator = players.number(Culprit::Allocator);
        let nobody = Blocker { player: allocator, end: 0 };
        let huge_bytes = input.layout.huge_page_bytes;
        let page_bytes = input.layout.page_bytes.max(1);
        let is_huge = huge_bytes > page_bytes && huge_bytes.is_multiple_of(page_bytes);
        Self {
            accounts: Accounts::new(players.count()),
            returnable_bytes: 0,
            huge: is_huge.then(|| Huge::new(huge_bytes, players.count())),
            pins: Pins::new(input.live.len()),
            holes: None,
            parts: Vec::new(),
            page_bytes,
            allocator,
            resident: Cursor::new(&input.layout.resident),
            page: 0,
            holders: Holders::new(players.count()),
            items: Vec::new(),
            free_bytes: 0,
            joining_bytes: 0,
            last: nobody,
            other: nobody,
        }
    }

    /// What is in memory from an address on.
    pub fn resident_from(&self, address: u64) -> Cursor<'i> {
        let mut resident = self.resident.clone();
        resident.seek(address);
        resident
    }

    /// A segment begins. What is before it on its first page is not the heap's.
    pub fn begin(&mut self, start: u64) {
        self.resident.seek(start);
        self.page = start - start % self.page_bytes;
        let edge = Blocker { player: self.allocator, end: start };
        (self.last, self.other) = (edge, edge);
        if self.page < start {
            self.holders.add(self.allocator);
        }
    }

    /// The segment ends; what is behind it on its last page is not the heap's.
    pub fn end(&mut self, end: u64) {
        if !end.is_multiple_of(self.page_bytes) {
            self.holders.add(self.allocator);
        }
        self.close();
        self.huge.iter_mut().for_each(Huge::close);
    }

    /// The next piece.
    #[inline]
    pub fn piece(&mut self, role: Role, extent: Extent) {
        let Extent { start, end } = extent;
        let page_end = self.page + self.page_bytes;
        if end <= page_end && start >= self.page {
            self.touch(role, extent);
        } else {
            self.across(role, extent);
        }
        if let Role::Held(Owner { player, .. }) = role {
            self.block(player, end);
        }
    }

    /// Of a large piece only the first two pages and the last can be another one's, too, or have
    /// the header of a free chunk before it.
    fn across(&mut self, role: Role, Extent { start, end }: Extent) {
        let page_bytes = self.page_bytes;
        let last = (end - 1) - (end - 1) % page_bytes;
        let mut at = start;
        for _ in 0..2 {
            let next = (at - at % page_bytes + page_bytes).min(end);
            self.show(at);
            self.touch(role, Extent { start: at, end: next });
            at = next;
            if at >= end {
                return;
            }
        }
        if at < last {
            self.close();
            self.inside(role, at, last);
            at = last;
        }
        self.show(at);
        self.touch(role, Extent { start: at, end });
    }

    /// Whole pages of one piece.
    fn inside(&mut self, role: Role, start: u64, end: u64) {
        let bytes = self.resident.bytes(start, end);
        match role {
            Role::Held(Owner { player, .. }) => self.accounts.depend(player, 0, bytes),
            Role::Free | Role::Joins => self.returnable_bytes += bytes,
            Role::Top => {}
        }
        if let Some(huge) = &mut self.huge {
            huge.range(role, start, end, &self.resident);
        }
    }

    /// Goes to the page of an address.
    fn show(&mut self, address: u64) {
        let page = address - address % self.page_bytes;
        if page != self.page {
            self.close();
            self.page = page;
        }
    }

    #[inline]
    fn touch(&mut self, role: Role, part: Extent) {
        let bytes = part.bytes();
        match role {
            Role::Held(Owner { player, item }) => {
                self.holders.add(player);
                self.items.extend(item);
            }
            Role::Free => {
                self.free_bytes += bytes;
                if self.holes.is_some() {
                    self.parts.push(part);
                }
            }
            Role::Joins => self.joining_bytes += bytes,
            Role::Top => {}
        }
    }

    fn block(&mut self, player: u32, end: u64) {
        if self.last.player != player {
            self.other = self.last;
        }
        self.last = Blocker { player, end };
    }

    /// The page is over.
    fn close(&mut self) {
        let is_touched = self.free_bytes + self.joining_bytes > 0 || !self.holders.all().is_empty();
        if is_touched && self.resident.bytes(self.page, self.page + self.page_bytes) > 0 {
            self.book();
        }
        self.holders.clear();
        self.items.clear();
        self.parts.clear();
        (self.free_bytes, self.joining_bytes) = (0, 0);
    }

    fn book(&mut self) {
        let free_bytes = self.free_bytes;
        if let Some(huge) = &mut self.huge {
            huge.page(self.page, self.holders.all(), free_bytes);
        }
        match *self.holders.all() {
            [] => self.book_free(),
            [one] => {
                let before = if self.last.player == one { self.other } else { self.last };
                self.accounts.hold(&[one], free_bytes);
                self.depend_on(one, before);
            }
            _ => self.accounts.hold(self.holders.all(), free_bytes),
        }
        if free_bytes > 0 {
            self.items.iter().for_each(|item| self.pins.add(*item));
            let (parts, holders) = (&self.parts, self.holders.all());
            self.holes.iter_mut().for_each(|holes| holes.page(parts, holders));
        }
    }

    /// The page goes with the one who holds it, unless the header of the free chunk that comes to be
    /// is on it.
    fn depend_on(&mut self, one: u32, before: Blocker) {
        if before.end + FREE_HEADER_BYTES <= self.page {
            self.accounts.depend(one, self.free_bytes, self.page_bytes);
        }
    }

    /// Nothing on it is in use: it is given back, or has the header of the free chunk, which begins
    /// where the chunk before ends: that one holds it.
    fn book_free(&mut self) {
        let last = self.last;
        let is_whole = self.free_bytes + self.joining_bytes == self.page_bytes;
        if is_whole && last.end + FREE_HEADER_BYTES <= self.page {
            self.returnable_bytes += self.page_bytes;
            return;
        }
        self.accounts.hold(&[last.player], self.free_bytes);
        if is_whole {
            self.depend_on(last.player, self.other);
        }
    }
}
