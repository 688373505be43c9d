use std::{cell::Cell, collections::HashMap};

use proptest::prelude::*;

use super::*;
use crate::config::CodeRange;

/// Memory of words, by address.
#[derive(Clone, Default)]
struct Image(HashMap<u64, u64>);

impl ReadMemory for Image {
    fn read_words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        let mut words = [0; N];
        for (index, word) in words.iter_mut().enumerate() {
            *word = *self.0.get(&address.wrapping_add(8 * index as u64))?;
        }
        Some(words)
    }
}

impl Image {
    fn put(&mut self, address: u64, words: &[u64]) {
        self.0.extend((address..).step_by(8).zip(words.iter().copied()));
    }
}

/// Where the tests have what.
const THREAD_POINTER: u64 = 0x7f00_0000;
const THREAD: u64 = 0x5000;
const FRAMES: u64 = 0x1_0000;
const STACK: u64 = 0x7fff_0000;

const SEED: u64 = 7;

/// A layout whose thread state is in the slot 16 bytes up and has its frame (or `_PyCFrame`) in
/// word 3; frames are five words: code, previous, position, -, owner (a byte at 33).
fn layout(kind: PythonKind) -> PythonLayout {
    PythonLayout {
        kind: kind as u32,
        thread_state_slot: 16,
        thread_frame: 24,
        frame_bytes: 40,
        frame_code: 0,
        frame_previous: 8,
        frame_position: 16,
        frame_owner: 33,
        entry_owner_min: 3,
        ..PythonLayout::default()
    }
}

fn cframe_layout() -> PythonLayout {
    let kind = PythonKind::CFrames;
    PythonLayout { has_cframe: 1, cframe_frame: 8, cframe_previous: 16, ..layout(kind) }
}

/// The thread state is there, and leads to `first`.
fn image(first: u64) -> Image {
    let mut image = Image::default();
    image.put(THREAD_POINTER + 16, &[THREAD]);
    image.put(THREAD + 24, &[first]);
    image
}

fn at(index: u64) -> u64 {
    FRAMES + index * 0x100
}

/// A frame that is not on the C stack.
fn put_frame(image: &mut Image, address: u64, previous: u64, owner: u64) {
    // Around the owner there is what is not looked at.
    let owner = 0xff00_0055 | owner << 8;
    image.put(address, &[code_of(address), previous, position_of(address), !0, owner]);
}

fn code_of(frame: u64) -> u64 {
    frame << 8
}

fn position_of(frame: u64) -> u64 {
    frame << 8 | 0x40
}

fn frame(address: u64) -> (u64, u64) {
    (code_of(address), position_of(address))
}

fn entry(address: u64) -> (u64, u64) {
    (code_of(address), position_of(address) | ENTRY_MARK)
}

/// A finished walk.
struct Walked {
    walk: PythonWalk,
    frames: Vec<(u64, u64)>,
}

impl Walked {
    fn end(&self) -> PythonEnd {
        PythonEnd::from_u32(self.walk.end()).unwrap()
    }

    /// Which of these addresses are told to be entries, in this order.
    fn entries(&mut self, expected: &[u64]) -> Vec<u64> {
        let marks = self.walk.marks_mut();
        marks.rewind();
        expected.iter().copied().filter(|entry| marks.is_in_frame(*entry, entry + 8)).collect()
    }

    fn assert(&mut self, frames: &[(u64, u64)], entries: &[u64], end: PythonEnd) {
        assert_eq!((self.frames.as_slice(), self.end()), (frames, end));
        assert_eq!(self.entries(entries), entries);
    }
}

fn walk(memory: &impl ReadMemory, layout: &PythonLayout) -> Walked {
    walk_with(memory, layout, &mut thread(), &mut Window::default())
}

/// A thread of which nothing but its pointer is known.
fn thread() -> PythonThread {
    PythonThread { pointer: Opaque::new(THREAD_POINTER), ..PythonThread::default() }
}

