//! The ring of arenas, and `mp_`.

use std::collections::HashSet;

use super::{
    layout::{Layout, ParameterLayout},
    shape::{ArenaShape, FASTBINS, NONCONTIGUOUS},
    target::{PresentMemory, Target},
};
use crate::model::census::MallocParameters;

/// A `malloc_state` as it was when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaState {
    /// Where it is.
    pub address: u64,
    /// Its memory may have gaps (`NONCONTIGUOUS_BIT`).
    pub noncontiguous: bool,
    /// The chunk at its end; `None` before its first use.
    pub top: Option<u64>,
    /// Heads of its fastbins; zeros where there are none.
    pub fastbins: [u64; FASTBINS],
    /// The next arena.
    pub next: u64,
    /// `attached_threads`, where it is counted.
    pub attached_threads: Option<u64>,
    /// `system_mem`.
    pub system_bytes: u64,
    /// `max_system_mem`.
    pub max_system_bytes: u64,
}

impl ArenaState {
    /// Reads one; `None` when it is not there.
    pub fn read(memory: &PresentMemory<'_>, shape: ArenaShape, address: u64) -> Option<Self> {
        // Nothing overflows from here on.
        address.checked_add(shape.size_bytes())?;
        let [system_bytes, max_system_bytes] = memory.words(address + shape.system_mem())?;
        Some(Self {
            address,
            noncontiguous: memory.half_word(address + 4)? & NONCONTIGUOUS != 0,
            top: Self::read_top(memory, shape, address)?,
            fastbins: match shape.fastbins() {
                Some(offset) => memory.words(address + offset)?,
                None => [0; FASTBINS],
            },
            next: memory.word(address + shape.next)?,
            attached_threads: match shape.attached_threads() {
                Some(offset) => Some(memory.word(address + offset)?),
                None => None,
            },
            system_bytes,
            max_system_bytes,
        })
    }

    /// `top`; `Some(None)` while it is `initial_top`, which is in the arena itself.
    pub fn read_top(
        memory: &PresentMemory<'_>,
        shape: ArenaShape,
        address: u64,
    ) -> Option<Option<u64>> {
        let top = memory.word(address + shape.top())?;
        let initial = address + shape.bins() - 0x10;
        Some((top != 0 && top != initial).then_some(top))
    }
}

/// More arenas than any setting of `arena_max` is good for.
const MOST_ARENAS: usize = 1 << 16;

/// Where a ring that is followed ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RingEnd {
    /// It came to the arena that it was to come to.
    Closed,
    /// The state of the arena at this address is in swap.
    InSwap(u64),
    /// It leads nowhere.
    #[default]
    Broken,
}

/// All arenas, the main one first.
pub fn ring(memory: &PresentMemory<'_>, layout: &Layout) -> (Vec<ArenaState>, RingEnd) {
    follow(memory, layout.shape, layout.main_arena, layout.main_arena)
}

/// The arenas from one to another, without the latter, unless they are the same.
pub fn follow(
    memory: &PresentMemory<'_>,
    shape: ArenaShape,
    from: u64,
    to: u64,
) -> (Vec<ArenaState>, RingEnd) {
    let mut arenas = Vec::new();
    let mut seen = HashSet::new();
    let mut address = from;
    while seen.insert(address) && arenas.len() < MOST_ARENAS {
        let Some(arena) = ArenaState::read(memory, shape, address) else {
            let is_swapped = memory.is_in_swap(address, address.saturating_add(shape.size_bytes()));
            return (arenas, if is_swapped { RingEnd::InSwap(address) } else { RingEnd::Broken });
        };
        arenas.push(arena);
        address = arena.next;
        if address == to {
            return (arenas, RingEnd::Closed);
        }
    }
    (arenas, RingEnd::Broken)
}

/// `mp_` as it was when it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// The settings.
    pub settings: MallocParameters,
    /// `n_mmaps`: blocks that are mapped one by one.
    pub map_count: u64,
    /// `mmapped_mem`.
    pub mapped_bytes: u64,
    /// `sbrk_base`: where the main arena starts, when it was ever extended.
    pub program_break: Option<u64>,
    /// `thp_pagesize`: huge pages that `top` is trimmed by, when they were asked for.
    pub transparent_huge_page_bytes: u64,
    /// `hp_pagesize`: pages of hugetlbfs that heaps consist of, when they were asked for.
    pub huge_page_bytes: u64,
}

impl Parameters {
    /// Reads them; `None` when they are not there.
    pub fn read(
        memory: &PresentMemory<'_>,
        target: &Target<'_>,
        layout: &ParameterLayout,
    ) -> Option<Self> {
        let words: [u64; 5] = memory.words(layout.address)?;
        let [trim_threshold_bytes, top_pad_bytes, mmap_threshold_bytes, _, arena_max] = words;
        let tcache_count = layout.tcache_count.and_then(|address| memory.word(address));
        let huge = |at: usize| layout.huge_page.and_then(|both| memory.word(both[at]));
        Some(Self {
            settings: MallocParameters {
                trim_threshold_bytes,
                top_pad_bytes,
                mmap_threshold_bytes,
                arena_max,
                tcache_count,
            },
            map_count: memory.half_word(layout.map_count)?.into(),
            mapped_bytes: memory.word(layout.mapped_bytes)?,
            program_break: program_break(memory, target, layout),
            transparent_huge_page_bytes: huge(0).unwrap_or(0),
            huge_page_bytes: huge(1).unwrap_or(0),
        })
    }
}

fn program_break(
    memory: &PresentMemory<'_>,
    target: &Target<'_>,
    layout: &ParameterLayout,
) -> Option<u64> {
    let candidates = layout.program_break.map(|address| memory.word(address).unwrap_or(0));
    let is_mapped = |address: &u64| {
        target.mapping(*address).is_some_and(|it| it.permissions.write && it.file.is_none())
    };
    candidates.into_iter().find(is_mapped)
}
