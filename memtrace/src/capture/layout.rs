//! Where everything in a heap lay, as blocks. Each block begins with whose it is and its number, so
//! that a lost one is noticed; it consists of items, which add to what the items before have built.

use std::{io, sync::Arc};

use super::{
    CapturedProcess, Layouts,
    codec::{Fields, Malformed, put, put_bytes, put_difference, unzigzag, zigzag},
    format::MAX_LAYOUT_BYTES,
};
use crate::model::{
    census::Extent,
    layout::{ArenaLayout, HeapLayout, PoolLayout, PymallocArenaLayout, SegmentLayout},
};

/// A block is written when it has so many bytes.
const FULL_BLOCK_BYTES: usize = 2 << 20;

/// So many bytes of code, and so many ranges or pools, are in an item at most: together with a full
/// block they stay below the largest.
const CODES_AN_ITEM: usize = 1 << 20;
const RANGES_AN_ITEM: usize = 1 << 15;

/// At which end of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Near the start.
    Before = 0,
    /// At the end.
    After = 1,
}

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Of {
    /// Number of the process.
    pub process: u8,
    /// Which end.
    pub side: Side,
}

impl Of {
    fn to_number(self) -> u64 {
        u64::from(self.process) << 1 | self.side as u64
    }

    fn from_number(number: u64) -> Result<Self, Malformed> {
        let side = if number & 1 == 0 { Side::Before } else { Side::After };
        Ok(Self { process: u8::try_from(number >> 1).map_err(|_| Malformed::Code)?, side })
    }
}

/// What an item adds. In the file: a number.
mod item {
    /// `at_ns`, sizes of pages, what was left out.
    pub const HEAD: u64 = 0;
    /// An arena of glibc's.
    pub const ARENA: u64 = 1;
    /// A segment of that arena.
    pub const SEGMENT: u64 = 2;
    /// Pieces of that segment.
    pub const PIECES: u64 = 3;
    /// Blocks that were mapped one by one.
    pub const MAPPED: u64 = 4;
    /// An arena of pymalloc's.
    pub const PYMALLOC_ARENA: u64 = 5;
    /// Pools of that arena.
    pub const POOLS: u64 = 6;
    /// Pages in memory.
    pub const RESIDENT: u64 = 7;
}

/// Hands over a layout in payloads of blocks.
///
/// # Errors
/// Those of `write`.
pub fn put_layout(
    of: Of,
    layout: &HeapLayout,
    write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut blocks = Blocks { of, number: 0, payload: Vec::new(), write };
    blocks.begin();
    blocks.head(layout)?;
    layout.arenas.iter().try_for_each(|arena| blocks.arena(arena))?;
    blocks.ranges(item::MAPPED, &layout.mapped)?;
    layout.pymalloc.iter().try_for_each(|arena| blocks.pymalloc_arena(arena))?;
    blocks.ranges(item::RESIDENT, &layout.resident)?;
    blocks.end()
}

struct Blocks<'w> {
    of: Of,
    number: u64,
    payload: Vec<u8>,
    write: &'w mut dyn FnMut(&[u8]) -> io::Result<()>,
}