fn walk_with(
    memory: &impl ReadMemory,
    layout: &PythonLayout,
    thread: &mut PythonThread,
    stack: &mut Window,
) -> Walked {
    let (mut walk, mut words) = (PythonWalk::default(), StackWords::default());
    if walk.start(memory, layout, thread, SEED, stack) {
        let mut steps = 0..MAX_PYTHON_STEPS;
        while steps.next().is_some() && walk.step(memory, layout, &mut words, stack) {}
    }
    let count = walk.count() as usize;
    let frames = (0..count).map(|at| (words.get(2 * at), words.get(2 * at + 1))).collect();
    Walked { walk, frames }
}

/// Memory that counts how often it is read.
struct Counted(Image, Cell<u32>);

impl ReadMemory for Counted {
    fn read_words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        self.0.read_words(address)
    }

    fn read_part<const N: usize>(&self, address: u64, bytes: u32, window: &mut [u64; N]) -> bool {
        self.1.set(self.1.get() + 1);
        self.0.read_part(address, bytes, window)
    }
}

/// As on the stack of a thread of 3.11 and later: 40 frames of 96 bytes on two pages.
#[test]
fn frames_that_lie_close_together_are_read_together() {
    let (frames, size_bytes) = (40, 96);
    let place = |index: u64| FRAMES + 0x200 + index * size_bytes;
    let mut image = image(place(frames - 1));
    image.put(FRAMES, &[!0; 1024]);
    for index in 0..frames {
        let previous = if index == 0 { 0 } else { place(index - 1) };
        put_frame(&mut image, place(index), previous, 0);
    }
    let expected: Vec<_> = (0..frames).rev().map(|index| frame(place(index))).collect();
    let together = Counted(image, Cell::new(0));
    walk(&together, &layout(PythonKind::EntryFrames)).assert(&expected, &[], PythonEnd::Complete);
    assert!(together.1.get() <= 10, "{} reads of {frames} frames", together.1.get());
}

/// Entry frames lie on the C stack; the last of a run's frames leads to one.
#[test]
fn runs_end_at_frames_on_the_c_stack() {
    let mut image = image(at(1));
    put_frame(&mut image, at(1), at(2), 0);
    put_frame(&mut image, at(2), STACK, 1);
    put_frame(&mut image, STACK, at(3), 3);
    put_frame(&mut image, at(3), STACK + 0x500, 0);
    put_frame(&mut image, STACK + 0x500, 0, 4);
    walk(&image, &layout(PythonKind::EntryFrames)).assert(
        &[frame(at(1)), entry(at(2)), entry(at(3))],
        &[STACK, STACK + 0x500],
        PythonEnd::Complete,
    );
}

/// As when the last frame of a run has returned, and one of its locals runs a destructor; and as
/// 3.14's thread states end with a frame of their own.
#[test]
fn an_entry_without_frames_is_none() {
    let mut image = image(STACK);
    put_frame(&mut image, STACK, STACK + 0x100, 3);
    put_frame(&mut image, STACK + 0x100, at(1), 3);
    put_frame(&mut image, at(1), STACK + 0x200, 0);
    put_frame(&mut image, STACK + 0x200, THREAD + 0x800, 3);
    put_frame(&mut image, THREAD + 0x800, 0, 3);
    let mut walked = walk(&image, &layout(PythonKind::EntryFrames));
    walked.assert(&[entry(at(1))], &[STACK + 0x200], PythonEnd::Complete);
    assert!(walked.entries(&[STACK]).is_empty());
}

/// 3.12 has both.
#[test]
fn entry_frames_are_found_through_a_cframe() {
    let mut image = image(STACK + 0x40);
    image.put(STACK + 0x48, &[at(1)]);
    put_frame(&mut image, at(1), STACK, 0);
    put_frame(&mut image, STACK, 0, 3);
    let kind = PythonKind::EntryFrames as u32;
    let layout = PythonLayout { kind, ..cframe_layout() };
    walk(&image, &layout).assert(&[entry(at(1))], &[STACK], PythonEnd::Complete);
}

