//! The walk by unwind tables: complete stacks through code without frame pointers.
//!
//! All state lives in a [`Walk`], which in the kernel is map memory; see [`crate::opaque`]. With
//! state in registers each branch of each binary search would be followed apart by the verifier
//! (2^10 paths a search).

use super::{
    FrameSink, HASH_SEED, Registers, StackWords, memo, mix,
    recall::{Beginning, Key, Recording, Replay},
    table::{CfaRule, CodeMapping, FpRule, PAGE_BITS, PAGE_BYTES, Row, Rule},
    window::Window,
};
use crate::{
    memory::ReadMemory,
    opaque::Opaque,
    python::{
        ENTRY_MARK, PythonLayout,
        walk::{PythonThread, PythonWalk},
    },
    wire::{MAX_FRAMES, StackEnd, StackHeader},
};

/// Steps that find one of [`super::table::MAX_MAPPINGS`] mappings.
const MAPPING_STEPS: u32 = 11;
/// Steps that find one of the at most [`PAGE_BYTES`] rows of a page.
const ROW_STEPS: u32 = 11;
/// Code without rows: a frame larger than this is taken for garbage in the frame pointer.
const MAX_GUESSED_FRAME_BYTES: u64 = 1 << 20;

/// The unwind tables, wherever they are. Indexes come out of the tables themselves; one that is
/// out of range may give anything, but must not fail.
pub trait Tables {
    /// How many executable mappings there are.
    fn mapping_count(&self) -> u32;
    /// One of them, ascending by address.
    fn mapping(&self, index: u32) -> CodeMapping;
    /// The first address of one of them.
    fn mapping_start(&self, index: u32) -> u64;
    /// An index entry.
    fn first_row(&self, page: u32) -> u32;
    /// A row.
    fn row(&self, index: u32) -> Row;
    /// A rule.
    fn rule(&self, index: u32) -> Rule;
    /// A word of the memory of rules that were found before (see [`memo`]): what was noted there
    /// last, or 0.
    fn noted(&self, place: usize) -> u64;
    /// Notes it.
    fn note(&self, place: usize, entry: u64);
}

/// A walk in progress, and its result.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    pc: Opaque<u64>,
    sp: Opaque<u64>,
    bp: Opaque<u64>,
    /// Where the frame pointer was read from; 0 for the register's.
    bp_source: Opaque<u64>,
    hash: Opaque<u64>,
    /// The mapping of the last frame; the next is often in the same.
    mapping_start: Opaque<u64>,
    mapping_end: Opaque<u64>,
    bias: Opaque<u64>,
    first_page: Opaque<u32>,
    pages: Opaque<u32>,
    low: Opaque<u32>,
    high: Opaque<u32>,
    /// The number of the frame's rule.
    rule: Opaque<u32>,
    /// Which word is the first native frame's.
    first_word: Opaque<u32>,
    count: Opaque<u32>,
    end: Opaque<u32>,
    guessed: Opaque<u64>,
    /// What was read of the stack.
    stack: Window,
    /// Python's frames, which come first in the record.
    python: PythonWalk,
    /// Filled in by the kernel side: with the words behind it, it is the record to send.
    pub header: StackHeader,
    words: StackWords,
}

impl Walk {
    /// Forgets what was read for another walk. This comes first.
    #[inline(always)]
    pub fn clear_windows(&mut self) {
        self.stack.clear();
        self.python.clear_frames();
    }

    /// Reads the stack from `sp` on, as far as the last ones needed it.
    #[inline(always)]
    pub fn read_stack<M: ReadMemory>(&mut self, memory: &M, sp: u64) {
        self.stack.read(memory, sp);
    }

    /// Whether frames have been taken and there are more to take.
    #[inline(always)]
    pub fn is_under_way(&self) -> bool {
        self.end.get() == StackEnd::Truncated as u32
    }

    /// As far as this above `sp` the next stack is read at once.
    #[inline(always)]
    pub fn want(&mut self, sp: u64, reach_bytes: u64) {
        self.stack.want(sp, reach_bytes);
    }

    /// How much of the stack above `sp` was looked at.
    #[inline(always)]
    pub fn reach_bytes(&self, sp: u64) -> u64 {
        self.sp.get().wrapping_sub(sp)
    }

    /// All that the rest of the walk depends on, besides the stack and the frame pointer at the
    /// walk's start; `generation` is that of the tables and of what is known of Python.
    #[inline(always)]
    pub fn key(&self, generation: u64) -> Key {
        let marks = self.python.marks();
        let (marked, count) = (u64::from(marks.done()), u64::from(self.count.get()));
        let progress = generation << 32 | marked << 16 | count;
        let rest = mix(mix(marks.hash(), self.bp_source.get()), progress);
        [self.sp.get(), self.pc.get(), self.hash.get(), rest]
    }