impl Blocks<'_> {
    fn begin(&mut self) {
        self.payload.clear();
        put(&mut self.payload, self.of.to_number());
        put(&mut self.payload, self.number);
        self.number += 1;
    }

    fn end(&mut self) -> io::Result<()> {
        (self.write)(&self.payload)
    }

    fn item(&mut self, item: u64, numbers: &[u64]) -> io::Result<()> {
        if self.payload.len() >= FULL_BLOCK_BYTES {
            self.end()?;
            self.begin();
        }
        put(&mut self.payload, item);
        numbers.iter().for_each(|number| put(&mut self.payload, *number));
        Ok(())
    }

    fn head(&mut self, layout: &HeapLayout) -> io::Result<()> {
        let HeapLayout { at_ns, page_bytes, huge_page_bytes, left_out_bytes, .. } = layout;
        let at = zigzag(at_ns.cast_unsigned());
        self.item(item::HEAD, &[at, *page_bytes, *huge_page_bytes, *left_out_bytes])
    }

    fn arena(&mut self, arena: &ArenaLayout) -> io::Result<()> {
        let threads = arena.attached_threads.map_or(0, |threads| threads.saturating_add(1));
        self.item(item::ARENA, &[arena.heap.into(), arena.index.into(), threads])?;
        arena.segments.iter().try_for_each(|segment| self.segment(segment))
    }

    fn segment(&mut self, segment: &SegmentLayout) -> io::Result<()> {
        self.item(item::SEGMENT, &[segment.start()])?;
        for codes in whole_codes(segment.codes()) {
            self.item(item::PIECES, &[])?;
            put_bytes(&mut self.payload, codes);
        }
        Ok(())
    }

    fn ranges(&mut self, item: u64, ranges: &[Extent]) -> io::Result<()> {
        for ranges in ranges.chunks(RANGES_AN_ITEM) {
            let (mut column, mut before) = (Vec::new(), 0);
            for range in ranges {
                put_difference(&mut column, &mut before, range.start);
                put_difference(&mut column, &mut before, range.end);
            }
            self.item(item, &[])?;
            put_bytes(&mut self.payload, &column);
        }
        Ok(())
    }

    fn pymalloc_arena(&mut self, arena: &PymallocArenaLayout) -> io::Result<()> {
        let Extent { start, end } = arena.extent;
        self.item(item::PYMALLOC_ARENA, &[start, end.wrapping_sub(start), arena.pool_bytes])?;
        for pools in arena.pools.chunks(RANGES_AN_ITEM) {
            let (mut column, mut before) = (Vec::new(), start);
            for pool in pools {
                put_difference(&mut column, &mut before, pool.start);
                let numbers = [pool.block_bytes, pool.in_use, pool.capacity];
                numbers.into_iter().for_each(|number| put(&mut column, number.into()));
            }
            self.item(item::POOLS, &[])?;
            put_bytes(&mut self.payload, &column);
        }
        Ok(())
    }
}

/// Codes in runs of about [`CODES_AN_ITEM`], none of which is cut.
fn whole_codes(codes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = codes;
    std::iter::from_fn(move || {
        let least = CODES_AN_ITEM.min(rest.len()).checked_sub(1)?;
        let is_last = |byte: &u8| *byte < 0x80;
        let more = rest[least..].iter().position(is_last).map_or(rest.len(), |at| least + at + 1);
        let (run, after) = rest.split_at(more);
        rest = after;
        Some(run)
    })
}

/// Layouts that are being read. One of which a block is lost is none.
#[derive(Clone, Debug, Default)]
pub struct LayoutDecoder {
    known: Vec<(u64, Building)>,
}

#[derive(Clone, Debug, Default)]
struct Building {
    layout: HeapLayout,
    /// Of the next block.
    number: u64,
    /// Bytes of code and 16 times the ranges and pools so far.
    size_bytes: usize,
    is_void: bool,
}

impl LayoutDecoder {
    /// Takes up the payload of a block.
    ///
    /// # Errors
    /// When it is none, or one before it is missing.
    pub fn block(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let mut fields = Fields(payload);
        let (of, number) = (fields.number()?, fields.number()?);
        Of::from_number(of)?;
        let building = self.building(of);
        let result = building.block(number, &mut fields);
        building.is_void |= result.is_err();
        result
    }

    fn building(&mut self, of: u64) -> &mut Building {
        let found = self.known.iter().position(|(known, _)| *known == of);
        let at = found.unwrap_or(self.known.len());
        if found.is_none() {
            self.known.push((of, Building::default()));
        }
        &mut self.known[at].1
    }

    /// Gives each process its own; what is left is of the one that is alone.
    pub fn finish(self, processes: &mut [CapturedProcess]) -> Layouts {
        let mut alone = Layouts::default();
        for (of, building) in self.known.into_iter().filter(|(_, building)| !building.is_void) {
            let Ok(of) = Of::from_number(of) else { continue };
            let process = processes.iter_mut().find(|process| process.number == of.process);
            let layout = Some(Arc::new(building.layout));
            let layouts = process.map_or(&mut alone, |process| &mut process.layouts);
            match of.side {
                Side::Before => layouts.before = layout,
                Side::After => layouts.after = layout,
            }
        }
        match processes {
            [one] => one.layouts.clone(),
            _ => alone,
        }
    }
}