#[test]
fn runs_have_their_cframe_on_the_c_stack() {
    let mut image = image(STACK);
    image.put(STACK, &[0, at(1), STACK + 0x200]);
    image.put(STACK + 0x200, &[0, at(3), THREAD + 0x800]);
    put_frame(&mut image, at(1), at(2), 0);
    put_frame(&mut image, at(2), at(3), 1);
    put_frame(&mut image, at(3), 0, 1);
    walk(&image, &cframe_layout()).assert(
        &[frame(at(1)), entry(at(2)), entry(at(3))],
        &[STACK, STACK + 0x200],
        PythonEnd::Complete,
    );
}

/// As in 3.11: the slot is empty or has a state, and that has a run on the stack or the `_PyCFrame`
/// inside of itself.
fn put_state(image: &mut Image, state: u64, runs: bool) {
    image.put(THREAD_POINTER + 16, &[state]);
    if state != 0 {
        image.put(state + 24, &[if runs { STACK + 0x40 } else { state + 0x80 }]);
        image.put(state + 0x80, &[0, 0, 0]);
    }
}

/// A stack with the `_PyCFrame` of a run whose one frame is this.
fn put_run(image: &mut Image, frame: u64) {
    image.put(STACK, &[0; 512]);
    image.put(STACK + 0x40, &[0, frame, THREAD + 0x80]);
    put_frame(image, frame, 0, 1);
}

#[test]
fn a_state_with_a_run_on_the_stack_is_found_without_its_slot_in_3_11_alone() {
    for (kind, is_kept) in [(PythonKind::CFrames, true), (PythonKind::EntryFrames, false)] {
        let mut image = Image::default();
        put_run(&mut image, at(1));
        put_state(&mut image, THREAD, true);
        let layout = PythonLayout { kind: kind as u32, ..cframe_layout() };
        let (mut thread, mut stack) = (thread(), Window::default());
        let mut reads_slot = |image: &Image| {
            stack.read(image, STACK);
            walk_with(image, &layout, &mut thread, &mut stack).end() == PythonEnd::Unreadable
        };
        assert!(!reads_slot(&image));
        image.0.remove(&(THREAD_POINTER + 16));
        assert_eq!(reads_slot(&image), !is_kept);
    }
}

proptest! {
    /// What a thread of 3.11 does, step by step: it gets a state, at one of two places, as a callback
    /// does of a thread that is not Python's; runs a frame of its own; returns from it; and gives the
    /// state back, whose memory stays as it was.
    #[test]
    fn walks_by_a_kept_state_are_those_by_the_slot(steps in prop::collection::vec(0..5u64, 1..40)) {
        let mut image = Image::default();
        put_run(&mut image, at(1));
        put_state(&mut image, 0, false);
        let (mut state, mut kept, mut stack) = (0, thread(), Window::default());
        for step in steps {
            match step {
                0 | 1 if state == 0 => {
                    state = THREAD + step * 0x1000;
                    put_state(&mut image, state, false);
                }
                2 => put_state(&mut image, state, true),
                3 => put_state(&mut image, state, false),
                4 if state != 0 => {
                    put_state(&mut image, state, false);
                    put_state(&mut image, 0, false);
                    state = 0;
                }
                _ => put_run(&mut image, at(step + 2)),
            }
            stack.read(&image, STACK);
            let by_kept = walk_with(&image, &cframe_layout(), &mut kept, &mut stack);
            let by_slot = walk(&image, &cframe_layout());
            prop_assert_eq!((&by_kept.frames, by_kept.end()), (&by_slot.frames, by_slot.end()));
            prop_assert_eq!(by_kept.walk.hash(), by_slot.walk.hash());
        }
    }
}

