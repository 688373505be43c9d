//! Arena after arena, and the caches of threads.

use super::{
    arena::ArenaState,
    chain::Chain,
    inquiry::Observer,
    links::{ArenaMap, Follower, fastbin_chunks},
    moment::{Moment, new_heaps},
    movement,
    part::Part,
    recording::Recording,
    segment::{Segment, Surveyor},
    tally::Tally,
    target::Pages,
    tcache::{self, Candidates, Tcaches},
};
use crate::model::census::Extent;

/// A walk that is under way.
pub struct Walker<'s> {
    surveyor: &'s Surveyor<'s>,
    /// Arenas that were walked, in the order of the ring.
    pub parts: Vec<Part>,
    /// The caches.
    pub tcaches: Tcaches,
    /// Writes down where everything lies, where that is wanted.
    pub recording: Option<Recording>,
}

impl<'s> Walker<'s> {
    /// Nothing walked yet.
    pub fn new(surveyor: &'s Surveyor<'s>) -> Self {
        Self { surveyor, parts: Vec::new(), tcaches: Tcaches::default(), recording: None }
    }

    /// The same, and writes down where everything lies, in so many bytes of code at most.
    pub fn recording(surveyor: &'s Surveyor<'s>, most_code_bytes: Option<usize>) -> Self {
        let recording = most_code_bytes.map(Recording::new);
        Self { recording, ..Self::new(surveyor) }
    }

    /// Walks all arenas and reads the caches; returns what may be one.
    pub fn arenas(&mut self, states: &[ArenaState], observer: &mut dyn Observer) -> Candidates {
        let most_in_bin = self.surveyor.parameters.settings.tcache_count;
        let mut candidates = Candidates::with_most_in_bin(most_in_bin);
        for (index, state) in (0..).zip(states) {
            observer.arena(index);
            self.recording.iter_mut().for_each(|recording| recording.arena(index));
            let part = self.arena(state, observer, &mut candidates);
            self.parts.push(part);
        }
        let map = self.map();
        self.tcaches = self.read_tcaches(&map, &candidates);
        self.book_tcaches(&map);
        self.recording.iter_mut().for_each(|recording| recording.settle(&self.tcaches));
        candidates
    }

    fn arena(
        &mut self,
        state: &ArenaState,
        observer: &mut dyn Observer,
        candidates: &mut Candidates,
    ) -> Part {
        let surveyor = self.surveyor;
        let Moment { state: before, mut segments } = Moment::of(surveyor, state);
        let memory = ArenaMap::new(extents(&segments).map(|extent| (extent, 0)).collect());
        let mut follower = Follower::new(surveyor.memory, &memory);
        let fast = fastbin_chunks(&mut follower, &before.fastbins);
        let mut chain = Chain::drawing(surveyor, observer, std::mem::take(candidates));
        chain.recording = self.recording.take();
        let mut tally = Tally::default();
        for segment in &mut segments {
            tally = chain.walk(state.address, segment, &fast, tally);
        }
        for mut heap in new_heaps(surveyor, &before, &segments) {
            tally = chain.walk(state.address, &mut heap, &fast, tally);
            segments.push(heap);
        }
        let (retries, resyncs) = (chain.retries, chain.resyncs);
        let stretches = std::mem::take(&mut chain.stretches);
        self.recording = chain.recording.take();
        let map;
        (*candidates, map) = chain.finish();
        surveyor.memory.forget();
        let after = surveyor.state(&before);
        let fast_again = fastbin_chunks(&mut follower, &after.fastbins);
        Part {
            after,
            fast_changed: changed(&fast, &fast_again),
            tally,
            map,
            stretches,
            retries,
            resyncs,
            ..Part::new(before, segments)
        }
    }

    /// The memory of all arenas.
    fn map(&self) -> ArenaMap {
        let numbered = (0..).zip(&self.parts);
        let ranges = numbered
            .flat_map(|(index, part)| extents(&part.segments).map(move |extent| (extent, index)));
        ArenaMap::new(ranges.collect())
    }

    fn read_tcaches(&self, map: &ArenaMap, candidates: &Candidates) -> Tcaches {
        self.surveyor.memory.forget();
        tcache::read(&mut Follower::new(self.surveyor.memory, map), candidates)
    }

    /// Reads once more what tells how much changed during the walk.
    pub fn read_again(&mut self, candidates: &Candidates) {
        let again = self.read_tcaches(&self.map(), candidates);
        let caches = &self.tcaches.chunks;
        let all = self.parts.iter().map(|part| part.stretches.len()).sum();
        for part in &mut self.parts {
            part.movement = movement::measure(self.surveyor, part, caches, all);
        }
        let is_busy = again.chunks != *caches || self.parts.iter().any(Part::has_changed);
        let busy = self.parts.iter_mut().filter(|_| is_busy);
        // Whatever is cached goes in and out all the time.
        busy.for_each(|part| part.flowing_bytes = part.tcache.bytes);
    }

    fn book_tcaches(&mut self, map: &ArenaMap) {
        let mut pages = Pages::new(&self.surveyor.target);
        for (chunk, size) in self.tcaches.chunks.clone() {
            if let Some(part) = map.arena_of(chunk).and_then(|it| self.part(it)) {
                part.cached(&mut pages, chunk, size);
            }
        }
        for (chunk, size) in self.tcaches.structures.clone() {
            if let Some(part) = map.arena_of(chunk).and_then(|it| self.part(it)) {
                part.structure(&mut pages, chunk, size);
            }
        }
    }

    fn part(&mut self, index: u32) -> Option<&mut Part> {
        self.parts.get_mut(index as usize)
    }
}

/// How many are in one of two ascending lists and not in the other.
fn changed(one: &[u64], other: &[u64]) -> u64 {
    let missing = |from: &[u64], of: &[u64]| {
        of.iter().filter(|chunk| from.binary_search(chunk).is_err()).count() as u64
    };
    missing(one, other) + missing(other, one)
}

/// Where segments are.
pub fn extents(segments: &[Segment]) -> impl Iterator<Item = Extent> {
    segments.iter().map(|segment| Extent { start: segment.start, end: segment.end })
}
