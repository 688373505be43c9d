//! Who keeps free memory from being given back: the layout of the heaps joined with what is known
//! of their blocks. docs/blame.md has the definitions.

pub mod accounts;
mod arena;
mod holes;
mod huge;
mod owners;
mod page;
mod pins;
mod resident;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;

pub use self::holes::{Freed, Hole};
use self::{arena::arena, holes::Holes, owners::Owners, page::Pages, resident::Cursor};
use crate::model::{
    blame::{Blame, Culprit, Share},
    layout::HeapLayout,
    site::LiveItem,
};

/// What blame is computed from.
#[derive(Clone, Copy, Debug)]
pub struct BlameInput<'i> {
    /// Where everything lies at the end.
    pub layout: &'i HeapLayout,
    /// Where it lay near the start; tells blocks from before the trace from those that were not
    /// looked at.
    pub before: Option<&'i HeapLayout>,
    /// Blocks whose site is known, by address, ascending.
    pub live: &'i [LiveItem],
    /// For each site the number of the culprit that it is part of; sites beyond are their own.
    pub culprits: &'i [u32],
    /// Every allocation was looked at and seen: what is not known is from before the trace.
    pub is_exact: bool,
    /// `CLOCK_MONOTONIC` at the end, for ages.
    pub closed_ns: u64,
}

/// Those who are no sites come behind them.
const OTHERS: [Culprit; 4] =
    [Culprit::AllocatorCache, Culprit::BeforeAttach, Culprit::NotSampled, Culprit::Allocator];

/// Everybody, by number.
#[derive(Clone, Copy, Debug)]
struct Players {
    sites: u32,
}

impl Players {
    fn of(input: &BlameInput<'_>) -> Self {
        let known = input.culprits.iter().map(|culprit| culprit + 1).max();
        let beyond = input.live.iter().map(|item| item.site + 1).max();
        let beyond = beyond.filter(|sites| *sites as usize > input.culprits.len());
        Self { sites: known.max(beyond).unwrap_or(0) }
    }

    fn count(self) -> usize {
        self.sites as usize + OTHERS.len()
    }

    fn number(self, culprit: Culprit) -> u32 {
        match culprit {
            Culprit::Site(site) => site,
            Culprit::AllocatorCache => self.sites,
            Culprit::BeforeAttach => self.sites + 1,
            Culprit::NotSampled => self.sites + 2,
            Culprit::Allocator => self.sites + 3,
        }
    }

    fn culprit(self, number: u32) -> Culprit {
        match number.checked_sub(self.sites) {
            None => Culprit::Site(number),
            Some(other) => OTHERS.get(other as usize).copied().unwrap_or(Culprit::Allocator),
        }
    }
}

/// Finds out.
pub fn blame(input: &BlameInput<'_>) -> Blame {
    blame_with_holes(input, 0).0
}

/// The same, with at most so many holes of those who are sites, in ascending order.
pub fn blame_with_holes(input: &BlameInput<'_>, most_holes: usize) -> (Blame, Vec<Hole>) {
    let players = Players::of(input);
    let mut owners = Owners::new(input, players);
    let mut pages = Pages::new(input, players);
    pages.holes = (most_holes > 0).then(|| Holes::new(most_holes, players.sites));
    let (mut tops, mut stranded) = (Vec::new(), Vec::new());
    for layout in &input.layout.arenas {
        let found = arena(layout, players, &mut owners, &mut pages);
        tops.extend(found.top);
        stranded.extend(found.stranded);
    }
    mapped(input, &mut owners, &mut pages);
    let shares = shares(input, players, &owners, &pages);
    let is_site = |share: &&Share| matches!(share.culprit, Culprit::Site(_));
    let is_in_use = |share: &&Share| share.culprit != Culprit::AllocatorCache;
    let chunk_bytes = |share: &Share| share.chunk_bytes;
    let holes = pages.holes.take().map(Holes::finish).unwrap_or_default();
    let blame = Blame {
        at_ns: input.layout.at_ns,
        page_bytes: input.layout.page_bytes,
        trapped_bytes: pages.accounts.trapped_bytes(),
        returnable_bytes: pages.returnable_bytes,
        live_bytes: shares.iter().filter(is_in_use).map(chunk_bytes).sum(),
        traced_bytes: shares.iter().filter(is_site).map(chunk_bytes).sum(),
        left_out_bytes: input.layout.left_out_bytes,
        shares,
        tops,
        stranded,
        huge: pages.huge.take().map(|huge| huge.finish(players)),
    };
    (blame, holes)
}

/// Blocks that were mapped one by one hold nothing but themselves.
fn mapped(input: &BlameInput<'_>, owners: &mut Owners<'_>, pages: &mut Pages<'_>) {
    let mut resident = Cursor::new(&input.layout.resident);
    for block in &input.layout.mapped {
        let owner = owners.of_mapped(*block);
        let bytes = resident.bytes(block.start, block.end);
        owners.count(owner.player, block.bytes(), bytes);
        pages.accounts.depend(owner.player, 0, bytes);
    }
}

fn shares(
    input: &BlameInput<'_>,
    players: Players,
    owners: &Owners<'_>,
    pages: &Pages<'_>,
) -> Vec<Share> {
    let ages = pages.pins.ages(input, players);
    let share = |number: u32| {
        let (sums, chunks) = (pages.accounts.of(number), owners.chunks(number));
        let ages = ages[number as usize];
        Share {
            culprit: players.culprit(number),
            trapped_bytes: sums.trapped_bytes,
            exclusive_bytes: sums.exclusive_bytes,
            drop_bytes: sums.drop_bytes,
            chunk_bytes: chunks.bytes,
            chunks: chunks.count,
            resident_bytes: chunks.resident_bytes,
            pins: ages.pins,
            median_age_ns: ages.median_ns,
            oldest_age_ns: ages.oldest_ns,
        }
    };
    let all = (0..players.count() as u32).map(share);
    let mut shares: Vec<Share> =
        all.filter(|it| it.chunks > 0 || it.trapped_bytes > 0 || it.drop_bytes > 0).collect();
    shares
        .sort_by_key(|it| (Reverse((it.trapped_bytes, it.drop_bytes, it.chunk_bytes)), it.culprit));
    shares
}
