//! What a walk finds in one arena.

use super::{
    arena::ArenaState, chain::Stretch, drawing::redraw, links::LARGEST_FAST_CHUNK_BYTES,
    movement::Movement, segment::Segment, tally::Tally, target::Pages,
};
use crate::model::{
    arena_map::{ArenaCell, ArenaMap},
    census::{Arena, WalkQuality},
    site::Amount,
};

/// An arena with what was found in it.
pub struct Part {
    /// Its state when its walk began.
    pub before: ArenaState,
    /// And when it ended.
    pub after: ArenaState,
    /// Chunks that came into fastbins or left them meanwhile.
    pub fast_changed: u64,
    /// Its memory.
    pub segments: Vec<Segment>,
    /// What was found.
    pub tally: Tally,
    /// The picture of it.
    pub map: ArenaMap,
    /// Chunks in tcaches.
    pub tcache: Amount,
    /// Chunks that are tcaches.
    pub structures: Amount,
    /// What was walked, in pieces.
    pub stretches: Vec<Stretch>,
    /// How what is in use changed since it was found.
    pub movement: Movement,
    /// Chunks that may be in a tcache or not.
    pub flowing_bytes: u64,
    /// Windows that were read again.
    pub retries: u64,
    /// Places where the chain was lost.
    pub resyncs: u64,
}

impl Part {
    /// An arena that is walked from now on.
    pub fn new(state: ArenaState, segments: Vec<Segment>) -> Self {
        Self {
            before: state,
            after: state,
            fast_changed: 0,
            segments,
            tally: Tally::default(),
            map: ArenaMap::default(),
            tcache: Amount::default(),
            structures: Amount::default(),
            stretches: Vec::new(),
            movement: Movement::default(),
            flowing_bytes: 0,
            retries: 0,
            resyncs: 0,
        }
    }

    /// A chunk that was taken for one in use is in a tcache.
    pub fn cached(&mut self, pages: &mut Pages<'_>, chunk: u64, size: u64) {
        let resident = self.take(pages, chunk, size, |cell| &mut cell.cached_bytes);
        self.tally.resident.cached_bytes += resident;
        self.tcache += Amount::one(size);
    }

    /// A chunk that was taken for one in use is a tcache itself.
    pub fn structure(&mut self, pages: &mut Pages<'_>, chunk: u64, size: u64) {
        let resident = self.take(pages, chunk, size, |cell| &mut cell.other_bytes);
        self.tally.resident.metadata_bytes += resident;
        self.structures += Amount::one(size);
    }

    /// Takes a chunk out of those in use; returns its resident bytes.
    fn take(
        &mut self,
        pages: &mut Pages<'_>,
        chunk: u64,
        size: u64,
        part: fn(&mut ArenaCell) -> &mut u64,
    ) -> u64 {
        let in_use = &mut self.tally.in_use;
        in_use.bytes = in_use.bytes.saturating_sub(size);
        in_use.count = in_use.count.saturating_sub(1);
        self.tally.in_use_sizes.remove(size);
        let bytes = redraw(&mut self.map, pages, (chunk, chunk.saturating_add(size)), part);
        self.tally.resident.in_use_bytes -= bytes;
        bytes
    }

    /// Whether anything was seen to change.
    pub fn has_changed(&self) -> bool {
        let seen = [self.movement.bound_bytes(), self.fast_changed, self.retries];
        self.before != self.after || seen != [0; 3]
    }

    /// The arena, as its number.
    pub fn arena(&self, index: u32) -> Arena {
        let tally = &self.tally;
        let system_bytes = self.after.system_bytes;
        let chunks = tally.in_use.bytes + tally.free.bytes + tally.fastbins.bytes;
        let others = chunks + tally.top_bytes + self.tcache.bytes;
        Arena {
            index,
            address: self.after.address,
            attached_threads: self.after.attached_threads,
            system_bytes,
            max_system_bytes: self.after.max_system_bytes,
            segments: self.segments.len() as u32,
            in_use: tally.in_use,
            in_use_sizes: tally.in_use_sizes,
            free: tally.free,
            top_bytes: tally.top_bytes,
            fastbins: tally.fastbins,
            tcache: self.tcache,
            overhead_bytes: system_bytes.saturating_sub(others),
            resident: tally.resident,
            map: self.map.clone(),
            quality: self.quality(),
        }
    }

    fn quality(&self) -> WalkQuality {
        let tally = &self.tally;
        WalkQuality {
            skipped_bytes: tally.skipped_bytes,
            retries: self.retries,
            resyncs: self.resyncs,
            swapped_bytes: tally.swapped_bytes,
            error_bound_bytes: sum([self.standing_bound_bytes(), self.movement.bound_bytes()]),
        }
    }

    /// How far its sums can be off by what was seen at each moment.
    pub fn standing_bound_bytes(&self) -> u64 {
        let tally = &self.tally;
        let walked = tally.walked_bytes() + self.tcache.bytes + self.structures.bytes;
        let grown = self.after.system_bytes.abs_diff(self.before.system_bytes);
        let unexplained = self.after.system_bytes.abs_diff(walked);
        let fast = self.fast_changed * LARGEST_FAST_CHUNK_BYTES;
        let unread = [tally.skipped_bytes, tally.swapped_bytes];
        sum(unread.into_iter().chain([grown, unexplained, fast, self.flowing_bytes]))
    }
}

/// Adds up what the target says of itself: its words can be anything, and their sum too large.
pub fn sum(parts: impl IntoIterator<Item = u64>) -> u64 {
    parts.into_iter().fold(0, u64::saturating_add)
}
