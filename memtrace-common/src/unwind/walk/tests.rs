use std::{cell::RefCell, collections::HashMap};

use proptest::prelude::*;

use super::*;
use crate::{
    config::CodeRange,
    python::{PythonEnd, PythonKind},
    unwind::recall::{Key, MAX_NOTES, MAX_REPLAY_STEPS, Recorder},
};

/// Tables and a stack, as arrays.
#[derive(Clone, Debug, Default)]
struct World {
    mappings: Vec<CodeMapping>,
    index: Vec<u32>,
    rows: Vec<Row>,
    rules: Vec<Rule>,
    stack_base: u64,
    stack: Vec<u64>,
    memo: RefCell<HashMap<usize, u64>>,
}

impl Tables for World {
    fn mapping_count(&self) -> u32 {
        self.mappings.len() as u32
    }
    fn mapping(&self, index: u32) -> CodeMapping {
        self.mappings[index as usize]
    }
    fn mapping_start(&self, index: u32) -> u64 {
        self.mappings[index as usize].start
    }
    fn first_row(&self, page: u32) -> u32 {
        self.index[page as usize]
    }
    fn row(&self, index: u32) -> Row {
        self.rows[index as usize]
    }
    fn rule(&self, index: u32) -> Rule {
        self.rules[index as usize]
    }
    fn noted(&self, place: usize) -> u64 {
        self.memo.borrow().get(&place).copied().unwrap_or_default()
    }
    fn note(&self, place: usize, entry: u64) {
        self.memo.borrow_mut().insert(place, entry);
    }
}

impl ReadMemory for World {
    fn read_words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        let first = usize::try_from(address.checked_sub(self.stack_base)? / 8).ok()?;
        self.stack.get(first..first.checked_add(N)?)?.try_into().ok()
    }
}

/// Where the code of the tests is mapped.
const CODE: u64 = 0x40_0000;
/// Where its stack begins.
const STACK: u64 = 0x7000_0000;

/// One object of two pages, with the given rows.
fn world(rows: &[(u64, Rule)], stack: &[u64]) -> World {
    let mut world = World { stack_base: STACK, stack: stack.to_vec(), ..World::default() };
    world.mappings.push(CodeMapping {
        start: CODE,
        end: CODE + 2 * PAGE_BYTES,
        bias: CODE,
        first_page: 0,
        pages: 2,
    });
    world.rules.push(Rule::default());
    world.rows.push(Row::new(0, 0));
    for page in 0..=2 {
        let before = rows.iter().filter(|(address, _)| *address < page * PAGE_BYTES).count();
        world.index.push(1 + before as u32);
    }
    for (address, rule) in rows {
        world.rules.push(*rule);
        world.rows.push(Row::new(*address, world.rules.len() as u32 - 1));
    }
    world
}

fn rule(cfa: CfaRule, cfa_offset: i32) -> Rule {
    Rule { cfa: cfa as u8, cfa_offset, ..Rule::default() }
}

/// The same world with this return address on top of the stack.
fn called_from(world: &World, caller: u64) -> World {
    let mut world = world.clone();
    world.stack[0] = caller;
    world
}

fn walk_from(world: &World, caller: u64, bp: u64) -> Walk {
    let mut walk = Walk::default();
    walk.skip_python(0);
    let world = &called_from(world, caller);
    assert!(walk.start(world, Registers { sp: STACK, bp }));
    for _ in 0..MAX_FRAMES {
        if !walk.step(world, world) {
            break;
        }
    }
    walk
}

fn frames(walk: &Walk) -> Vec<u64> {
    let first = 2 * walk.python().count() as usize;
    (first..walk.word_count() as usize).map(|index| walk.word(index)).collect()
}

fn check(world: &World, caller: u64, bp: u64, expected: &[u64], end: StackEnd) -> Walk {
    let walk = walk_from(world, caller, bp);
    assert_eq!((frames(&walk), walk.end()), (expected.to_vec(), end as u32));
    walk
}

