//! A main arena that could not grow at the program break: it has anonymous mappings besides, of
//! 1 MiB and more, which nothing points to. They are told by their chunks, which lead from the
//! start of a page to `top` or to a pair of fence posts at the end of a page.

use super::{
    segment::{Segment, Surveyor},
    shape::{
        ALIGNMENT_BYTES, FLAGS, HEAP_MAX_BYTES, PREVIOUS_IN_USE, SMALLEST_CHUNK_BYTES, align_up,
    },
    tally::TopTrim,
};
use crate::model::mapping::Mapping;

/// A pair of fence posts.
const FENCE_BYTES: u64 = 0x20;

/// All segments of the main arena.
pub fn segments(surveyor: &Surveyor<'_>, top: u64) -> Vec<Segment> {
    let mut found: Vec<_> = at_the_break(surveyor, top).into_iter().collect();
    let anonymous =
        surveyor.target.mappings.iter().filter(|mapping| is_candidate(surveyor, mapping));
    for mapping in anonymous {
        in_mapping(surveyor, mapping, top, &mut found);
    }
    found
}

fn is_candidate(surveyor: &Surveyor<'_>, mapping: &Mapping) -> bool {
    let is_anonymous = mapping.name.is_empty() || mapping.name.starts_with("[anon");
    let is_heap = mapping.start.is_multiple_of(HEAP_MAX_BYTES) && {
        let owner = surveyor.memory.word(mapping.start);
        owner.is_some_and(|owner| surveyor.arenas.contains(&owner))
    };
    mapping.file.is_none() && mapping.permissions.write && is_anonymous && !is_heap
}

/// What it had before that, at the program break.
fn at_the_break(surveyor: &Surveyor<'_>, top: u64) -> Option<Segment> {
    let start = surveyor.parameters.program_break?;
    let mapping = surveyor.target.mapping(start).filter(|mapping| mapping.name == "[heap]")?;
    let top = mapping.contains(top).then_some(top);
    let end = top.and_then(|top| surveyor.end_of_top(top)).unwrap_or(mapping.end);
    (start < end).then(|| surveyor.main_segment(start, end.min(mapping.end), top))
}

fn in_mapping(surveyor: &Surveyor<'_>, mapping: &Mapping, top: u64, found: &mut Vec<Segment>) {
    let page = surveyor.target.page_bytes;
    // However the chunks lie: no more steps than a mapping has room for.
    let mut steps = (mapping.end - mapping.start) / ALIGNMENT_BYTES;
    let mut at = align_up(mapping.start, page);
    while at < mapping.end && steps > 0 {
        let end = if surveyor.memory.has(at) {
            end_of_chain(surveyor, at, mapping.end, top, &mut steps)
        } else {
            None
        };
        if let Some(end) = end {
            let top = (at..end).contains(&top).then_some(top);
            let top_trim = TopTrim::Never;
            found.push(Segment { start: at, first: at, end, top, top_trim, is_main: true });
        }
        at = align_up(end.unwrap_or(at + page), page);
    }
}

/// Where the chunks that start here end, if they end as they must.
fn end_of_chain(
    surveyor: &Surveyor<'_>,
    start: u64,
    limit: u64,
    top: u64,
    steps: &mut u64,
) -> Option<u64> {
    let page = surveyor.target.page_bytes;
    let mut at = start;
    while at <= limit.saturating_sub(ALIGNMENT_BYTES) {
        *steps = steps.checked_sub(1)?;
        let header = surveyor.memory.word(at + 8)?;
        let size = header & !FLAGS;
        let is_first = at == start;
        if at == top {
            return at.checked_add(size).filter(|end| *end <= limit);
        }
        if size == 0x10 && !is_first {
            // A pair, and perhaps a few bytes that were too small for anything.
            let end = align_up(at + FENCE_BYTES, page);
            return (end - at < 2 * FENCE_BYTES && end <= limit).then_some(end);
        }
        let is_chunk = size >= SMALLEST_CHUNK_BYTES
            && size.is_multiple_of(ALIGNMENT_BYTES)
            && header & FLAGS & !PREVIOUS_IN_USE == 0
            && (!is_first || header & PREVIOUS_IN_USE != 0);
        at = at.checked_add(size).filter(|_| is_chunk)?;
    }
    None
}