impl Building {
    fn block(&mut self, number: u64, fields: &mut Fields<'_>) -> Result<(), Malformed> {
        if number != self.number {
            return Err(Malformed::OutOfStep);
        }
        self.number += 1;
        while !fields.0.is_empty() {
            let item = fields.number()?;
            self.item(item, fields)?;
            if self.size_bytes > MAX_LAYOUT_BYTES {
                return Err(Malformed::TooMuch);
            }
        }
        Ok(())
    }

    fn item(&mut self, item: u64, fields: &mut Fields<'_>) -> Result<(), Malformed> {
        match item {
            item::HEAD => self.head(fields),
            item::ARENA => self.arena(fields),
            item::SEGMENT => self.segment(fields),
            item::PIECES => self.pieces(fields.bytes()?),
            item::MAPPED => {
                self.size_bytes += read_ranges(fields.bytes()?, &mut self.layout.mapped)?;
                Ok(())
            }
            item::RESIDENT => {
                self.size_bytes += read_ranges(fields.bytes()?, &mut self.layout.resident)?;
                Ok(())
            }
            item::PYMALLOC_ARENA => self.pymalloc_arena(fields),
            item::POOLS => self.pools(fields.bytes()?),
            _ => Err(Malformed::Code),
        }
    }

    fn head(&mut self, fields: &mut Fields<'_>) -> Result<(), Malformed> {
        let layout = &mut self.layout;
        layout.at_ns = unzigzag(fields.number()?).cast_signed();
        layout.page_bytes = fields.number()?;
        layout.huge_page_bytes = fields.number()?;
        layout.left_out_bytes = fields.number()?;
        Ok(())
    }

    fn arena(&mut self, fields: &mut Fields<'_>) -> Result<(), Malformed> {
        let (heap, index) = (fields.number_u32()?, fields.number_u32()?);
        let attached_threads = fields.number()?.checked_sub(1);
        self.size_bytes += size_of::<ArenaLayout>();
        self.layout.arenas.push(ArenaLayout {
            heap,
            index,
            attached_threads,
            segments: Vec::new(),
        });
        Ok(())
    }

    fn segment(&mut self, fields: &mut Fields<'_>) -> Result<(), Malformed> {
        let segment = SegmentLayout::at(fields.number()?);
        self.size_bytes += size_of::<SegmentLayout>();
        let arena = self.layout.arenas.last_mut().ok_or(Malformed::OutOfStep)?;
        arena.segments.push(segment);
        Ok(())
    }

    fn pieces(&mut self, codes: &[u8]) -> Result<(), Malformed> {
        self.size_bytes += codes.len();
        let arena = self.layout.arenas.last_mut().ok_or(Malformed::OutOfStep)?;
        let segment = arena.segments.last_mut().ok_or(Malformed::OutOfStep)?;
        if segment.append(codes) { Ok(()) } else { Err(Malformed::Code) }
    }

    fn pymalloc_arena(&mut self, fields: &mut Fields<'_>) -> Result<(), Malformed> {
        let (start, bytes) = (fields.number()?, fields.number()?);
        let end = start.checked_add(bytes).ok_or(Malformed::Code)?;
        let (extent, pool_bytes) = (Extent { start, end }, fields.number()?);
        self.size_bytes += size_of::<PymallocArenaLayout>();
        self.layout.pymalloc.push(PymallocArenaLayout { extent, pool_bytes, pools: Vec::new() });
        Ok(())
    }