#[test]
fn frames_are_found_by_stack_pointer_and_by_frame_pointer() {
    // f at 0x000: CFA = sp + 16; g at 0x100: CFA = bp + 16, bp saved at CFA - 16; root at 0x500.
    let saved = Rule { fp: FpRule::Cfa as u8, fp_offset: -16, ..rule(CfaRule::Bp, 16) };
    let rows = [(0x000, rule(CfaRule::Sp, 16)), (0x100, saved), (0x500, rule(CfaRule::Root, 0))];
    // sp + 0: caller (read by the probe), + 8: local, + 16: return to g, + 24: saved bp,
    // + 32: return to the root.
    let stack = [CODE + 0x10, 0xdead, CODE + 0x110, 0x1234, CODE + 0x510];
    let world = world(&rows, &stack);
    let expected = [CODE + 0x10, CODE + 0x110, CODE + 0x510];
    check(&world, CODE + 0x10, STACK + 24, &expected, StackEnd::Complete);
}

#[test]
fn a_call_at_the_very_end_of_a_function_is_looked_up_inside_of_it() {
    // A noreturn call: its return address is the first byte of the next function.
    let rows = [(0x000, rule(CfaRule::Root, 0)), (0x100, Rule::default())];
    check(&world(&rows, &[0; 8]), CODE + 0x100, 0, &[CODE + 0x100], StackEnd::Complete);
}

#[test]
fn a_page_without_rows_takes_the_last_row_before_it() {
    let rows = [(0x3f0, rule(CfaRule::Root, 0))];
    check(&world(&rows, &[0; 8]), CODE + 0x7f0, 0, &[CODE + 0x7f0], StackEnd::Complete);
}

#[test]
fn code_before_the_first_row_has_no_rule() {
    let rows = [(0x100, rule(CfaRule::Root, 0))];
    check(&world(&rows, &[0; 8]), CODE + 0x10, 0, &[CODE + 0x10], StackEnd::NoRule);
}

#[test]
fn an_address_in_no_mapping_ends_the_walk() {
    let world = world(&[(0, rule(CfaRule::Root, 0))], &[0; 8]);
    for address in [0x1000, CODE + 2 * PAGE_BYTES + 1, u64::MAX] {
        check(&world, address, 0, &[address], StackEnd::UnknownMapping);
    }
}

#[test]
fn a_plt_entry_that_has_pushed_its_index_has_one_word_more() {
    let rows = [(0x000, rule(CfaRule::Plt, 11)), (0x100, rule(CfaRule::Root, 0))];
    let early = world(&rows, &[0, CODE + 0x110, 0]);
    check(&early, CODE + 0x06, 0, &[CODE + 0x06, CODE + 0x110], StackEnd::Complete);
    let late = world(&rows, &[0, 0x5, CODE + 0x110]);
    check(&late, CODE + 0x0b, 0, &[CODE + 0x0b, CODE + 0x110], StackEnd::Complete);
}

#[test]
fn a_realigned_stack_is_left_through_memory() {
    // CFA = *(bp - 8), bp = *bp
    let aligned = Rule { fp: FpRule::DerefBp as u8, ..rule(CfaRule::DerefBp, -8) };
    let rows = [(0x000, aligned), (0x100, rule(CfaRule::Root, 0))];
    let stack = [0, STACK + 40, 0x77, 0, CODE + 0x110, 0];
    let world = world(&rows, &stack);
    let walk =
        check(&world, CODE + 0x10, STACK + 16, &[CODE + 0x10, CODE + 0x110], StackEnd::Complete);
    assert_eq!(walk.bp.get(), 0x77);
}

#[test]
fn signal_frames_end_the_walk_with_their_name() {
    let rows = [(0x000, rule(CfaRule::Signal, 0))];
    check(&world(&rows, &[0; 8]), CODE + 0x10, 0, &[CODE + 0x10], StackEnd::Signal);
}

#[test]
fn rules_that_lead_down_the_stack_end_the_walk() {
    let rows = [(0x000, rule(CfaRule::Sp, 0))];
    let world = world(&rows, &[CODE + 0x10, 0, 0]);
    check(&world, CODE + 0x10, 0, &[CODE + 0x10], StackEnd::Stuck);
}

#[test]
fn a_stack_word_that_cannot_be_read_ends_the_walk() {
    let rows = [(0x000, rule(CfaRule::Sp, 1 << 20))];
    check(&world(&rows, &[0; 8]), CODE + 0x10, 0, &[CODE + 0x10], StackEnd::Unreadable);
}