#[test]
fn the_run_of_a_truncated_chain_of_cframes_is_known() {
    let mut image = image(STACK);
    image.put(STACK, &[0, at(0), 0]);
    for index in 0..200 {
        put_frame(&mut image, at(index), at(index + 1), 0);
    }
    let mut walked = walk(&image, &cframe_layout());
    assert_eq!((walked.frames.len(), walked.end()), (MAX_PYTHON_FRAMES, PythonEnd::Truncated));
    assert_eq!(walked.frames.last(), Some(&entry(at(127))));
    assert_eq!(walked.entries(&[STACK]), [STACK]);
}

#[test]
fn a_cframe_that_cannot_be_read_ends_the_walk_behind_its_run() {
    let mut image = image(STACK);
    image.put(STACK, &[0, at(1)]);
    put_frame(&mut image, at(1), at(2), 1);
    put_frame(&mut image, at(2), 0, 1);
    let mut walked = walk(&image, &cframe_layout());
    walked.assert(&[entry(at(1))], &[STACK], PythonEnd::Unreadable);
}

/// `f_lasti` is a 32-bit number, -1 before the first instruction.
#[test]
fn each_frame_object_is_a_run_of_its_own() {
    let mut image = image(at(1));
    image.put(at(1), &[0xc0de, at(2), 0x1234_5678_0000_0006, 0, 0]);
    image.put(at(2), &[0xc0df, at(3), 0xffff_ffff_0000_0008, 0, 0]);
    image.put(at(3), &[0xc0e0, 0, 0x0000_0009_ffff_ffff, 0, 0]);
    let ranges = [CodeRange { start: 10, end: 20 }, CodeRange::default()];
    let objects = PythonLayout { eval_ranges: ranges, ..layout(PythonKind::FrameObjects) };
    let mut walked = walk(&image, &objects);
    let expected = [(0xc0de, 6 | ENTRY_MARK), (0xc0df, 8 | ENTRY_MARK), (0xc0e0, !0)];
    walked.assert(&expected, &[], PythonEnd::Complete);
    assert!(walked.walk.marks_mut().is_in_loop(10) && !walked.walk.marks_mut().is_in_loop(20));

    let upper_half = PythonLayout { frame_position: 20, ..objects };
    let positions = walk(&image, &upper_half).frames.into_iter().map(|frame| frame.1);
    let upper: Vec<u64> = positions.collect();
    assert_eq!(upper, [0x1234_5678 | ENTRY_MARK, !0, 9 | ENTRY_MARK]);
}

#[test]
fn tags_are_taken_off_code_pointers() {
    let mut image = image(at(1));
    image.put(at(1), &[0xc0de | 3, STACK, 1, 0, 0]);
    put_frame(&mut image, STACK, 0, 3);
    let tagged = PythonLayout { code_tag_mask: 3, ..layout(PythonKind::EntryFrames) };
    assert_eq!(walk(&image, &tagged).frames, [(0xc0de & !3, 1 | ENTRY_MARK)]);
}

#[test]
fn a_thread_without_python_says_so() {
    let mut image = image(at(1));
    image.put(THREAD_POINTER + 16, &[0]);
    for layout in [cframe_layout(), layout(PythonKind::EntryFrames)] {
        walk(&image, &layout).assert(&[], &[], PythonEnd::NoThreadState);
    }
}

#[test]
fn a_thread_that_runs_no_python_code_has_no_frames() {
    let objects = layout(PythonKind::FrameObjects);
    walk(&image(0), &objects).assert(&[], &[], PythonEnd::Complete);
}

#[test]
fn what_cannot_be_read_ends_the_walk_with_what_was_found() {
    let mut chain = image(at(1));
    put_frame(&mut chain, at(1), at(2), 0);
    let layout = layout(PythonKind::EntryFrames);
    walk(&chain, &layout).assert(&[frame(at(1))], &[], PythonEnd::Unreadable);
    walk(&Image::default(), &layout).assert(&[], &[], PythonEnd::Unreadable);
    // The thread state leads to a `_PyCFrame` that is not there.
    walk(&image(STACK), &cframe_layout()).assert(&[], &[], PythonEnd::Unreadable);
}

