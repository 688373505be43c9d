//! A heap of 1 GB: a block, a hole, and so on; what is left is its end.

use memtrace::model::{
    census::Extent,
    layout::{ArenaLayout, HeapLayout, PieceKind, SegmentLayout},
    site::LiveItem,
};

const HEAP: u64 = 0x5555_0000_0000;
const HEAP_BYTES: u64 = 1 << 30;
/// Blocks in use, all of which were traced.
pub const BLOCKS: u64 = 1_000_000;
/// Whose blocks they are.
pub const SITES: u64 = 1000;

/// The heap, and the blocks in it.
pub fn heap() -> (HeapLayout, Vec<LiveItem>) {
    let (mut segment, mut live, mut at) = (SegmentLayout::at(HEAP), Vec::new(), HEAP);
    for number in 0..BLOCKS {
        let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let bytes = 48 + scattered % 32 * 16;
        live.push(LiveItem {
            address: at + 16,
            bytes,
            time_ns: number,
            site: (scattered % SITES) as u32,
            ..LiveItem::default()
        });
        segment.push(PieceKind::InUse, at + bytes);
        at += bytes + 32 + scattered % 90 * 16;
        segment.push(PieceKind::Free, at);
    }
    segment.push(PieceKind::Top, HEAP + HEAP_BYTES);
    let resident = vec![Extent { start: HEAP, end: HEAP + HEAP_BYTES }];
    let arenas = vec![ArenaLayout { segments: vec![segment], ..ArenaLayout::default() }];
    (HeapLayout { page_bytes: 4096, arenas, resident, ..HeapLayout::default() }, live)
}
