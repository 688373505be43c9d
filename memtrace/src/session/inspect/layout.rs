//! Where everything in the heaps lies, put together from what the walkers found and from the pages.

use crate::{
    allocator::glibc::walk::Walked,
    model::{
        census::Extent,
        layout::{HeapLayout, PymallocArenaLayout},
        memory::{PageRun, PageState},
    },
    sys::huge_pages,
};

/// Bytes of code of all heaps: more than 30 million chunks, most of which take one or two.
const MOST_CODE_BYTES: usize = 64 << 20;

/// Most runs of pages, 16 bytes each.
const MOST_RUNS: usize = 1 << 20;

/// Most pools of pymalloc's, 24 bytes each: 16 GiB of small objects, or 4 GiB up to Python 3.9.
const MOST_POOLS: usize = 1 << 20;

/// How much of that is left.
pub(super) fn room(layout: &HeapLayout) -> usize {
    let segments = layout.arenas.iter().flat_map(|arena| &arena.segments);
    MOST_CODE_BYTES.saturating_sub(segments.map(|segment| segment.code_bytes()).sum())
}

/// Takes over what a walk of the `number`th glibc found.
pub(super) fn add_glibc(layout: &mut HeapLayout, number: u32, walked: &mut Walked) {
    let arenas = std::mem::take(&mut walked.layout).into_iter();
    layout.arenas.extend(arenas.map(|mut arena| {
        arena.heap = number;
        arena.segments.sort_by_key(|segment| segment.start());
        arena
    }));
    layout.mapped.extend(&walked.mapped);
    layout.mapped.sort_unstable();
    layout.left_out_bytes += walked.layout_left_out_bytes;
    layout.huge_page_bytes = layout.huge_page_bytes.max(walked.asked_huge_page_bytes);
}

/// Takes over where the pools of an interpreter lie.
pub(super) fn add_pymalloc(layout: &mut HeapLayout, arenas: Vec<PymallocArenaLayout>) {
    let mut pools: usize = layout.pymalloc.iter().map(|arena| arena.pools.len()).sum();
    for arena in arenas {
        pools += arena.pools.len();
        match pools <= MOST_POOLS {
            true => layout.pymalloc.push(arena),
            false => layout.left_out_bytes += arena.extent.bytes(),
        }
    }
    layout.pymalloc.sort_by_key(|arena| arena.extent.start);
}

/// Takes note of pages that are there; called in ascending order.
pub(super) fn add_pages(layout: &mut HeapLayout, runs: &[PageRun]) {
    for run in runs.iter().filter(|run| run.state == PageState::Resident) {
        let count = layout.resident.len();
        match layout.resident.last_mut() {
            Some(last) if last.end == run.start => last.end = run.end,
            _ if count < MOST_RUNS => {
                layout.resident.push(Extent { start: run.start, end: run.end });
            }
            _ => layout.left_out_bytes += run.end - run.start,
        }
    }
}

/// Says how large pages are.
pub(super) fn add_page_sizes(layout: &mut HeapLayout, is_excepted: bool) {
    layout.page_bytes = rustix::param::page_size() as u64;
    let given = huge_pages::given_to_all("/".as_ref()).filter(|_| !is_excepted);
    layout.huge_page_bytes = layout.huge_page_bytes.max(given.unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::layout::PoolLayout;

    fn run(start: u64, end: u64, state: PageState) -> PageRun {
        PageRun { start, end, state, file_backed: false, huge: false }
    }

    #[test]
    fn only_pages_in_memory_are_noted_and_none_touch() {
        let mut layout = HeapLayout::default();
        let runs = [
            run(0x1000, 0x2000, PageState::Resident),
            run(0x2000, 0x3000, PageState::Resident),
            run(0x3000, 0x4000, PageState::Swapped),
            run(0x4000, 0x5000, PageState::Resident),
            run(0x5000, 0x6000, PageState::Zero),
        ];
        add_pages(&mut layout, &runs);
        let expected =
            [Extent { start: 0x1000, end: 0x3000 }, Extent { start: 0x4000, end: 0x5000 }];
        assert_eq!(layout.resident, expected);
        assert_eq!(layout.left_out_bytes, 0);
    }

    #[test]
    fn arenas_of_all_interpreters_ascend_and_those_beyond_the_room_are_counted() {
        let arena = |start, pools| PymallocArenaLayout {
            extent: Extent { start, end: start + 0x4000 },
            pool_bytes: 0x1000,
            pools: vec![PoolLayout::default(); pools],
        };
        let mut layout = HeapLayout::default();
        add_pymalloc(&mut layout, vec![arena(0x8000, 2)]);
        add_pymalloc(&mut layout, vec![arena(0x1_0000, MOST_POOLS), arena(0x1000, 3)]);
        assert_eq!(layout.pymalloc, [arena(0x8000, 2)]);
        assert_eq!(layout.left_out_bytes, 0x8000);
        layout.pymalloc.clear();
        add_pymalloc(&mut layout, vec![arena(0x8000, 2)]);
        add_pymalloc(&mut layout, vec![arena(0x1000, 3)]);
        assert_eq!(layout.pymalloc, [arena(0x1000, 3), arena(0x8000, 2)]);
    }

    #[test]
    fn pages_beyond_the_room_are_counted() {
        let mut layout = HeapLayout::default();
        let far = (0..MOST_RUNS as u64 + 3).map(|at| {
            let start = at * 0x2000;
            run(start, start + 0x1000, PageState::Resident)
        });
        add_pages(&mut layout, &far.collect::<Vec<_>>());
        assert_eq!((layout.resident.len(), layout.left_out_bytes), (MOST_RUNS, 3 * 0x1000));
    }
}