    /// The same key, but told apart from those with other words at the beginning of the stack.
    #[inline(always)]
    pub fn key_with(&self, beginning: Beginning, key: &Key) -> Key {
        let [sp, pc, hash, rest] = *key;
        [sp, pc, mix(hash, beginning.words(key, &self.stack)), rest]
    }

    /// Whether a recorded walk would be the same now; see [`Recording::is_as_read`].
    #[inline(always)]
    pub fn is_as_recorded(&self, recording: &Recording, frame_pointer: u64) -> Option<bool> {
        recording.is_as_read(&self.stack, frame_pointer)
    }

    /// Looks at notes of a recording; see [`Replay::step`].
    #[inline(always)]
    pub fn replay<M: ReadMemory>(
        &mut self,
        memory: &M,
        replay: &mut Replay,
        recording: &Recording,
    ) -> bool {
        replay.step(memory, recording, &mut self.stack)
    }

    /// Declares the stack to be without Python. This or [`Self::start_python`] comes first. `seed`
    /// goes into the hash.
    #[inline(always)]
    pub fn skip_python(&mut self, seed: u64) {
        self.python.skip(seed);
    }

    /// Prepares the walk of Python's frames; see [`PythonWalk::start`].
    #[inline(always)]
    pub fn start_python<M: ReadMemory>(
        &mut self,
        memory: &M,
        layout: &PythonLayout,
        thread: &mut PythonThread,
        seed: u64,
    ) -> bool {
        self.python.start(memory, layout, thread, seed, &mut self.stack)
    }

    /// Takes one of Python's frames; see [`PythonWalk::step`].
    #[inline(always)]
    pub fn step_python<M: ReadMemory>(&mut self, memory: &M, layout: &PythonLayout) -> bool {
        self.python.step(memory, layout, &mut self.words, &mut self.stack)
    }

    /// Python's frames.
    #[inline(always)]
    pub fn python(&self) -> &PythonWalk {
        &self.python
    }

    /// Prepares a walk from the entry of a function, before its prologue, where the word at `[sp]`
    /// is its caller. `false` when there is nothing to walk.
    #[inline(always)]
    pub fn start<M: ReadMemory>(&mut self, memory: &M, registers: Registers) -> bool {
        self.start_at(0, Registers { sp: registers.sp + 8, ..registers });
        match self.stack_word(memory, registers.sp) {
            Ok(caller) => self.pc.set(caller),
            Err(end) => self.end.set(end as u32),
        }
        self.is_under_way()
    }

    /// Prepares a walk from the middle of a function. `pc` is as if the function had called there: one
    /// behind the first byte of the instruction that was interrupted, or behind the one that entered
    /// the kernel. The tables must have rows for all code, not for calls alone.
    #[inline(always)]
    pub fn start_at(&mut self, pc: u64, registers: Registers) {
        self.start_collecting();
        self.pc.set(pc);
        self.sp.set(registers.sp);
        self.bp.set(registers.bp);
        self.bp_source.set(0);
        self.mapping_start.set(1);
        self.mapping_end.set(0);
    }

    /// Prepares to take the frames of another walker, as a [`FrameSink`].
    #[inline(always)]
    pub fn start_collecting(&mut self) {
        self.hash.set(mix(HASH_SEED, self.python.hash()));
        self.python.marks_mut().rewind();
        self.first_word.set(2 * self.python.count());
        self.count.set(0);
        self.end.set(StackEnd::Truncated as u32);
        self.guessed.set(0);
    }

    /// Takes over why the other walker has ended.
    #[inline(always)]
    pub fn finish_collecting(&mut self, end: StackEnd) {
        self.end.set(end as u32);
    }

    /// How many frames were found.
    #[inline(always)]
    pub fn count(&self) -> u32 {
        self.count.get()
    }

    /// How many words the frames are, Python's included.
    #[inline(always)]
    pub fn word_count(&self) -> u32 {
        self.first_word.get().wrapping_add(self.count.get())
    }

    /// Why it ended: a [`StackEnd`].
    #[inline(always)]
    pub fn end(&self) -> u32 {
        self.end.get()
    }

    /// Whether a frame was guessed by its frame pointer, in code without rows.
    #[inline(always)]
    pub fn is_guessed(&self) -> bool {
        self.guessed.get() != 0
    }

    /// The hash of seed and frames, to be finished.
    #[inline(always)]
    pub fn hash(&self) -> u64 {
        self.hash.get()
    }

    /// A word of the frames, Python's included.
    #[inline(always)]
    pub fn word(&self, index: usize) -> u64 {
        self.words.get(index)
    }

