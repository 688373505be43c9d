//! Walks Python's frames in hostile memory by hostile offsets: never a panic, always bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memtrace_common::{
    config::CodeRange,
    memory::ReadMemory,
    python::{MAX_PYTHON_FRAMES, PythonEnd, PythonLayout, walk::MAX_PYTHON_STEPS},
    unwind::walk::Walk,
};

/// The input, over and over: whatever address is read, something of it is there.
struct Memory<'a>(&'a [u8]);

impl Memory<'_> {
    fn byte(&self, address: u64) -> u8 {
        self.0[(address % self.0.len() as u64) as usize]
    }

    fn word(&self, address: u64) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|at| self.byte(address.wrapping_add(at as u64))))
    }
}

impl ReadMemory for Memory<'_> {
    fn read_words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        let is_readable = address >> 63 == 0;
        is_readable
            .then(|| std::array::from_fn(|at| self.word(address.wrapping_add(8 * at as u64))))
    }
}

fn layout(memory: &Memory<'_>) -> PythonLayout {
    let offset = |index: u64| memory.word(8 * index) as u32 & 0xff;
    let word = |index: u64| memory.word(8 * index);
    PythonLayout {
        kind: offset(0) & 3,
        thread_state_slot: offset(1),
        thread_frame: offset(2),
        has_cframe: offset(3) & 1,
        cframe_frame: offset(4),
        cframe_previous: offset(5),
        frame_bytes: offset(6),
        frame_code: offset(7),
        frame_previous: offset(8),
        frame_position: offset(9),
        frame_owner: offset(10),
        entry_owner_min: offset(11),
        code_tag_mask: word(12),
        eval_ranges: [
            CodeRange { start: word(13), end: word(14) },
            CodeRange { start: word(15), end: word(16) },
        ],
        image: 0,
        task_thread_pointer: 1,
    }
}

fuzz_target!(|input: &[u8]| {
    if input.is_empty() {
        return;
    }
    let memory = Memory(input);
    let layout = layout(&memory);
    let mut walk = Walk::default();
    if walk.start_python(&memory, &layout, memory.word(17), 0) {
        for _ in 0..MAX_PYTHON_STEPS {
            if !walk.step_python(&memory, &layout) {
                break;
            }
        }
    }
    assert!(walk.python().count() as usize <= MAX_PYTHON_FRAMES);
    assert!(PythonEnd::from_u32(walk.python().end()).is_some());
});