#[test]
fn a_zero_return_address_is_the_root() {
    let rows = [(0x000, rule(CfaRule::Sp, 16))];
    check(&world(&rows, &[0; 8]), CODE + 0x10, 0, &[CODE + 0x10], StackEnd::Complete);
}

#[test]
fn recursion_deeper_than_the_buffer_is_truncated_and_keeps_the_leaf_side() {
    let rows = [(0x000, rule(CfaRule::Sp, 8))];
    let world = world(&rows, &vec![CODE + 0x10; 4 * MAX_FRAMES]);
    let walk = walk_from(&world, CODE + 0x10, 0);
    assert_eq!((walk.count(), walk.end()), (MAX_FRAMES as u32, StackEnd::Truncated as u32));
}

#[test]
fn code_without_rows_is_left_by_the_frame_pointer_and_marked() {
    let mut world = world(&[(0x000, rule(CfaRule::Root, 0))], &[0, 0, 0x99, CODE + 0x10]);
    let jit = 0x50_0000;
    world.mappings.push(CodeMapping { start: jit, end: jit + 4096, ..CodeMapping::default() });
    let walk = check(&world, jit + 5, STACK + 16, &[jit + 5, CODE + 0x10], StackEnd::Complete);
    assert!(walk.is_guessed());
    assert_eq!(walk.bp.get(), 0x99);
    check(&world, jit + 5, STACK + 17, &[jit + 5], StackEnd::NoFramePointer);
    check(&world, jit + 5, 0, &[jit + 5], StackEnd::NoFramePointer);
}

#[test]
fn code_between_functions_is_left_by_the_frame_pointer_each_time() {
    let rows = [(0x000, rule(CfaRule::Root, 0)), (0x100, Rule::GUESS)];
    let world = world(&rows, &[0, 0, 0x99, CODE + 0x10]);
    let gap = CODE + 0x180;
    // The second time the rule of the address has been noted.
    for _ in 0..2 {
        let walk = check(&world, gap, STACK + 16, &[gap, CODE + 0x10], StackEnd::Complete);
        assert!(walk.is_guessed());
    }
    check(&world, gap, STACK + 17, &[gap], StackEnd::NoFramePointer);
}

#[test]
fn stacks_near_their_end_are_read_word_by_word() {
    // Fewer words than a window are left above the stack pointer.
    let rows = [(0x000, rule(CfaRule::Sp, 16)), (0x100, rule(CfaRule::Root, 0))];
    let world = world(&rows, &[0, 0, CODE + 0x110]);
    check(&world, CODE + 0x10, 0, &[CODE + 0x10, CODE + 0x110], StackEnd::Complete);
}

#[test]
fn hashes_differ_by_seed_and_by_frames() {
    let rows = [(0x000, rule(CfaRule::Root, 0))];
    let world = world(&rows, &[0; 8]);
    let hash = |caller, seed| {
        let mut walk = Walk::default();
        let world = called_from(&world, caller);
        walk.skip_python(seed);
        assert!(walk.start(&world, Registers { sp: STACK, bp: 0 }));
        walk.step(&world, &world);
        walk.hash()
    };
    assert_ne!(hash(CODE + 0x10, 0), hash(CODE + 0x10, 1));
    assert_ne!(hash(CODE + 0x10, 0), hash(CODE + 0x11, 0));
}

#[test]
fn a_stack_whose_top_cannot_be_read_has_no_frames() {
    let world = world(&[(0x000, rule(CfaRule::Root, 0))], &[]);
    let mut walk = Walk::default();
    assert!(!walk.start(&world, Registers { sp: STACK, bp: 0 }));
    assert_eq!((walk.count(), walk.end()), (0, StackEnd::Unreadable as u32));
}

