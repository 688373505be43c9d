//! Arbitrary memory as a CPython: never a panic, and a name or a placeholder for every frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memtrace::{
    model::{memory::TargetMemory, stack::PythonFrame},
    runtime::python::{CodeNames, LineFormat, Moment, Objects, Offsets, Version, walk},
};

/// The image begins here, so that small words in it lead to places in it.
const START: u64 = 0x1000;

struct Image<'a>(&'a [u8]);

impl TargetMemory for Image<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let at = address.checked_sub(START).and_then(|at| usize::try_from(at).ok());
        let end = at.and_then(|at| at.checked_add(buffer.len()));
        let found = at.zip(end).and_then(|(at, end)| self.0.get(at..end));
        found.map(|bytes| buffer.copy_from_slice(bytes)).is_some()
    }
}

fuzz_target!(|input: (u8, [u64; 4], Vec<(u16, u16)>, Vec<u8>)| {
    let (minor, [code_type, string_type, bytes_type, none], frames, bytes) = input;
    let version = Version::v3(8 + minor % 7);
    let Some(offsets) = Offsets::of(version) else { return };
    let offsets = *offsets;
    let memory = Image(&bytes);
    let mut names =
        CodeNames::new(Objects { version, offsets, code_type, string_type, bytes_type, none });
    let mut frames: Vec<PythonFrame> = frames
        .into_iter()
        .map(|(code, position)| PythonFrame { code: code.into(), position: position.into() })
        .collect();
    frames.extend(walk(&offsets.layout(), START, &memory).frames);
    // The second stack was waiting when the first was named, the third was not.
    for moment in
        [Moment { taken_ns: 1, now_ns: 2 }, Moment { taken_ns: 1, now_ns: 3 }, Moment::NOW]
    {
        assert_eq!(names.resolve(&frames, moment, &memory).len(), frames.len());
    }
    for format in [LineFormat::Lnotab, LineFormat::Ranges, LineFormat::Locations] {
        assert_ne!(format.line_at(&bytes, 1, i64::from(minor)), Some(0));
    }
});
