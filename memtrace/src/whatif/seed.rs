//! The heap as it was when the window opened, rebuilt: chunks in the order of their addresses, those
//! that were free handed out first and freed afterwards, so that they lie between the others as they
//! did.

use hashbrown::HashMap;

use super::{blocks::Block, compile::Compiler, program::Op, survey::Survey};
use crate::model::{
    census::Extent,
    layout::{ArenaLayout, HeapLayout, Piece, PieceKind},
};

/// From a chunk's start to the program's memory, and what of it is the next one's: `chunk2mem` and
/// `SIZE_SZ` in glibc's malloc/malloc.c.
const HEADER_BYTES: u64 = 16;
/// What a chunk has less than its size: the last word of the next one is its own.
const OVERHEAD_BYTES: u64 = 8;
/// `MINSIZE`.
const MIN_CHUNK_BYTES: u64 = 32;

/// A free chunk is rebuilt from pieces of at most this size, which join when they are freed: larger
/// ones might be mapped.
const PART_BYTES: u64 = 64 << 10;

/// Where the threshold for mapped blocks begins: `DEFAULT_MMAP_THRESHOLD_MIN`.
const DEFAULT_MMAP_THRESHOLD: u64 = 128 << 10;

/// What was rebuilt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seeded {
    /// Chunks in use.
    pub chunks: u64,
    /// Their bytes.
    pub in_use_bytes: u64,
    /// Bytes of free chunks.
    pub free_bytes: u64,
}

/// Rebuilds a heap; the threshold for mapped blocks is what it had become by itself, if it had.
pub fn seed(
    compiler: &mut Compiler<'_>,
    layout: &HeapLayout,
    survey: &Survey,
    raised_threshold: Option<u64>,
) -> Seeded {
    let mut seeded = Seeded::default();
    for extent in &layout.mapped {
        in_use(compiler, 0, *extent, layout, &mut seeded);
    }
    if let Some(size_bytes) = raised_threshold.filter(|it| *it > DEFAULT_MMAP_THRESHOLD) {
        compiler.turns.push(0, Op::Raise { size_bytes }, compiler.sink);
    }
    let mut arenas: Vec<&ArenaLayout> =
        layout.arenas.iter().filter(|arena| arena.heap == 0).collect();
    arenas.sort_unstable_by_key(|arena| arena.index);
    let owners = owners(&arenas, survey);
    for arena in arenas {
        let owner = match (arena.index, owners.get(&arena.index)) {
            (0, _) => 0,
            (_, Some(tid)) => compiler.threads.number(*tid),
            (_, None) => compiler.threads.unnamed(),
        };
        self::arena(compiler, owner, arena, layout, &mut seeded);
        if arena.attached_threads == Some(0) && !owners.contains_key(&arena.index) {
            compiler.turns.push(owner, Op::Exit, compiler.sink);
            compiler.threads.give_up(owner);
        }
    }
    seeded
}

/// Of each arena, the first thread that obtained something in it.
fn owners(arenas: &[&ArenaLayout], survey: &Survey) -> HashMap<u32, u32> {
    let mut first: Vec<(u32, u64)> = survey.first_addresses().collect();
    first.sort_unstable();
    let mut owners = HashMap::new();
    for (tid, address) in first {
        let holds = |arena: &&&ArenaLayout| {
            arena.segments.iter().any(|it| (it.start()..it.end()).contains(&address))
        };
        if let Some(arena) = arenas.iter().find(holds) {
            owners.entry(arena.index).or_insert(tid);
        }
    }
    owners
}

/// Frees come last, tcache first, as a thread's tcache takes what is freed while it has room.
fn arena(
    compiler: &mut Compiler<'_>,
    owner: u32,
    arena: &ArenaLayout,
    layout: &HeapLayout,
    seeded: &mut Seeded,
) {
    let mut to_free: [Vec<u32>; 3] = Default::default();
    for Piece { extent, kind } in arena.segments.iter().flat_map(|segment| segment.pieces()) {
        let order = match kind {
            PieceKind::InUse => {
                in_use(compiler, owner, extent, layout, seeded);
                continue;
            }
            PieceKind::Tcache => 0,
            PieceKind::Fastbin => 1,
            PieceKind::Free => 2,
            PieceKind::Top | PieceKind::Metadata | PieceKind::Unknown => continue,
        };
        seeded.free_bytes += extent.bytes();
        for part in parts(extent) {
            let slot = compiler.blocks.slot();
            obtain(compiler, owner, slot, part, layout);
            to_free[order].push(slot);
        }
    }
    for slot in to_free.into_iter().flatten() {
        compiler.turns.push(owner, Op::Free { slot }, compiler.sink);
        compiler.blocks.give_up(slot);
    }
}