    /// Takes one frame; `false` when the walk has ended. Call it at most [`MAX_FRAMES`] times.
    #[inline(always)]
    pub fn step<M: ReadMemory, T: Tables>(&mut self, memory: &M, tables: &T) -> bool {
        match self.try_step(memory, tables) {
            Ok(()) => true,
            Err(end) => {
                self.end.set(end as u32);
                false
            }
        }
    }

    #[inline(always)]
    fn try_step<M: ReadMemory, T: Tables>(
        &mut self,
        memory: &M,
        tables: &T,
    ) -> Result<(), StackEnd> {
        let pc = self.pc.get();
        self.push(pc);
        // A return address belongs to the call before it.
        let call = pc.wrapping_sub(1);
        let place = memo::place(call);
        let noted = tables.noted(place);
        let rule = if memo::is_of(noted, call) {
            tables.rule(memo::rule(noted))
        } else {
            self.look_up(tables, call, place)?
        };
        if rule.cfa == CfaRule::Guess as u8 {
            return self.guess(memory);
        }
        self.apply(memory, rule, pc)
    }

    /// The rule for a call, by its mapping and the rows of that; notes it where there are any.
    #[inline(always)]
    fn look_up<T: Tables>(
        &mut self,
        tables: &T,
        call: u64,
        place: usize,
    ) -> Result<Rule, StackEnd> {
        self.find_mapping(tables, call)?;
        if self.pages.get() == 0 {
            return Ok(Rule::GUESS);
        }
        self.find_rule(tables, call.wrapping_sub(self.bias.get()))?;
        tables.note(place, memo::entry(call, self.rule.get()));
        Ok(tables.rule(self.rule.get()))
    }

    /// Which word is that of the frame with this number.
    #[inline(always)]
    fn place_of(&self, index: u32) -> usize {
        self.first_word.get().wrapping_add(index) as usize
    }

    #[inline(always)]
    fn push(&mut self, pc: u64) {
        let index = self.count.get();
        self.words.set(self.place_of(index), pc);
        self.count.set(index + 1);
        self.hash.set(mix(self.hash.get(), pc));
        if self.python.marks_mut().is_in_loop(pc.wrapping_sub(1)) {
            self.mark();
        }
    }

    /// Marks the frame that was pushed last as a run of the interpreter loop.
    #[inline(always)]
    fn mark(&mut self) {
        let place = self.place_of(self.count.get().wrapping_sub(1));
        self.words.set(place, self.words.get(place) | ENTRY_MARK);
        self.hash.set(mix(self.hash.get(), ENTRY_MARK));
    }

    /// The frame that was pushed last occupies `[sp, cfa)`.
    #[inline(always)]
    fn mark_if_entered(&mut self, sp: u64, cfa: u64) {
        if self.python.marks_mut().is_in_frame(sp, cfa) {
            self.mark();
        }
    }

    #[inline(always)]
    fn find_mapping<T: Tables>(&mut self, tables: &T, address: u64) -> Result<(), StackEnd> {
        if address >= self.mapping_start.get() && address < self.mapping_end.get() {
            return Ok(());
        }
        self.low.set(0);
        self.high.set(tables.mapping_count());
        for _ in 0..MAPPING_STEPS {
            let (low, high) = (self.low.get(), self.high.get());
            if low >= high {
                break;
            }
            let middle = (low + high) >> 1;
            if tables.mapping_start(middle) <= address {
                self.low.set(middle + 1);
            } else {
                self.high.set(middle);
            }
        }
        let after = self.low.get();
        if after == 0 {
            return Err(StackEnd::UnknownMapping);
        }
        let mapping = tables.mapping(after - 1);
        if address >= mapping.end {
            return Err(StackEnd::UnknownMapping);
        }
        self.mapping_start.set(mapping.start);
        self.mapping_end.set(mapping.end);
        self.bias.set(mapping.bias);
        self.first_page.set(mapping.first_page);
        self.pages.set(mapping.pages);
        Ok(())
    }

    #[inline(always)]
    fn find_rule<T: Tables>(&mut self, tables: &T, address: u64) -> Result<(), StackEnd> {
        let page = address >> PAGE_BITS;
        if page >= u64::from(self.pages.get()) {
            return Err(StackEnd::NoRule);
        }
        let entry = self.first_page.get().wrapping_add(page as u32);
        self.low.set(tables.first_row(entry));
        self.high.set(tables.first_row(entry.wrapping_add(1)));
        let offset = address as u32 & (PAGE_BYTES as u32 - 1);
        for _ in 0..ROW_STEPS {
            let (low, high) = (self.low.get(), self.high.get());
            if low >= high {
                break;
            }
            let middle = low + ((high - low) >> 1);
            if tables.row(middle).page_offset() <= offset {
                self.low.set(middle + 1);
            } else {
                self.high.set(middle);
            }
        }
        let row = tables.row(self.low.get().wrapping_sub(1));
        self.rule.set(row.rule());
        Ok(())
    }