    fn pools(&mut self, column: &[u8]) -> Result<(), Malformed> {
        let arena = self.layout.pymalloc.last_mut().ok_or(Malformed::OutOfStep)?;
        let (mut fields, mut before) = (Fields(column), arena.extent.start);
        while !fields.0.is_empty() {
            self.size_bytes += size_of::<PoolLayout>();
            arena.pools.push(PoolLayout {
                start: fields.difference(&mut before)?,
                block_bytes: fields.number_u32()?,
                in_use: fields.number_u32()?,
                capacity: fields.number_u32()?,
            });
        }
        Ok(())
    }
}

/// Ascending ranges, which follow those there are; returns what they take.
fn read_ranges(column: &[u8], out: &mut Vec<Extent>) -> Result<usize, Malformed> {
    let (mut fields, mut before, count) = (Fields(column), 0, out.len());
    while !fields.0.is_empty() {
        let (start, end) = (fields.difference(&mut before)?, fields.difference(&mut before)?);
        let last = out.last().map_or(0, |last| last.end);
        if start >= end || start < last {
            return Err(Malformed::Code);
        }
        out.push(Extent { start, end });
    }
    Ok((out.len() - count) * size_of::<Extent>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::capture::testing::any_layout;

    const AFTER: Of = Of { process: 0, side: Side::After };

    fn blocks(of: Of, layout: &HeapLayout) -> Vec<Vec<u8>> {
        let mut blocks = Vec::new();
        let taken = put_layout(of, layout, &mut |payload| {
            blocks.push(payload.to_vec());
            Ok(())
        });
        taken.expect("a Vec takes all");
        blocks
    }

    fn after(blocks: &[Vec<u8>]) -> Option<HeapLayout> {
        let mut decoder = LayoutDecoder::default();
        for block in blocks {
            let _ = decoder.block(block);
        }
        decoder.finish(&mut []).after.map(Arc::unwrap_or_clone)
    }

    proptest! {
        #[test]
        fn any_layout_comes_back_as_it_was(layout in any_layout()) {
            prop_assert_eq!(after(&blocks(AFTER, &layout)), Some(layout));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = LayoutDecoder::default().block(&bytes);
            let numbered = [&[1, 0][..], &bytes].concat();
            let _ = LayoutDecoder::default().block(&numbered);
        }
    }

    /// Of several blocks.
    fn large() -> HeapLayout {
        let mut segment = SegmentLayout::at(0x1000);
        for at in 1..=3_000_000_u64 {
            segment.push(crate::model::layout::PieceKind::InUse, 0x1000 + at * 0x100);
        }
        let extent = |at: u64| Extent { start: at << 20, end: (at << 20) + 0x1000 };
        HeapLayout {
            page_bytes: 4096,
            arenas: vec![ArenaLayout { segments: vec![segment], ..ArenaLayout::default() }],
            resident: (0..100_000).map(extent).collect(),
            ..HeapLayout::default()
        }
    }

    #[test]
    fn a_large_layout_takes_several_blocks_and_without_one_of_them_is_none() {
        let layout = large();
        let mut blocks = blocks(AFTER, &layout);
        assert!(blocks.len() > 2, "{}", blocks.len());
        let largest = blocks.iter().map(Vec::len).max();
        assert!(largest < Some(crate::capture::format::MAX_BLOCK_BYTES), "{largest:?}");
        assert_eq!(after(&blocks).as_ref(), Some(&layout));
        blocks.remove(1);
        assert_eq!(after(&blocks), None);
    }

    #[test]
    fn each_process_gets_its_own() {
        let layout = |at_ns| HeapLayout { at_ns, ..HeapLayout::default() };
        let mut decoder = LayoutDecoder::default();
        for (process, at_ns) in [(0, 5), (3, 7)] {
            let of = Of { process, side: Side::Before };
            blocks(of, &layout(at_ns)).iter().for_each(|it| decoder.block(it).expect("it is one"));
        }
        let process = |number| CapturedProcess { number, ..CapturedProcess::default() };
        let mut processes = [process(0), process(3)];
        let alone = decoder.finish(&mut processes);
        let times = processes.map(|it| it.layouts.before.map(|layout| layout.at_ns));
        assert_eq!((alone, times), (Layouts::default(), [Some(5), Some(7)]));
    }
}
