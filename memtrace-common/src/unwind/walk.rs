//! The walk by unwind tables: complete stacks through code without frame pointers.
//!
//! All state lives in a [`Walk`], which in the kernel is map memory, and is read and written
//! volatile: the verifier then knows nothing of it, so that its states merge. With state in
//! registers each branch of each binary search would be followed apart (2^10 paths a search).

use super::{
    HASH_SEED, Registers, mix,
    table::{CfaRule, CodeMapping, FpRule, PAGE_BITS, PAGE_BYTES, Row, Rule},
};
use crate::{
    memory::ReadMemory,
    wire::{MAX_FRAMES, StackEnd, StackHeader},
};

/// Words of stack that are read at once: a read costs more than the words in it.
pub const WINDOW_WORDS: usize = 64;
const WINDOW_BYTES: u64 = WINDOW_WORDS as u64 * 8;

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
}

/// A value that the compiler and the verifier know nothing of.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default)]
struct Opaque<T: Copy>(T);

impl<T: Copy> Opaque<T> {
    #[inline(always)]
    fn get(&self) -> T {
        // SAFETY: a reference is valid for reads.
        unsafe { core::ptr::from_ref(&self.0).read_volatile() }
    }

    #[inline(always)]
    fn set(&mut self, value: T) {
        // SAFETY: a unique reference is valid for writes.
        unsafe { core::ptr::from_mut(&mut self.0).write_volatile(value) }
    }
}

/// A walk in progress, and its result.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    pc: Opaque<u64>,
    sp: Opaque<u64>,
    bp: Opaque<u64>,
    hash: Opaque<u64>,
    /// The mapping of the last frame; the next is often in the same.
    mapping_start: Opaque<u64>,
    mapping_end: Opaque<u64>,
    bias: Opaque<u64>,
    first_page: Opaque<u32>,
    pages: Opaque<u32>,
    low: Opaque<u32>,
    high: Opaque<u32>,
    count: Opaque<u32>,
    end: Opaque<u32>,
    guessed: Opaque<u64>,
    window_start: Opaque<u64>,
    distance: Opaque<u64>,
    window: [Opaque<u64>; WINDOW_WORDS],
    /// Filled in by the kernel side: with the frames behind it, it is the record to send.
    pub header: StackHeader,
    frames: [Opaque<u64>; MAX_FRAMES],
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            pc: Opaque(0),
            sp: Opaque(0),
            bp: Opaque(0),
            hash: Opaque(0),
            mapping_start: Opaque(0),
            mapping_end: Opaque(0),
            bias: Opaque(0),
            first_page: Opaque(0),
            pages: Opaque(0),
            low: Opaque(0),
            high: Opaque(0),
            count: Opaque(0),
            end: Opaque(0),
            guessed: Opaque(0),
            window_start: Opaque(0),
            distance: Opaque(0),
            window: [Opaque(0); WINDOW_WORDS],
            header: StackHeader::default(),
            frames: [Opaque(0); MAX_FRAMES],
        }
    }
}

impl Walk {
    /// Prepares a walk from the entry of a function, before its prologue, where the word at `[sp]`
    /// is its caller. `seed` goes into the hash. `false` when there is nothing to walk.
    #[inline(always)]
    pub fn start<M: ReadMemory>(&mut self, memory: &M, registers: Registers, seed: u64) -> bool {
        self.sp.set(registers.sp + 8);
        self.bp.set(registers.bp);
        self.hash.set(mix(HASH_SEED, seed));
        self.mapping_start.set(1);
        self.mapping_end.set(0);
        self.count.set(0);
        self.end.set(StackEnd::Truncated as u32);
        self.guessed.set(0);
        self.window_start.set(0);
        match self.stack_word(memory, registers.sp) {
            Ok(caller) => self.pc.set(caller),
            Err(end) => self.end.set(end as u32),
        }
        self.end.get() == StackEnd::Truncated as u32
    }

