//! On memory that is put together here, and on arbitrary memory.

use std::cell::RefCell;

use proptest::prelude::*;

use super::{super::offsets::*, *};

const CODE_TYPE: u64 = 0x10;
const STRING_TYPE: u64 = 0x20;
const BYTES_TYPE: u64 = 0x30;
const NONE: u64 = 0x40;
const CODE: u64 = 0x1000;
const FILE: u64 = 0x2000;
const NAME: u64 = 0x2100;
const QUALNAME: u64 = 0x2200;
const TABLE: u64 = 0x2300;
const IMAGE_START: u64 = 0x1000;
const IMAGE_BYTES: usize = 0x2000;
/// One code unit on the first line, two on the next, one without a line.
const TWO_LINES: [u8; 5] = [0x80, 0, 0x80 | 13 << 3 | 1, 2, 0x80 | 15 << 3];

/// A piece of memory.
struct Image {
    start: u64,
    bytes: Vec<u8>,
    reads: RefCell<usize>,
}

impl Image {
    fn put(&mut self, address: u64, bytes: &[u8]) {
        let at = (address - self.start) as usize;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn put_word(&mut self, address: u64, word: u64) {
        self.put(address, &word.to_le_bytes());
    }

    fn put_string(&mut self, address: u64, characters: &str) {
        self.put_word(address + 8, STRING_TYPE);
        self.put_word(address + 16, characters.len() as u64);
        self.put_word(address + 32, 1 << 2 | 1 << 5 | 1 << 6);
        self.put(address + 48, characters.as_bytes());
    }

    fn put_code(&mut self, address: u64) {
        self.put_word(address + 8, CODE_TYPE);
        self.put_word(address + 16, 4);
        self.put(address + 72, &10_u32.to_le_bytes());
        for (at, value) in [(112, FILE), (120, NAME), (128, QUALNAME), (136, TABLE)] {
            self.put_word(address + at, value);
        }
    }
}

impl TargetMemory for Image {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        *self.reads.borrow_mut() += 1;
        let found = address.checked_sub(self.start).and_then(|at| {
            let at = usize::try_from(at).ok()?;
            self.bytes.get(at..at.checked_add(buffer.len())?)
        });
        found.map(|bytes| buffer.copy_from_slice(bytes)).is_some()
    }
}

fn image() -> Image {
    let bytes = vec![0; IMAGE_BYTES];
    let mut image = Image { start: IMAGE_START, bytes, reads: RefCell::new(0) };
    image.put_code(CODE);
    image.put_string(FILE, "/srv/app/server.py");
    image.put_string(NAME, "load");
    image.put_string(QUALNAME, "Server.load");
    image.put_word(TABLE + 8, BYTES_TYPE);
    image.put_word(TABLE + 16, TWO_LINES.len() as u64);
    image.put(TABLE + 32, &TWO_LINES);
    image
}

fn names(minor: u8) -> CodeNames {
    CodeNames::new(Objects {
        version: Version::v3(minor),
        offsets: *Offsets::of(Version::v3(minor)).unwrap(),
        code_type: CODE_TYPE,
        string_type: STRING_TYPE,
        bytes_type: BYTES_TYPE,
        none: NONE,
    })
}

/// A frame of 3.11 at a code unit.
fn at(code: u64, unit: i64) -> PythonFrame {
    PythonFrame { code, position: (code + 184).wrapping_add_signed(unit * 2) }
}

/// `function:line` of each, `-` for what is not shown.
fn shown(names: &mut CodeNames, frames: &[PythonFrame], image: &Image) -> Vec<String> {
    let resolved = names.resolve(frames, Moment::NOW, image);
    let text = |frame: Option<Arc<Frame>>| {
        frame.map_or("-".to_owned(), |it| format!("{}:{}", it.function, it.line.unwrap_or(0)))
    };
    resolved.into_iter().map(text).collect()
}

