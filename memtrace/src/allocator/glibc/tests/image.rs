//! A main arena of glibc 2.27 to 2.42 and its heap, in arrays.

use std::{cell::Cell, collections::BTreeSet};

use super::super::{
    layout::{Layout, ParameterLayout},
    shape::{ArenaShape, HEAP_MAX_BYTES},
    target::Target,
};
use crate::model::{
    mapping::{FileId, Mapping, Permissions},
    memory::{PageRun, PageState, Residency, TargetMemory},
};

/// Where libc's data is.
pub const DATA: u64 = 0x7f00_0000_0000;
/// The arena in it.
pub const ARENA: u64 = DATA + 0x1000;
/// `mp_` in it.
pub const PARAMETERS: u64 = DATA + 0x200;
const DATA_BYTES: u64 = 0x2000;
/// Where the heap is.
pub const HEAP: u64 = 0x5555_0000_0000;
/// Its size.
pub const HEAP_BYTES: u64 = 2 << 20;

/// Size of the heap of each other arena.
pub const ARENA_HEAP_BYTES: u64 = 132 << 10;
/// `sizeof(struct heap_info)` from 2.35 on.
pub const HEAP_INFO_BYTES: u64 = 0x30;

const PAGE: u64 = 4096;
/// Form of the arena.
pub const SHAPE: ArenaShape = ArenaShape { next: 0x870, counts_threads: true };

/// A process.
#[derive(Clone)]
pub struct Image {
    /// Where memory is, and its content.
    memory: Vec<(u64, Vec<u8>)>,
    mappings: Vec<Mapping>,
    /// Pages in swap.
    pub swapped: BTreeSet<u64>,
    /// Pages that are not there.
    pub absent: BTreeSet<u64>,
}

impl Image {
    /// A heap of these chunks (size, in use) and `top`.
    pub fn of_chunks(chunks: &[(u64, bool)]) -> Self {
        let file = Some(FileId { device: (1, 1), inode: 7 });
        let mut image = Self {
            memory: vec![
                (HEAP, vec![0; HEAP_BYTES as usize]),
                (DATA, vec![0; DATA_BYTES as usize]),
            ],
            swapped: BTreeSet::new(),
            mappings: vec![
                mapping(HEAP, HEAP_BYTES, "[heap]", None),
                mapping(DATA, DATA_BYTES, "/lib/libc.so.6", file),
            ],
            absent: BTreeSet::new(),
        };
        image.write_arena();
        let top = image.write_chunks(HEAP, HEAP + HEAP_BYTES, chunks);
        image.write(ARENA + SHAPE.top(), top);
        image
    }

    fn write_arena(&mut self) {
        self.write(ARENA + SHAPE.next, ARENA);
        self.write(ARENA + SHAPE.next + 0x10, 1);
        self.write(ARENA + SHAPE.system_mem(), HEAP_BYTES);
        self.write(ARENA + SHAPE.system_mem() + 8, HEAP_BYTES);
        self.write(PARAMETERS + 0x60, HEAP);
        self.write(PARAMETERS + 0x78, 7);
    }

    /// With so many other arenas, each with these chunks in one heap, in the order of the ring.
    pub fn with_arenas(mut self, count: u64, chunks: &[(u64, bool)]) -> Self {
        for number in 0..count {
            let (heap, end) = (heap_of(number), heap_of(number) + ARENA_HEAP_BYTES);
            self.memory.push((heap, vec![0; ARENA_HEAP_BYTES as usize]));
            let mut reserve = mapping(end, HEAP_MAX_BYTES - ARENA_HEAP_BYTES, "", None);
            reserve.permissions = Permissions { read: false, write: false, execute: false };
            // They ascend, and libc is behind them.
            let libc = self.mappings.len() - 1;
            self.mappings.insert(libc, reserve);
            self.mappings.insert(libc, mapping(heap, ARENA_HEAP_BYTES, "", None));
            self.write_other_arena(heap, chunks);
            let is_last = number + 1 == count;
            let next = if is_last { ARENA } else { heap_of(number + 1) + HEAP_INFO_BYTES };
            self.write(heap + HEAP_INFO_BYTES + SHAPE.next, next);
        }
        self.write(ARENA + SHAPE.next, heap_of(0) + HEAP_INFO_BYTES);
        self
    }