    #[inline(always)]
    fn apply<M: ReadMemory>(&mut self, memory: &M, rule: Rule, pc: u64) -> Result<(), StackEnd> {
        let (sp, bp) = (self.sp.get(), self.bp.get());
        let offset = rule.cfa_offset as i64 as u64;
        let kind = rule.cfa;
        if kind == CfaRule::Unknown as u8 {
            return Err(StackEnd::NoRule);
        }
        if kind == CfaRule::Root as u8 {
            return Err(StackEnd::Complete);
        }
        if kind == CfaRule::Signal as u8 {
            return Err(StackEnd::Signal);
        }
        let from_bp = kind == CfaRule::Bp as u8 || kind == CfaRule::DerefBp as u8;
        if from_bp || rule.fp == FpRule::DerefBp as u8 {
            self.use_frame_pointer(memory);
        }
        let base = if from_bp { bp } else { sp };
        let mut cfa = if kind == CfaRule::Plt as u8 {
            sp.wrapping_add(if pc & 15 >= offset { 16 } else { 8 })
        } else {
            base.wrapping_add(offset)
        };
        if kind == CfaRule::DerefBp as u8 || kind == CfaRule::DerefSp as u8 {
            cfa = self.stack_word(memory, cfa)?;
        }
        if rule.fp == FpRule::Cfa as u8 {
            self.load_frame_pointer(memory, cfa.wrapping_add(rule.fp_offset as i64 as u64))?;
        } else if rule.fp == FpRule::DerefBp as u8 {
            self.load_frame_pointer(memory, bp)?;
        }
        let caller = self.stack_word(memory, cfa.wrapping_sub(8))?;
        self.ascend(caller, cfa, sp)
    }

    /// Code that nothing describes, e.g. of a JIT: one step by the frame pointer, if it looks like one.
    #[inline(always)]
    fn guess<M: ReadMemory>(&mut self, memory: &M) -> Result<(), StackEnd> {
        let (sp, bp) = (self.sp.get(), self.bp.get());
        if bp & 7 != 0 || bp.wrapping_sub(sp) > MAX_GUESSED_FRAME_BYTES {
            return Err(StackEnd::NoFramePointer);
        }
        self.use_frame_pointer(memory);
        self.load_frame_pointer(memory, bp)?;
        let caller = self.stack_word(memory, bp + 8)?;
        self.guessed.set(1);
        self.ascend(caller, bp + 16, sp)
    }

    #[inline(always)]
    fn ascend(&mut self, caller: u64, cfa: u64, sp: u64) -> Result<(), StackEnd> {
        if caller != 0 && cfa <= sp {
            return Err(StackEnd::Stuck);
        }
        self.mark_if_entered(sp, cfa);
        self.sp.set(cfa);
        if caller == 0 {
            return Err(StackEnd::Complete);
        }
        self.pc.set(caller);
        Ok(())
    }

    /// The walk depends on the frame pointer. Mostly it does not: code without frame pointers keeps
    /// other things in the register.
    #[inline(always)]
    fn use_frame_pointer<M: ReadMemory>(&self, memory: &M) {
        let (source, value) = (self.bp_source.get(), self.bp.get());
        if source == 0 {
            memory.used_frame_pointer(value);
        } else {
            memory.used(source, value);
        }
    }

    #[inline(always)]
    fn load_frame_pointer<M: ReadMemory>(
        &mut self,
        memory: &M,
        address: u64,
    ) -> Result<(), StackEnd> {
        let saved = self.stack.word(memory, address).ok_or(StackEnd::Unreadable)?;
        self.bp.set(saved);
        self.bp_source.set(address);
        Ok(())
    }

    /// A word of the stack that the walk depends on.
    #[inline(always)]
    fn stack_word<M: ReadMemory>(&mut self, memory: &M, address: u64) -> Result<u64, StackEnd> {
        let word = self.stack.word(memory, address).ok_or(StackEnd::Unreadable)?;
        memory.used(address, word);
        Ok(word)
    }
}

/// For walkers that have no memory of their own; [`Walk::start_collecting`] comes first.
impl FrameSink for Walk {
    #[inline(always)]
    fn push(&mut self, return_address: u64) -> bool {
        let has_room = (self.count.get() as usize) < MAX_FRAMES;
        if has_room {
            self.push(return_address);
        }
        has_room
    }

    #[inline(always)]
    fn place(&mut self, sp: u64, cfa: u64) {
        self.mark_if_entered(sp, cfa);
    }
}

#[cfg(test)]
mod tests;
