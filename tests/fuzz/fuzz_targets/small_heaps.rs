//! An arbitrary memory image through the walkers of pymalloc and musl: never a panic, and no more
//! resident bytes than there are. The input's first half is an object's data, the second half is
//! what its words can lead to.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memtrace::{
    allocator::{musl, pymalloc},
    model::{
        mapping::{FileId, Mapping, Permissions},
        memory::{PageRun, PageState, Residency, TargetMemory},
    },
};

const DATA: u64 = 0x50_0000;
const HEAP: u64 = 0x60_0000;
const PAGE: usize = 4096;

struct Image<'a>([(u64, &'a [u8]); 2]);

impl TargetMemory for Image<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let found = self.0.iter().find_map(|(start, bytes)| {
            let at = usize::try_from(address.checked_sub(*start)?).ok()?;
            bytes.get(at..at.checked_add(buffer.len())?)
        });
        found.map(|found| buffer.copy_from_slice(found)).is_some()
    }
}

impl Residency for Image<'_> {
    fn runs(&self, start: u64, end: u64) -> Option<Vec<PageRun>> {
        let run = |(at, bytes): &(u64, &[u8])| PageRun {
            start: start.max(*at),
            end: end.min(at + bytes.len() as u64),
            state: PageState::Resident,
            file_backed: false,
            huge: false,
        };
        Some(self.0.iter().map(run).filter(|run| run.start < run.end).collect())
    }
}

fn mapping(start: u64, bytes: &[u8], name: &str) -> Mapping {
    Mapping {
        start,
        end: start + bytes.len() as u64,
        file_offset: 0,
        file: (!name.is_empty()).then_some(FileId { device: (8, 1), inode: 7 }),
        name: name.to_owned(),
        deleted: false,
        permissions: Permissions { read: true, write: true, execute: false },
    }
}

fuzz_target!(|input: &[u8]| {
    let pages = input.len() / PAGE;
    if !(2..=512).contains(&pages) {
        return;
    }
    let (data, heap) = input[..pages * PAGE].split_at(pages / 2 * PAGE);
    let image = Image([(DATA, data), (HEAP, heap)]);
    let mappings = [mapping(DATA, data, "/usr/bin/python3.11"), mapping(HEAP, heap, "")];
    let python = pymalloc::Interpreter::all_of(&mappings)[0];
    if let Ok(Some(walk)) = pymalloc::walk(&image, &image, &mappings, &python) {
        assert!(walk.heap.resident.total_bytes() <= heap.len() as u64);
    }
    if let Ok(walk) = musl::walk(&image, &image, &mappings, &mappings[0], None) {
        assert!(walk.heap.resident.total_bytes() <= 2 * input.len() as u64);
    }
});