    fn write_other_arena(&mut self, heap: u64, chunks: &[(u64, bool)]) {
        let (arena, end) = (heap + HEAP_INFO_BYTES, heap + ARENA_HEAP_BYTES);
        self.write(heap, arena);
        self.write(heap + 0x10, ARENA_HEAP_BYTES);
        let first = (arena + SHAPE.size_bytes()).next_multiple_of(16);
        let top = self.write_chunks(first, end, chunks);
        self.write(arena + SHAPE.top(), top);
        self.write(arena + SHAPE.next + 0x10, 1);
        self.write(arena + SHAPE.system_mem(), ARENA_HEAP_BYTES);
        self.write(arena + SHAPE.system_mem() + 8, ARENA_HEAP_BYTES);
    }

    fn write_chunks(&mut self, first: u64, end: u64, chunks: &[(u64, bool)]) -> u64 {
        let (mut at, mut before) = (first, (0, true));
        for (size, in_use) in chunks {
            self.write_header(at, *size, before);
            at += size;
            before = (*size, *in_use);
        }
        self.write_header(at, end - at, before);
        at
    }

    fn write_header(&mut self, at: u64, size: u64, (previous_size, in_use): (u64, bool)) {
        self.write(at + 8, size | u64::from(in_use));
        if !in_use {
            self.write(at, previous_size);
        }
    }

    /// Puts a chunk into the fastbin of its size.
    pub fn with_fastbin(mut self, chunk: u64, size: u64) -> Self {
        self.write(ARENA + 0x10 + (size - 0x20) / 16 * 8, chunk);
        self.write(chunk + 16, (chunk + 16) >> 12);
        self
    }

    /// Changes a word.
    pub fn write(&mut self, address: u64, value: u64) {
        let holds = |(start, bytes): &&mut (u64, Vec<u8>)| {
            (*start..*start + bytes.len() as u64).contains(&address)
        };
        let (start, bytes) = self.memory.iter_mut().find(holds).unwrap();
        bytes[(address - *start) as usize..][..8].copy_from_slice(&value.to_le_bytes());
    }

    /// As the walk sees it.
    pub fn target(&self) -> Target<'_> {
        Target { memory: self, residency: self, mappings: &self.mappings, page_bytes: PAGE }
    }

    /// Where everything is.
    pub fn layout(&self) -> Layout {
        Layout {
            main_arena: ARENA,
            shape: SHAPE,
            parameters: Some(ParameterLayout {
                address: PARAMETERS,
                map_count: PARAMETERS + 0x3c,
                mapped_bytes: PARAMETERS + 0x50,
                program_break: [PARAMETERS + 0x60; 2],
                tcache_count: Some(PARAMETERS + 0x78),
                huge_page: Some([PARAMETERS + 0x28, PARAMETERS + 0x30]),
            }),
        }
    }
}

/// Where an arena's heap is.
pub fn heap_of(number: u64) -> u64 {
    0x7e00_0000_0000 + number * HEAP_MAX_BYTES
}

fn mapping(start: u64, bytes: u64, name: &str, file: Option<FileId>) -> Mapping {
    let permissions = Permissions { read: true, write: true, execute: false };
    let (name, end) = (name.to_owned(), start + bytes);
    Mapping { start, end, file_offset: 0, file, name, deleted: false, permissions }
}

impl TargetMemory for Image {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let found = self.memory.iter().find_map(|(start, bytes)| {
            let at = usize::try_from(address.checked_sub(*start)?).ok()?;
            bytes.get(at..at.checked_add(buffer.len())?)
        });
        found.map(|bytes| buffer.copy_from_slice(bytes)).is_some()
    }
}

/// Memory that changes after one of its pages was read.
pub struct Changing<'i> {
    before: &'i Image,
    after: &'i Image,
    page: u64,
    is_over: Cell<bool>,
}

impl<'i> Changing<'i> {
    /// It is as `before` until the page was read.
    pub fn new(before: &'i Image, after: &'i Image, page: u64) -> Self {
        Self { before, after, page, is_over: Cell::new(false) }
    }
}

impl TargetMemory for Changing<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let image = if self.is_over.get() { self.after } else { self.before };
        let end = address + buffer.len() as u64;
        self.is_over.set(self.is_over.get() || (address..end).contains(&self.page));
        image.read(address, buffer)
    }
}

impl Residency for Image {
    fn runs(&self, start: u64, end: u64) -> Option<Vec<PageRun>> {
        let extents = self.memory.iter().map(|(start, bytes)| *start..*start + bytes.len() as u64);
        let pages = extents.flat_map(|it| it.step_by(PAGE as usize));
        let there = pages.filter(|page| (start..end).contains(page) && !self.absent.contains(page));
        let run = |page| {
            let is_swapped = self.swapped.contains(&page);
            let state = if is_swapped { PageState::Swapped } else { PageState::Resident };
            PageRun { start: page, end: page + PAGE, state, file_backed: false, huge: false }
        };
        Some(there.map(run).collect())
    }
}