/// Two runs of the interpreter loop on the stack, each with a word that Python's frames lead to.
#[test]
fn frames_that_hold_an_entry_of_python_are_marked() {
    // Python's memory is in words of the same stack: the thread state's slot at +0 of the thread
    // pointer, the frames as code, previous, position, owner.
    let base = STACK + 0x100;
    let layout = PythonLayout {
        kind: PythonKind::EntryFrames as u32,
        frame_bytes: 32,
        frame_previous: 8,
        frame_position: 16,
        frame_owner: 24,
        entry_owner_min: 3,
        ..PythonLayout::default()
    };
    let mut stack = vec![0; 512];
    // f calls g calls f calls the root; a frame of f is 48 bytes, of g 16.
    let (f, g, root) = (CODE + 0x10, CODE + 0x110, CODE + 0x510);
    stack[6] = g;
    stack[8] = f;
    stack[14] = root;
    // Entry frames in both frames of f: at words 2 and 9.
    stack[2..6].copy_from_slice(&[0, base + 0x40, 0, 3]);
    stack[9..13].copy_from_slice(&[0, 0, 0, 3]);
    stack[32] = base + 8; // the slot, and the thread state behind it
    stack[33] = base + 0x20;
    stack[36..40].copy_from_slice(&[0xc0de, STACK + 2 * 8, 1, 0]);
    stack[40..44].copy_from_slice(&[0xc0df, STACK + 9 * 8, 2, 0]);
    let rows = [
        (0x000, rule(CfaRule::Sp, 48)),
        (0x100, rule(CfaRule::Sp, 16)),
        (0x500, rule(CfaRule::Root, 0)),
    ];
    let world = called_from(&world(&rows, &stack), f);
    let hash = |pretend_no_entries: bool, reads_stack: bool| {
        let mut walk = Walk::default();
        if reads_stack {
            walk.read_stack(&world, STACK);
        }
        assert!(walk.start_python(&world, &layout, &mut thread(base), 0));
        while walk.step_python(&world, &layout) {}
        assert_eq!((walk.python().count(), walk.python().end()), (2, PythonEnd::Complete as u32));
        if pretend_no_entries {
            walk.skip_python(walk.python().hash());
        }
        assert!(walk.start(&world, Registers { sp: STACK, bp: 0 }));
        while walk.step(&world, &world) {}
        assert_eq!(walk.end(), StackEnd::Complete as u32);
        (walk, walk.hash())
    };
    let (walk, marked) = hash(false, false);
    let words: Vec<u64> = (0..walk.word_count() as usize).map(|at| walk.word(at)).collect();
    let python = [0xc0de, 1 | ENTRY_MARK, 0xc0df, 2 | ENTRY_MARK];
    let native = [f | ENTRY_MARK, g, f | ENTRY_MARK, root];
    assert_eq!(words, [python, native].concat());
    let (again, marked_again) = hash(false, true);
    assert_eq!((outcome(&again), marked_again), (outcome(&walk), marked));
    let (unmarked_walk, unmarked) = hash(true, true);
    assert_eq!(frames(&unmarked_walk), [f, g, f, root]);
    assert_ne!(marked, unmarked);
}

fn thread(pointer: u64) -> PythonThread {
    let mut thread = PythonThread::default();
    thread.pointer.set(pointer);
    thread
}

#[test]
fn frames_in_the_interpreter_loops_code_are_marked() {
    let layout = PythonLayout {
        kind: PythonKind::FrameObjects as u32,
        eval_ranges: [CodeRange { start: CODE + 0x100, end: CODE + 0x200 }, CodeRange::default()],
        ..PythonLayout::default()
    };
    let rows = [(0x000, rule(CfaRule::Sp, 16)), (0x500, rule(CfaRule::Root, 0))];
    let world = world(&rows, &[0, 0, CODE + 0x200, 0, CODE + 0x100, 0, CODE + 0x510]);
    let world = called_from(&world, CODE + 0x10);
    let mut walk = Walk::default();
    walk.start_python(&world, &layout, &mut thread(STACK), 0);
    assert!(walk.start(&world, Registers { sp: STACK, bp: 0 }));
    while walk.step(&world, &world) {}
    // A call that ends the loop's code is in it, and one that ends right before it is not.
    let expected = [CODE + 0x10, (CODE + 0x200) | ENTRY_MARK, CODE + 0x100, CODE + 0x510];
    assert_eq!(frames(&walk), expected);
}

#[test]
fn the_frames_of_another_walker_are_taken_behind_pythons() {
    let mut walk = Walk::default();
    walk.skip_python(0);
    walk.start_collecting();
    for pc in 0..MAX_FRAMES as u64 {
        assert!(FrameSink::push(&mut walk, pc));
    }
    assert!(!FrameSink::push(&mut walk, 1));
    walk.finish_collecting(StackEnd::Root);
    assert_eq!(frames(&walk), (0..MAX_FRAMES as u64).collect::<Vec<_>>());
    assert_eq!(walk.end(), StackEnd::Root as u32);
}