#[test]
fn a_frame_has_its_qualified_name_its_file_and_its_line() {
    let found = names(11).resolve(&[at(CODE, 1)], Moment::NOW, &image());
    let expected = Frame {
        function: "Server.load".to_owned(),
        module: "server.py".to_owned(),
        file: Some("/srv/app/server.py".to_owned()),
        line: Some(11),
        inlined: false,
        language: Language::Python,
    };
    assert_eq!(found, [Some(Arc::new(expected))]);
}

#[test]
fn the_result_has_a_place_for_every_frame() {
    let frames = [
        at(CODE, 0),
        PythonFrame { code: NONE, position: 0 },
        at(0xdead_0000, 0),
        PythonFrame { position: at(CODE, 2).position | ENTRY_MARK, code: CODE },
        at(CODE, 3),
        at(CODE, -1),
        at(FILE, 0),
    ];
    let mut names = names(11);
    let unreadable = format!("{UNREADABLE}:0");
    let expected = [
        "Server.load:10",
        "-",
        &unreadable,
        "Server.load:11",
        "Server.load:0",
        "Server.load:10",
        &unreadable,
    ];
    assert_eq!(shown(&mut names, &frames, &image()), expected);
}

#[test]
fn a_position_outside_of_the_code_is_not_of_this_code() {
    for unit in [-2, 4, 1000, i64::MAX / 4] {
        assert_eq!(
            names(11).resolve_each(&[at(CODE, unit)], Moment::NOW, &image()),
            [Resolved::Unreadable]
        );
    }
}

#[test]
fn code_that_is_known_is_only_compared() {
    let (mut names, image) = (names(11), image());
    shown(&mut names, &[at(CODE, 0)], &image);
    let first = image.reads.replace(0);
    assert_eq!(shown(&mut names, &[at(CODE, 1), at(CODE, 0)], &image).len(), 2);
    assert_eq!((first, image.reads.take()), (8, 1));
}

#[test]
fn another_object_at_the_address_of_a_freed_one_gets_its_own_name() {
    let (mut names, mut image) = (names(11), image());
    assert_eq!(shown(&mut names, &[at(CODE, 0)], &image), ["Server.load:10"]);
    image.put_string(QUALNAME + 0x800, "evict");
    image.put_word(CODE + 128, QUALNAME + 0x800);
    assert_eq!(shown(&mut names, &[at(CODE, 0)], &image), ["evict:10"]);
    // The same strings, but other constants: compiled again.
    image.put_word(CODE + 24, 0x1234);
    image.put(CODE + 72, &20_u32.to_le_bytes());
    assert_eq!(shown(&mut names, &[at(CODE, 0)], &image), ["evict:20"]);
    image.put_word(CODE + 8, STRING_TYPE);
    assert_eq!(names.resolve_each(&[at(CODE, 0)], Moment::NOW, &image), [Resolved::Unreadable]);
}

#[test]
fn names_that_are_no_strings_and_tables_that_are_no_bytes_are_unreadable() {
    for broken in [FILE, QUALNAME, TABLE] {
        for (at_offset, value) in [(8, 0x50), (16, u64::MAX), (16, 1 << 40)] {
            let mut image = image();
            image.put_word(broken + at_offset, value);
            let found = names(11).resolve_each(&[at(CODE, 0)], Moment::NOW, &image);
            assert_eq!(found, [Resolved::Unreadable], "{broken:#x}");
        }
    }
}

#[test]
fn the_interpreters_own_frame_below_init_is_not_shown() {
    let mut image = image();
    image.put_word(CODE + 112, NAME);
    image.put(TABLE + 32, &[0x80 | 15 << 3 | 3]);
    image.put_word(TABLE + 16, 1);
    assert_eq!(names(11).resolve_each(&[at(CODE, 0)], Moment::NOW, &image), [Resolved::Internal]);
    // A function with the name of its file has lines.
    image.put(TABLE + 32, &[0x80 | 3, 0]);
    image.put_word(TABLE + 16, 2);
    assert_eq!(shown(&mut names(11), &[at(CODE, 0)], &image), ["Server.load:10"]);
}

