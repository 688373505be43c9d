//! Arbitrary memory as a process whose libc has a heap in it: never a panic, and no more steps
//! than the memory has room for. The input is the page of the arena and of `mp_`, and then the
//! heap, over and over.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memtrace::{
    allocator::glibc::{
        layout::{Layout, ParameterLayout},
        shape::ArenaShape,
        target::Target,
        walk::{Request, walk},
    },
    model::{
        mapping::{Mapping, Permissions},
        memory::{PageRun, PageState, Residency, TargetMemory},
    },
};

const DATA: u64 = 0x1000;
const DATA_BYTES: u64 = 0x1000;
const HEAP: u64 = 0x400_0000;
const HEAP_BYTES: u64 = 1 << 20;

struct Image<'i>(&'i [u8]);

impl TargetMemory for Image<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let end = address.saturating_add(buffer.len() as u64);
        let in_data = address >= DATA && end <= DATA + DATA_BYTES;
        if !in_data && (address < HEAP || end > HEAP + HEAP_BYTES) {
            return false;
        }
        let at = if in_data { address - DATA } else { address - HEAP + DATA_BYTES } as usize;
        let bytes = self.0.iter().cycle().skip(at % self.0.len());
        buffer.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        true
    }
}

impl Residency for Image<'_> {
    fn runs(&self, start: u64, end: u64) -> Option<Vec<PageRun>> {
        let all = [(DATA, DATA + DATA_BYTES), (HEAP, HEAP + HEAP_BYTES)];
        let clipped = all.map(|(from, to)| (from.max(start), to.min(end)));
        let (state, file_backed, huge) = (PageState::Resident, false, false);
        let run = |(start, end)| PageRun { start, end, state, file_backed, huge };
        Some(clipped.into_iter().filter(|(from, to)| from < to).map(run).collect())
    }
}

fn mapping(start: u64, bytes: u64, name: &str) -> Mapping {
    let permissions = Permissions { read: true, write: true, execute: false };
    let (name, end) = (name.to_owned(), start + bytes);
    Mapping { start, end, file_offset: 0, file: None, name, deleted: false, permissions }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    if bytes.is_empty() {
        return;
    }
    let image = Image(bytes);
    let parameters = ParameterLayout {
        address: DATA + 0xe00,
        map_count: DATA + 0xe3c,
        mapped_bytes: DATA + 0xe50,
        program_break: [DATA + 0xe60; 2],
        tcache_count: Some(DATA + 0xe78),
        huge_page: Some([DATA + 0xe28, DATA + 0xe30]),
    };
    let next = [0x868, 0x870, 0x818][usize::from(first % 3)];
    let layout = Layout {
        main_arena: DATA,
        shape: ArenaShape { next, counts_threads: first & 64 == 0 },
        parameters: (first & 128 == 0).then_some(parameters),
    };
    let name = if first & 32 == 0 { "[heap]" } else { "" };
    let mappings = [mapping(DATA, DATA_BYTES, "data"), mapping(HEAP, HEAP_BYTES, name)];
    let target =
        Target { memory: &image, residency: &image, mappings: &mappings, page_bytes: 4096 };
    let blocks = [HEAP + 0x10, HEAP + 0x110];
    let request =
        Request { blocks: &blocks, layout_code_bytes: Some(1 << 20), ..Request::default() };
    if let Ok(walked) = walk(&target, &layout, request) {
        assert_eq!(walked.blocks.len(), blocks.len());
    }
});
