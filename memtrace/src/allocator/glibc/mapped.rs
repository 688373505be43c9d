//! Blocks that were mapped one by one. Nothing points to them, but `mp_` says how many there are
//! and how large they are together; each starts at a page with a header that hardly anything else
//! has: no chunk before it, `IS_MMAPPED` alone, and a size that ends on a page in its mapping.

use super::{
    arena::ArenaState,
    layout::Layout,
    moment::Moment,
    segment::Surveyor,
    shape::{ArenaShape, CHUNK_HEADER_BYTES, FLAGS, HEAP_MAX_BYTES, IS_MAPPED},
    target::{Pages, PresentMemory, Target},
};
use crate::model::{
    census::Extent,
    mapping::Mapping,
    memory::{PageRun, PageState},
    site::Amount,
};

/// What was found when the walk began.
#[derive(Clone, Debug, Default)]
pub struct MappedBlocks {
    /// Their mappings, ascending.
    pub extents: Vec<Extent>,
    /// What `mp_` said then.
    pub stated: Option<Expected>,
}

impl MappedBlocks {
    /// Finds them outside of the arenas, and of what is `excluded`.
    pub fn find(
        surveyor: &Surveyor<'_>,
        arenas: &[ArenaState],
        layout: &Layout,
        excluded: &[Extent],
    ) -> Self {
        let stated = expected(surveyor.memory, layout.parameters.as_ref());
        let segments = arenas.iter().flat_map(|arena| Moment::of(surveyor, arena).segments);
        let of_arenas = segments.map(|it| Extent { start: it.start, end: it.end });
        let excluded = merge(of_arenas.chain(excluded.iter().copied()).collect());
        let extents = find(&surveyor.target, layout.shape, &excluded, stated);
        Self { extents, stated }
    }

    /// Without what has become an arena's memory since. `segments` ascend.
    pub fn outside(mut self, segments: &[Extent]) -> Self {
        self.extents.retain(|block| {
            let after = segments.partition_point(|segment| segment.end <= block.start);
            segments.get(after).is_none_or(|segment| segment.start >= block.end)
        });
        self
    }

    /// All of them.
    pub fn amount(&self) -> Amount {
        let bytes = self.extents.iter().map(|block| block.bytes()).sum();
        Amount::new(bytes, self.extents.len() as u64)
    }

    /// What of them is in memory now.
    pub fn resident_bytes(&self, target: &Target<'_>) -> u64 {
        let mut pages = Pages::new(target);
        let resident = |block: &Extent| pages.presence(block.start, block.end).resident_bytes;
        self.extents.iter().map(resident).sum()
    }

    /// How far their bytes can be off, at most: what came and went since, and was not found.
    pub fn bound_bytes(&self, surveyor: &Surveyor<'_>, layout: &Layout) -> u64 {
        let Some(stated) = self.stated else { return 0 };
        surveyor.memory.forget();
        let after = expected(surveyor.memory, layout.parameters.as_ref()).unwrap_or(stated);
        let moved = after.bytes.abs_diff(stated.bytes);
        let found = self.amount();
        let unexplained = found.bytes.abs_diff(stated.bytes);
        // From 2.43 on, glibc forgets a header of each block that was remapped.
        let is_explained = unexplained <= CHUNK_HEADER_BYTES * found.count;
        if is_explained { moved } else { moved.saturating_add(unexplained) }
    }
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// `n_mmaps`.
    pub count: u64,
    /// `mmapped_mem`.
    pub bytes: u64,
}

/// Pages whose first words are read at once.
const BATCH: usize = 512;

/// Finds them, ascending, in mappings outside of `excluded`. The search ends
/// when it has found what is expected.
fn find(
    target: &Target<'_>,
    shape: ArenaShape,
    excluded: &[Extent],
    expected: Option<Expected>,
) -> Vec<Extent> {
    let mut search = Search { target, shape, expected, found: Vec::new(), bytes: 0 };
    let mut pages = Pages::new(target);
    let candidates = target.mappings.iter().filter(|mapping| is_candidate(mapping));
    // `madvise` for a part of a block splits its mapping, as numpy does for huge pages.
    let extents = candidates.map(|it| Extent { start: it.start, end: it.end });
    for range in merge(extents.collect()) {
        for Extent { start, end } in outside(range, excluded) {
            if search.is_over() {
                return search.found;
            }
            search.range(&mut pages, start, end);
        }
    }
    search.found
}