#[test]
fn before_3_11_positions_are_instruction_numbers_and_minus_one_is_the_first_line() {
    let mut image = image();
    image.put(CODE + 40, &10_u32.to_le_bytes());
    image.put_word(CODE + 104, FILE);
    image.put_word(CODE + 112, NAME);
    image.put_word(CODE + 120, TABLE);
    image.put(TABLE + 32, &[4, 1, 4, 2]);
    image.put_word(TABLE + 16, 4);
    let frame =
        |last: i64| [PythonFrame { code: CODE, position: last.cast_unsigned() | ENTRY_MARK }];
    let lines = |minor: u8, last| shown(&mut names(minor), &frame(last), &image).remove(0);
    assert_eq!((lines(10, 0), lines(10, 2)), ("load:11".to_owned(), "load:13".to_owned()));
    assert_eq!((lines(9, 4), lines(9, 8)), ("load:11".to_owned(), "load:13".to_owned()));
    assert_eq!((lines(10, -1), lines(8, -1)), ("load:10".to_owned(), "load:10".to_owned()));
}

#[test]
fn an_unreadable_process_leaves_placeholders() {
    let gone = Image { start: 0, bytes: Vec::new(), reads: RefCell::new(0) };
    let mut names = names(14);
    let found = names.resolve(&[at(CODE, 0); 128], Moment::NOW, &gone);
    assert!(found.iter().all(|it| it.as_ref().is_some_and(|it| it.function == UNREADABLE)));
    assert_eq!(found.len(), 128);
}

/// Words that lead from one object of the image to another more often than random ones would.
fn plausible_word() -> impl Strategy<Value = u64> {
    prop_oneof![
        prop::sample::select(vec![CODE_TYPE, STRING_TYPE, BYTES_TYPE, NONE, 0, 1, u64::MAX]),
        IMAGE_START..IMAGE_START + IMAGE_BYTES as u64,
        0u64..256,
        any::<u64>(),
    ]
}

proptest! {
    #[test]
    fn hostile_memory_never_panics_and_keeps_every_place(
        words in prop::collection::vec((0..IMAGE_BYTES / 8, plausible_word()), 0..200),
        frames in prop::collection::vec((plausible_word(), plausible_word()), 0..20),
        minor in 8u8..=14,
    ) {
        let mut image = image();
        for (word, value) in words {
            image.put_word(IMAGE_START + word as u64 * 8, value);
        }
        let mut frames: Vec<_> =
            frames.into_iter().map(|(code, position)| PythonFrame { code, position }).collect();
        frames.extend([at(CODE, 0), at(CODE, 2)]);
        let mut names = names(minor);
        for _ in 0..2 {
            prop_assert_eq!(names.resolve(&frames, Moment::NOW, &image).len(), frames.len());
        }
        let layout = Offsets::of(Version::v3(minor)).unwrap().layout();
        for frame in frames {
            let walked = super::super::walk(&layout, frame.code, &image);
            prop_assert!(walked.frames.len() <= 128);
        }
    }
}

#[test]
fn stacks_that_waited_are_named_by_what_was_read_since_they_were_taken() {
    let gone = Image { start: 0, bytes: Vec::new(), reads: RefCell::new(0) };
    let mut names = names(11);
    let mut function_at = |taken_ns, now_ns, image: &Image| {
        let found = names.resolve(&[at(CODE, 0)], Moment { taken_ns, now_ns }, image);
        found[0].as_ref().unwrap().function.clone()
    };
    let alive = image();
    assert_eq!(function_at(10, 20, &alive), "Server.load");
    let reads = *alive.reads.borrow();
    assert_eq!(function_at(20, 30, &alive), "Server.load");
    assert_eq!(*alive.reads.borrow(), reads, "it was read again");
    assert_eq!(function_at(15, 31, &gone), "Server.load");
    assert_eq!(function_at(21, 32, &gone), UNREADABLE, "it may have gone at 20.5");
    assert_eq!(function_at(25, 40, &alive), "Server.load");
    assert_eq!(function_at(39, 41, &gone), "Server.load", "it was seen again");
}