/// A walk of which as many frames were taken.
fn begun(world: &World, bp: u64, frames: usize) -> Walk {
    let mut walk = Walk::default();
    walk.clear_windows();
    walk.skip_python(0);
    if walk.start(world, Registers { sp: STACK, bp }) {
        let mut steps = 0..frames;
        while steps.next().is_some() && walk.step(world, world) {}
    }
    walk
}

/// A walk whose notes are kept from a frame on, and its outcome.
fn recorded(world: &World, bp: u64, innermost: usize) -> (Recording, Walk) {
    recorded_at(world, bp, innermost, Walk::key)
}

/// The same with a key of another kind.
fn recorded_at(
    world: &World,
    bp: u64,
    innermost: usize,
    key: impl Fn(&Walk, u64) -> Key,
) -> (Recording, Walk) {
    let (mut walk, mut recording) = (begun(world, bp, innermost), Recording::default());
    recording.begin(&key(&walk, 1));
    // SAFETY: nobody else uses the recording.
    let memory = unsafe { Recorder::new(world, &raw mut recording) };
    let mut steps = innermost..MAX_FRAMES;
    while walk.is_under_way() && steps.next().is_some() {
        walk.step(&memory, world);
    }
    recording.finish(walk.hash(), walk.reach_bytes(STACK));
    (recording, walk)
}

fn is_recalled(recording: &Recording, world: &World, bp: u64, innermost: usize) -> bool {
    is_recalled_at(recording, world, bp, innermost, Walk::key)
}

fn is_recalled_at(
    recording: &Recording,
    world: &World,
    bp: u64,
    innermost: usize,
    key: impl Fn(&Walk, u64) -> Key,
) -> bool {
    let (mut walk, mut replay) = (begun(world, bp, innermost), Replay::default());
    if !walk.is_under_way() || !recording.is_of(&key(&walk, 1)) {
        return false;
    }
    let at_once = walk.is_as_recorded(recording, bp);
    let mut steps = 0..MAX_REPLAY_STEPS;
    let mut goes_on = replay.start(recording);
    while goes_on && steps.next().is_some() {
        goes_on = walk.replay(world, &mut replay, recording);
    }
    let is_equal = replay.is_equal(recording, bp);
    assert!(at_once.is_none_or(|at_once| at_once == is_equal));
    is_equal
}

fn outcome(walk: &Walk) -> (Vec<u64>, u32, u64) {
    (frames(walk), walk.end(), walk.hash())
}

/// Any mixture of rules for the functions at 0x000, 0x040, ..., 0x3c0.
fn any_world() -> impl Strategy<Value = World> {
    let any_rule =
        (1..=5_u8, 0..=2_u8, -3..=0_i16, 1..=6_i32).prop_map(|(cfa, fp, saved, size)| {
            // As a PLT's, the offset is a number of bytes below 16.
            let cfa_offset = if cfa == CfaRule::Plt as u8 { size } else { 8 * size };
            Rule { cfa, fp, fp_offset: 8 * saved - 8, cfa_offset }
        });
    let word = prop_oneof![
        4 => (0..0x400_u64).prop_map(|offset| CODE + offset),
        2 => (0..64_u64).prop_map(|index| STACK + 8 * index),
        1 => Just(0_u64),
        1 => any::<u64>(),
    ];
    let rules = prop::collection::vec(any_rule, 16);
    (rules, prop::collection::vec(word, 64)).prop_map(|(rules, stack)| {
        let rows: Vec<_> = rules.iter().zip(0..).map(|(rule, at)| (0x40 * at, *rule)).collect();
        world(&rows, &stack)
    })
}