    /// How many frames were found.
    #[inline(always)]
    pub fn count(&self) -> u32 {
        self.count.get()
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

    /// A frame's return address, leaf first.
    #[inline(always)]
    pub fn frame(&self, index: usize) -> u64 {
        self.frames.get(index).map_or(0, Opaque::get)
    }

    /// Takes over the result of another walker, which has put `count` frames to
    /// [`Self::frames_mut`].
    #[inline(always)]
    pub fn set_result(&mut self, count: u32, hash: u64, end: StackEnd) {
        self.count.set(count);
        self.hash.set(hash);
        self.end.set(end as u32);
        self.guessed.set(0);
    }

    /// Where the frames are, [`MAX_FRAMES`] words.
    #[inline(always)]
    pub fn frames_mut(&mut self) -> *mut u64 {
        (&raw mut self.frames).cast()
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
        self.find_mapping(tables, call)?;
        if self.pages.get() == 0 {
            return self.guess(memory);
        }
        let rule = self.find_rule(tables, call.wrapping_sub(self.bias.get()))?;
        self.apply(memory, rule, pc)
    }

    #[inline(always)]
    fn push(&mut self, pc: u64) {
        let index = self.count.get();
        // The mask repeats for the verifier what the number of steps guarantees.
        let place = index as usize & (MAX_FRAMES - 1);
        // SAFETY: the mask keeps the index inside of the array.
        unsafe { self.frames.get_unchecked_mut(place) }.set(pc);
        self.count.set(index + 1);
        self.hash.set(mix(self.hash.get(), pc));
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
    fn find_rule<T: Tables>(&mut self, tables: &T, address: u64) -> Result<Rule, StackEnd> {
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
        Ok(tables.rule(row.rule()))
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
        let base = if from_bp { bp } else { sp };
        let mut cfa = if kind == CfaRule::Plt as u8 {
            sp.wrapping_add(if pc & 15 >= offset { 16 } else { 8 })
        } else {
            base.wrapping_add(offset)
        };
        if kind == CfaRule::DerefBp as u8 || kind == CfaRule::DerefSp as u8 {
            cfa = memory.read_word(cfa).ok_or(StackEnd::Unreadable)?;
        }
        if rule.fp == FpRule::Cfa as u8 {
            let saved = self.stack_word(memory, cfa.wrapping_add(rule.fp_offset as i64 as u64))?;
            self.bp.set(saved);
        } else if rule.fp == FpRule::DerefBp as u8 {
            self.bp.set(memory.read_word(bp).ok_or(StackEnd::Unreadable)?);
        }
        let caller = self.stack_word(memory, cfa.wrapping_sub(8))?;
        self.ascend(caller, cfa, sp)
    }

    /// Code without rows, e.g. of a JIT: one step by the frame pointer, if it looks like one.
    #[inline(always)]
    fn guess<M: ReadMemory>(&mut self, memory: &M) -> Result<(), StackEnd> {
        let (sp, bp) = (self.sp.get(), self.bp.get());
        if bp & 7 != 0 || bp.wrapping_sub(sp) > MAX_GUESSED_FRAME_BYTES {
            return Err(StackEnd::NoFramePointer);
        }
        let saved = self.stack_word(memory, bp)?;
        let caller = self.stack_word(memory, bp + 8)?;
        self.bp.set(saved);
        self.guessed.set(1);
        self.ascend(caller, bp + 16, sp)
    }

    #[inline(always)]
    fn ascend(&mut self, caller: u64, cfa: u64, sp: u64) -> Result<(), StackEnd> {
        if caller == 0 {
            return Err(StackEnd::Complete);
        }
        if cfa <= sp {
            return Err(StackEnd::Stuck);
        }
        self.pc.set(caller);
        self.sp.set(cfa);
        Ok(())
    }

    /// A word of the stack, through the window.
    #[inline(always)]
    fn stack_word<M: ReadMemory>(&mut self, memory: &M, address: u64) -> Result<u64, StackEnd> {
        let mut distance = address.wrapping_sub(self.window_start.get());
        if distance >= WINDOW_BYTES || distance & 7 != 0 {
            // SAFETY: `Opaque` is transparent, so that this is the same array.
            let window = unsafe { &mut *(&raw mut self.window).cast() };
            if !memory.read_window(address, window) {
                // Nearer to the end of the stack than a window is long.
                self.window_start.set(0);
                return memory.read_word(address).ok_or(StackEnd::Unreadable);
            }
            self.window_start.set(address);
            distance = 0;
        }
        // Through memory: the compiler would drop the mask, which the check above makes needless
        // to it, but not to the verifier.
        self.distance.set(distance);
        let index = (self.distance.get() >> 3) as usize & (WINDOW_WORDS - 1);
        // SAFETY: the mask keeps the index inside of the array.
        Ok(unsafe { self.window.get_unchecked(index) }.get())
    }
}

#[cfg(test)]
mod tests;