fn is_candidate(mapping: &Mapping) -> bool {
    let is_anonymous = mapping.name.is_empty() || mapping.name.starts_with("[anon");
    mapping.file.is_none() && mapping.permissions.write && is_anonymous
}

/// The parts of a range that are not excluded. `excluded` ascends.
fn outside(range: Extent, excluded: &[Extent]) -> Vec<Extent> {
    let first = excluded.partition_point(|it| it.end <= range.start);
    let mut parts = Vec::new();
    let mut at = range.start;
    for it in excluded[first..].iter().take_while(|it| it.start < range.end) {
        parts.push(Extent { start: at, end: it.start });
        at = at.max(it.end);
    }
    parts.push(Extent { start: at, end: range.end });
    parts.retain(|part| part.start < part.end);
    parts
}

/// Ascending, without overlaps.
pub fn merge(mut ranges: Vec<Extent>) -> Vec<Extent> {
    ranges.retain(|range| range.start < range.end);
    ranges.sort_unstable();
    let mut merged: Vec<Extent> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

struct Search<'s, 't> {
    target: &'s Target<'t>,
    shape: ArenaShape,
    expected: Option<Expected>,
    found: Vec<Extent>,
    bytes: u64,
}

impl Search<'_, '_> {
    fn is_over(&self) -> bool {
        self.expected.is_some_and(|expected| {
            expected.count == self.found.len() as u64 && expected.bytes == self.bytes
        })
    }

    fn range(&mut self, pages: &mut Pages<'_>, start: u64, end: u64) {
        let mut at = start;
        while at < end && !self.is_over() {
            let slice_end = at.saturating_add(HEAP_MAX_BYTES).min(end);
            let mut runs = Vec::new();
            pages.for_each_run(at, slice_end, |run| runs.push(run));
            at = self.slice(&runs, at, slice_end, end).max(slice_end);
        }
    }

    /// Looks at the pages of some runs; returns where to go on.
    fn slice(&mut self, runs: &[PageRun], start: u64, slice_end: u64, limit: u64) -> u64 {
        let page = self.target.page_bytes as usize;
        let resident = runs.iter().filter(|run| run.state == PageState::Resident);
        let mut starts = resident.flat_map(|run| (run.start..run.end).step_by(page)).peekable();
        let mut next = start;
        while !self.is_over() {
            while starts.next_if(|start| *start < next).is_some() {}
            let batch: Vec<u64> = starts.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                break;
            }
            next = self.batch(&batch, next, limit);
        }
        next.max(slice_end)
    }

    fn batch(&mut self, starts: &[u64], from: u64, limit: u64) -> u64 {
        let mut bytes = vec![[0; 16]; starts.len()];
        let places = starts.iter().zip(&mut bytes);
        let mut parts: Vec<(u64, &mut [u8])> =
            places.map(|(start, bytes)| (*start, bytes.as_mut_slice())).collect();
        let filled = self.target.memory.read_many(&mut parts);
        let mut next = from;
        for ((start, bytes), _) in starts.iter().zip(&bytes).zip(filled).filter(|(_, it)| *it) {
            if *start >= next
                && let Some(end) = self.block_end(*start, *bytes).filter(|end| *end <= limit)
            {
                self.found.push(Extent { start: *start, end });
                self.bytes += end - start;
                next = end;
            }
        }
        next
    }

    fn block_end(&self, start: u64, bytes: [u8; 16]) -> Option<u64> {
        let [before, header] = words(bytes);
        let (size, page) = (header & !FLAGS, self.target.page_bytes);
        // Since 2.43 the size is without the header, and the first word may say "huge page".
        let (most_before, header_bytes) =
            if self.shape.mapped_size_has_header() { (0, 0) } else { (1, 16) };
        let bytes = size.checked_add(header_bytes)?;
        let is_block =
            header & FLAGS == IS_MAPPED && before <= most_before && size > 0 && bytes % page == 0;
        start.checked_add(bytes).filter(|_| is_block)
    }
}

fn words(bytes: [u8; 16]) -> [u64; 2] {
    let value = u128::from_le_bytes(bytes);
    [value as u64, (value >> 64) as u64]
}

/// What `mp_` says now.
fn expected(
    memory: &PresentMemory<'_>,
    layout: Option<&super::layout::ParameterLayout>,
) -> Option<Expected> {
    let layout = layout?;
    let count = memory.half_word(layout.map_count)?.into();
    Some(Expected { count, bytes: memory.word(layout.mapped_bytes)? })
}