/// The chain has this many frames, then an entry, then another run.
fn deep(count: u64) -> Image {
    let mut image = image(at(0));
    for index in 0..count {
        put_frame(&mut image, at(index), at(index + 1), 0);
    }
    put_frame(&mut image, at(count), at(count + 1), 3);
    put_frame(&mut image, at(count + 1), at(count + 2), 0);
    put_frame(&mut image, at(count + 2), 0, 3);
    image
}

#[test]
fn the_most_frames_that_fit_are_complete_and_one_more_is_truncated() {
    let layout = layout(PythonKind::EntryFrames);
    let most = MAX_PYTHON_FRAMES as u64 - 1;
    let mut fits = walk(&deep(most), &layout);
    assert_eq!((fits.frames.len(), fits.end()), (MAX_PYTHON_FRAMES, PythonEnd::Complete));
    let entries = [at(most), at(most + 2)];
    assert_eq!(fits.entries(&entries), entries);
    let mut exceeds = walk(&deep(most + 1), &layout);
    assert_eq!((exceeds.frames.len(), exceeds.end()), (MAX_PYTHON_FRAMES, PythonEnd::Truncated));
    assert_eq!(exceeds.entries(&[at(most + 1)]), [at(most + 1)]);
}

/// The frames that are there must still be put in the place of their native frame.
#[test]
fn the_entry_of_a_run_that_does_not_fit_is_looked_for_in_bounds() {
    let layout = layout(PythonKind::EntryFrames);
    for (count, is_found) in [(200, true), (MAX_PYTHON_STEPS as u64, false)] {
        let mut walked = walk(&deep(count), &layout);
        assert_eq!((walked.frames.len(), walked.end()), (MAX_PYTHON_FRAMES, PythonEnd::Truncated));
        assert_eq!(!walked.entries(&[at(count)]).is_empty(), is_found, "{count}");
        assert_eq!(walked.frames.last().unwrap().1 & ENTRY_MARK != 0, is_found, "{count}");
    }
}

#[test]
fn a_cyclic_chain_is_truncated() {
    let mut image = image(at(1));
    put_frame(&mut image, at(1), at(2), 0);
    put_frame(&mut image, at(2), at(1), 0);
    for layout in [layout(PythonKind::EntryFrames), layout(PythonKind::FrameObjects)] {
        let walked = walk(&image, &layout);
        assert_eq!((walked.frames.len(), walked.end()), (MAX_PYTHON_FRAMES, PythonEnd::Truncated));
    }
    put_frame(&mut image, at(2), at(2), 3);
    walk(&image, &layout(PythonKind::EntryFrames)).assert(
        &[entry(at(1))],
        &[at(2)],
        PythonEnd::Truncated,
    );
}

#[test]
fn without_python_the_hash_is_the_seed_and_nothing_is_marked() {
    let mut image = image(at(1));
    put_frame(&mut image, at(1), 0, 0);
    let ranges = [CodeRange { start: 0, end: !0 }; 2];
    let objects = PythonLayout { eval_ranges: ranges, ..layout(PythonKind::FrameObjects) };
    let mut walked = walk(&image, &objects).walk;
    assert_ne!(walked.hash(), SEED);
    walked.skip(SEED);
    walked.marks_mut().rewind();
    assert_eq!((walked.hash(), walked.count(), walked.end()), (SEED, 0, PythonEnd::Off as u32));
    assert!(!walked.marks_mut().is_in_loop(5) && !walked.marks_mut().is_in_frame(0, u64::MAX));
}