fn in_use(
    compiler: &mut Compiler<'_>,
    owner: u32,
    extent: Extent,
    layout: &HeapLayout,
    seeded: &mut Seeded,
) {
    let slot = compiler.blocks.slot();
    let size_bytes = obtain(compiler, owner, slot, extent, layout);
    compiler.blocks.insert(extent.start + HEADER_BYTES, Block { slot, size_bytes });
    seeded.chunks += 1;
    seeded.in_use_bytes += extent.bytes();
}

fn obtain(
    compiler: &mut Compiler<'_>,
    owner: u32,
    slot: u32,
    chunk: Extent,
    layout: &HeapLayout,
) -> u64 {
    let size_bytes = chunk.bytes().saturating_sub(OVERHEAD_BYTES);
    let used_bytes = layout.resident_bytes(chunk).min(size_bytes);
    compiler.turns.push(owner, Op::Seed { slot, size_bytes, used_bytes }, compiler.sink);
    size_bytes
}

/// Pieces of a free chunk, none of which is less than a chunk can be.
fn parts(chunk: Extent) -> Vec<Extent> {
    let mut parts = Vec::new();
    let mut start = chunk.start;
    while chunk.end - start >= PART_BYTES + MIN_CHUNK_BYTES {
        parts.push(Extent { start, end: start + PART_BYTES });
        start += PART_BYTES;
    }
    parts.push(Extent { start, end: chunk.end });
    parts
}

#[cfg(test)]
mod tests {
    use super::{super::compile::Sampling, *};
    use crate::model::layout::SegmentLayout;

    fn segment(start: u64, pieces: &[(PieceKind, u64)]) -> SegmentLayout {
        let mut segment = SegmentLayout::at(start);
        for (kind, bytes) in pieces {
            segment.push(*kind, segment.end() + bytes);
        }
        segment
    }

    fn seeded(layout: &HeapLayout, raised: Option<u64>) -> (Vec<Op>, Seeded, (u64, u64)) {
        let (mut ops, survey) = (Vec::new(), Survey::default());
        let mut sink = |op| ops.push(op);
        let mut compiler = Compiler::new(0, 1, &survey, Sampling::default(), &mut sink);
        let seeded = seed(&mut compiler, layout, &survey, raised);
        let (blocks, _) = compiler.finish(0);
        (ops, seeded, blocks.amount())
    }

    #[test]
    fn chunks_are_obtained_in_order_and_the_free_ones_freed_afterwards() {
        let pieces = [
            (PieceKind::Metadata, 0x290),
            (PieceKind::InUse, 48),
            (PieceKind::Free, 1024),
            (PieceKind::Tcache, 32),
            (PieceKind::InUse, 64),
            (PieceKind::Top, 4096),
        ];
        let arena = ArenaLayout { segments: vec![segment(0x1000, &pieces)], ..Default::default() };
        let resident = vec![Extent { start: 0x1000, end: 0x2000 }];
        let layout = HeapLayout { arenas: vec![arena], resident, ..HeapLayout::default() };
        let (ops, sums, amount) = seeded(&layout, Some(1 << 20));
        let block = |slot, size_bytes| Op::Seed { slot, size_bytes, used_bytes: size_bytes };
        let expected = [
            Op::Raise { size_bytes: 1 << 20 },
            block(0, 40),
            block(1, 1016),
            block(2, 24),
            block(3, 56),
            Op::Free { slot: 2 },
            Op::Free { slot: 1 },
            Op::Sample { at_ns: 0 },
        ];
        assert_eq!(ops, expected);
        assert_eq!(sums, Seeded { chunks: 2, in_use_bytes: 112, free_bytes: 1056 });
        assert_eq!(amount, (2, 96));
    }

    #[test]
    fn a_large_free_chunk_is_made_of_pieces_that_are_not_mapped() {
        let chunk = Extent { start: 0x1000, end: 0x1000 + 2 * PART_BYTES + 16 };
        let parts = parts(chunk);
        assert!(parts.iter().all(|it| (MIN_CHUNK_BYTES..2 * PART_BYTES).contains(&it.bytes())));
        assert_eq!(parts.iter().map(|it| it.bytes()).sum::<u64>(), chunk.bytes());
        assert!(parts.len() >= 2);
    }

    #[test]
    fn an_arena_that_no_thread_is_left_in_is_left_in_the_replay_too() {
        let piece = [(PieceKind::InUse, 48)];
        let arena = |index, attached| ArenaLayout {
            index,
            attached_threads: Some(attached),
            segments: vec![segment(u64::from(index) << 26, &piece)],
            ..ArenaLayout::default()
        };
        let arenas = vec![arena(0, 1), arena(1, 0), arena(2, 1)];
        let (ops, ..) = seeded(&HeapLayout { arenas, ..HeapLayout::default() }, None);
        let exits = ops.iter().filter(|op| **op == Op::Exit).count();
        assert_eq!((exits, ops.len()), (1, 3 + 1 + 3 + 1), "{ops:?}");
    }
}