proptest! {
    #[test]
    fn a_stack_is_recalled_only_when_it_would_be_walked_again(
        before in any_world(),
        bp in (0..64_u64).prop_map(|index| STACK + 8 * index),
        changes in prop::collection::vec((0..64_usize, any::<u64>()), 0..3),
        other_bp in any::<bool>(),
        innermost in 0..10_usize,
    ) {
        let (recording, walk) = recorded(&before, bp, innermost);
        let is_long = begun(&before, bp, innermost).is_under_way();
        prop_assert_eq!(is_recalled(&recording, &before, bp, innermost), is_long);
        let mut after = before.clone();
        for (index, word) in changes {
            after.stack[index] = word;
        }
        let bp = if other_bp { bp ^ 8 } else { bp };
        if is_recalled(&recording, &after, bp, innermost) {
            let (_, again) = recorded(&after, bp, innermost);
            prop_assert_eq!(outcome(&walk), outcome(&again));
        }
    }

    /// Whatever words are part of the key, those of another stack, too.
    #[test]
    fn words_in_the_key_neither_hide_a_stack_nor_give_a_wrong_one(
        before in any_world(),
        other in any_world(),
        changes in prop::collection::vec((0..64_usize, any::<u64>()), 0..3),
    ) {
        let bp = STACK;
        let beginning = recorded(&other, bp, 0).0.beginning();
        let key = |walk: &Walk, generation| walk.key_with(beginning, &walk.key(generation));
        let (recording, walk) = recorded_at(&before, bp, 0, key);
        prop_assert!(is_recalled_at(&recording, &before, bp, 0, key));
        let mut after = before.clone();
        for (index, word) in changes {
            after.stack[index] = word;
        }
        if is_recalled_at(&recording, &after, bp, 0, key) {
            let (_, again) = recorded(&after, bp, 0);
            prop_assert_eq!(outcome(&walk), outcome(&again));
        }
    }
}

#[test]
fn words_in_the_key_tell_stacks_apart_that_start_alike() {
    let rows = [(0x000, rule(CfaRule::Sp, 16)), (0x100, rule(CfaRule::Root, 0))];
    let ways = [0x10, 0x20, 0x30]
        .map(|site| world(&rows, &[CODE + 0x10, 0, CODE + site, 0, CODE + 0x110, 0]));
    let beginning = recorded(&ways[0], 0, 0).0.beginning();
    let keys = ways.each_ref().map(|world| {
        let walk = begun(world, 0, 0);
        let key = walk.key(1);
        (key, walk.key_with(beginning, &key))
    });
    assert!(keys[0].0 == keys[1].0 && keys[1].0 == keys[2].0);
    assert!(keys[0].1 != keys[1].1 && keys[1].1 != keys[2].1 && keys[2].1 != keys[0].1);
}

#[test]
fn what_code_without_frame_pointers_keeps_in_the_register_does_not_matter() {
    let saves = Rule { fp: FpRule::Cfa as u8, fp_offset: -16, ..rule(CfaRule::Sp, 24) };
    let rows = [(0x000, saves), (0x100, rule(CfaRule::Root, 0))];
    let mut stack = [0; 600];
    (stack[0], stack[3]) = (CODE + 0x10, CODE + 0x110);
    let mut world = world(&rows, &stack);
    let (recording, walk) = recorded(&world, 7, 0);
    assert_eq!(walk.end(), StackEnd::Complete as u32);
    world.stack[2] = 2;
    assert!(is_recalled(&recording, &world, 8, 0));
    world.stack[3] = CODE + 0x120;
    assert!(!is_recalled(&recording, &world, 8, 0));
}

#[test]
fn a_walk_with_more_notes_than_there_is_room_for_is_not_kept() {
    let rows = [(0x000, rule(CfaRule::Sp, 8))];
    // A note is the address that a frame returns to.
    let most = world(&rows, &[[CODE + 0x10; MAX_NOTES - 1].as_slice(), &[0]].concat());
    let (recording, walk) = recorded(&most, 0, 0);
    assert_eq!((walk.count() as usize, walk.end()), (MAX_NOTES - 1, StackEnd::Complete as u32));
    assert!(is_recalled(&recording, &most, 0, 0));
    let mut recording = Recording::default();
    let key = walk.key(1);
    recording.begin(&key);
    // SAFETY: nobody else uses the recording.
    let memory = unsafe { Recorder::new(&most, &raw mut recording) };
    (0..=MAX_NOTES as u64).for_each(|note| memory.used(note, 0));
    recording.finish(5, 0);
    assert!(!recording.is_of(&key));
}