#[test]
fn hashes_differ_by_code_by_position_by_entry_and_by_end() {
    let hash = |change: &dyn Fn(&mut Image)| {
        let mut image = image(at(1));
        put_frame(&mut image, at(1), at(2), 0);
        put_frame(&mut image, at(2), STACK, 0);
        put_frame(&mut image, STACK, 0, 3);
        change(&mut image);
        walk(&image, &layout(PythonKind::EntryFrames)).walk.hash()
    };
    let hashes = [
        hash(&|_| ()),
        hash(&|image| image.put(at(2), &[1])),
        hash(&|image| image.put(at(2) + 16, &[1])),
        hash(&|image| image.put(at(2) + 8, &[0])),
        hash(&|image| image.put(at(1) + 8, &[0])),
        hash(&|image| image.put(STACK + 8, &[1])),
        hash(&|image| image.put(THREAD_POINTER + 16, &[0])),
        hash(&|image| image.put(THREAD + 24, &[0])),
    ];
    let different: std::collections::HashSet<u64> = hashes.into_iter().collect();
    assert_eq!(different.len(), hashes.len());
}

/// Memory in which nearly any address can be read, and holds what a hash of it says: often a small
/// address, at times the last ones of all or 0.
struct Hostile {
    seed: u64,
    unreadable: u64,
}

impl ReadMemory for Hostile {
    fn read_words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        let word = |index: usize| {
            let value = mix(mix(self.seed, address.wrapping_add(8 * index as u64)), 1);
            match value % 8 {
                0 => 0,
                1 => value,
                2 => !(value & 0xff),
                _ => value & 0xf8,
            }
        };
        (mix(address, self.seed) % 64 >= self.unreadable).then(|| std::array::from_fn(word))
    }
}

fn any_layout() -> impl Strategy<Value = PythonLayout> {
    let offsets = prop::array::uniform11(prop_oneof![0..160u32, any::<u32>()]);
    (0..6u32, offsets, any::<[u64; 6]>()).prop_map(|(kind, offsets, words)| PythonLayout {
        kind,
        thread_state_slot: offsets[0],
        thread_frame: offsets[1],
        has_cframe: offsets[2] & 1,
        cframe_frame: offsets[3],
        cframe_previous: offsets[4],
        frame_bytes: offsets[5],
        frame_code: offsets[6],
        frame_previous: offsets[7],
        frame_position: offsets[8],
        frame_owner: offsets[9],
        entry_owner_min: offsets[10],
        code_tag_mask: words[0],
        eval_ranges: [
            CodeRange { start: words[1], end: words[2] },
            CodeRange { start: words[3], end: words[4] },
        ],
        image: 0,
        task_thread_pointer: words[5],
    })
}

proptest! {
    #[test]
    fn hostile_memory_and_layouts_give_a_bounded_walk(
        layout in any_layout(),
        seed in any::<u64>(),
        unreadable in 0..16u64,
        thread_pointer in prop_oneof![0..0x1000u64, any::<u64>()],
        state in prop_oneof![Just(0), any::<u64>()],
    ) {
        let memory = Hostile { seed, unreadable };
        let (mut walk, mut words) = (PythonWalk::default(), StackWords::default());
        let stack = &mut Window::default();
        let pointer = Opaque::new(thread_pointer);
        let mut thread = PythonThread { pointer, state: Opaque::new(state) };
        if walk.start(&memory, &layout, &mut thread, seed, stack) {
            for _ in 0..MAX_PYTHON_STEPS {
                if !walk.step(&memory, &layout, &mut words, stack) {
                    break;
                }
            }
        }
        let count = walk.count() as usize;
        prop_assert!(count <= MAX_PYTHON_FRAMES);
        prop_assert!(PythonEnd::from_u32(walk.end()).is_some());
        let marked = (0..count).filter(|at| words.get(2 * at + 1) & ENTRY_MARK != 0).count();
        prop_assert!(marked <= count);
        prop_assert!((2 * count..512).all(|place| words.get(place) == 0));
    }
}
