//! The walk of CPython's frames, innermost first.
//!
//! All state lives in a [`PythonWalk`], which in the kernel is map memory; see [`crate::opaque`].
//! The thread that is walked is inside of an allocator call of its own, so that its frames do not
//! change meanwhile. Whatever memory holds, the walk is bounded.

use super::{
    ENTRY_MARK, MAX_PYTHON_FRAMES, PythonEnd, PythonKind, PythonLayout,
    frames::{FirstByte, Frames},
    marks::Marks,
};
use crate::{
    memory::ReadMemory,
    opaque::Opaque,
    unwind::{HASH_SEED, StackWords, mix, window::Window},
};

/// How many times [`PythonWalk::step`] is to be called at most: each frame, its entry, the end.
pub const MAX_PYTHON_STEPS: usize = 2 * MAX_PYTHON_FRAMES + 2;

/// What is kept of a thread from one walk to the next. Lives in map memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PythonThread {
    /// Its `fs` base, which is set once, when it starts; 0 while it was not looked up.
    pub pointer: Opaque<u64>,
    /// Its `PyThreadState`, while that may be relied on; else 0. See [`PythonWalk::start`].
    state: Opaque<u64>,
}

impl PythonThread {
    /// Forgets all: the thread ends, or executes another program.
    #[inline(always)]
    pub fn forget(&mut self) {
        self.pointer.set(0);
        self.state.set(0);
    }
}

/// A walk in progress, and its result.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct PythonWalk {
    /// The frame to read next; 0 when there is none.
    frame: Opaque<u64>,
    /// The `_PyCFrame` of the run that `frame` is of ([`PythonKind::CFrames`]).
    cframe: Opaque<u64>,
    hash: Opaque<u64>,
    count: Opaque<u32>,
    /// How many frames are of runs whose entry is known.
    entered: Opaque<u32>,
    end: Opaque<u32>,
    /// 1 once there was no room for a frame.
    full: Opaque<u32>,
    /// What was read of the frames.
    frames: Frames,
    marks: Marks,
}

/// How many frames a step takes at most.
const FRAMES_A_STEP: usize = 8;

impl PythonWalk {
    /// Makes it the walk of a stack without Python. `seed` goes into the hash.
    #[inline(always)]
    pub fn skip(&mut self, seed: u64) {
        self.hash.set(seed);
        self.count.set(0);
        self.end.set(PythonEnd::Off as u32);
        self.marks.clear();
    }

    /// Prepares the walk of a thread whose pointer is known; `false` when there is nothing to
    /// walk. `seed` goes into the hash. `stack` is what was read of the stack.
    ///
    /// In 3.11 the slot of a thread's state is written when there is none and when that state is
    /// deleted, and nothing is run by a state that is deleted: its `_PyCFrame` is the one inside of
    /// itself then. So a state that was in the slot once and whose `_PyCFrame` lies on this very stack
    /// is there still, and the slot need not be read. (Later ones write the slot whenever another
    /// interpreter takes over the thread.)
    #[inline(always)]
    pub fn start<M: ReadMemory>(
        &mut self,
        memory: &M,
        layout: &PythonLayout,
        thread: &mut PythonThread,
        seed: u64,
        stack: &mut Window,
    ) -> bool {
        self.skip(seed);
        self.frame.set(0);
        self.cframe.set(0);
        self.entered.set(0);
        self.full.set(0);
        self.end.set(PythonEnd::Truncated as u32);
        if layout.kind == PythonKind::FrameObjects as u32 {
            self.marks.set_code(&layout.eval_ranges);
        }
        if self.find_frame_by_state(memory, layout, thread, stack) {
            return true;
        }
        match self.find_frame(memory, layout, thread, stack) {
            Ok(()) => true,
            Err(end) => {
                self.end.set(end as u32);
                false
            }
        }
    }

    /// `false` where the state that is kept may not be relied on.
    #[inline(always)]
    fn find_frame_by_state<M: ReadMemory>(
        &mut self,
        memory: &M,
        layout: &PythonLayout,
        thread: &PythonThread,
        stack: &mut Window,
    ) -> bool {
        let state = thread.state.get();
        if state == 0 || layout.kind != PythonKind::CFrames as u32 {
            return false;
        }
        let place = state.wrapping_add(u64::from(layout.thread_frame));
        let Some(cframe) = memory.read_word(place) else { return false };
        let frame = stack.known(cframe.wrapping_add(u64::from(layout.cframe_frame)));
        self.cframe.set(cframe);
        self.frame.set(frame.unwrap_or_default());
        frame.is_some()
    }

    #[inline(always)]
    fn find_frame<M: ReadMemory>(
        &mut self,
        memory: &M,
        layout: &PythonLayout,
        thread: &mut PythonThread,
        stack: &mut Window,
    ) -> Result<(), PythonEnd> {
        thread.state.set(0);
        let read = |address: u64, offset: u32| {
            memory.read_word(address.wrapping_add(u64::from(offset))).ok_or(PythonEnd::Unreadable)
        };
        let state = read(thread.pointer.get(), layout.thread_state_slot)?;
        if state == 0 {
            return Err(PythonEnd::NoThreadState);
        }
        let mut frame = read(state, layout.thread_frame)?;
        if layout.has_cframe != 0 {
            self.cframe.set(frame);
            let place = frame.wrapping_add(u64::from(layout.cframe_frame));
            if layout.kind == PythonKind::CFrames as u32 && stack.known(place).is_some() {
                thread.state.set(state);
            }
            frame = stack.peek(memory, place).ok_or(PythonEnd::Unreadable)?;
        }
        self.frame.set(frame);
        Ok(())
    }

    /// Takes a frame, and those behind it that were read with it, up to an entry; `false` when the walk
    /// has ended. Call it at most [`MAX_PYTHON_STEPS`] times.
    #[inline(always)]
    pub fn step<M: ReadMemory>(
        &mut self,
        memory: &M,
        layout: &PythonLayout,
        words: &mut StackWords,
        stack: &mut Window,
    ) -> bool {
        let Err(end) = self.try_step(memory, layout, words, stack) else { return true };
        self.end.set(end as u32);
        if layout.kind == PythonKind::CFrames as u32 {
            // The run's entry is known, though its oldest frame is not.
            self.enter(self.cframe.get(), words);
        }
        false
    }

    #[inline(always)]
    fn try_step<M: ReadMemory>(
        &mut self,
        memory: &M,
        layout: &PythonLayout,
        words: &mut StackWords,
        stack: &mut Window,
    ) -> Result<(), PythonEnd> {
        let frame = self.frame.get();
        if frame == 0 {
            return Err(self.outermost());
        }
        if layout.kind == PythonKind::EntryFrames as u32 && self.pass_entry(layout, stack) {
            self.enter(frame, words);
            return Ok(());
        }
        let first = self.frames.go(memory, frame, layout.frame_part());
        let first = first.ok_or(PythonEnd::Unreadable)?;
        let owner = if layout.kind == PythonKind::CFrames as u32 {
            self.take_frames::<{ PythonKind::CFrames as u32 }>(frame, first, layout, words)?
        } else if layout.kind == PythonKind::EntryFrames as u32 {
            self.take_frames::<{ PythonKind::EntryFrames as u32 }>(frame, first, layout, words)?
        } else {
            self.take_frames::<{ PythonKind::FrameObjects as u32 }>(frame, first, layout, words)?
        };
        if layout.kind == PythonKind::CFrames as u32 && owner != 0 {
            self.leave_cframe(memory, layout, words, stack)?;
        }
        // Mostly this is the end: another call would cost as much as half a frame.
        if self.frame.get() == 0 { Err(self.outermost()) } else { Ok(()) }
    }

    /// Takes a frame and those behind it that were read with it, up to an entry. The owner of the last
    /// one.
    ///
    /// By kind, and with what a frame waits for of the one before not in memory. (The count is: of its
    /// multiples the compiler would make pointers, and the verifier would not see where they end.)
    #[inline(always)]
    fn take_frames<const KIND: u32>(
        &mut self,
        frame: u64,
        first: FirstByte,
        layout: &PythonLayout,
        words: &mut StackWords,
    ) -> Result<u32, PythonEnd> {
        let (mut frame, mut first, mut owner) = (frame, first, 0);
        let mut hash = self.hash.get();
        let mut is_full = false;
        for _ in 0..FRAMES_A_STEP {
            let previous = self.frames.word(first, layout.frame_previous);
            owner = self.owner::<KIND>(first, layout);
            if KIND == PythonKind::EntryFrames as u32 && owner >= layout.entry_owner_min {
                self.went(previous, hash);
                self.enter(frame, words);
                return Ok(owner);
            }
            let count = self.count.get();
            if count as usize >= MAX_PYTHON_FRAMES {
                is_full = true;
                frame = previous;
                break;
            }
            let code = self.frames.word(first, layout.frame_code) & !layout.code_tag_mask;
            let position = self.position::<KIND>(first, layout);
            let place = 2 * count as usize;
            words.set(place, code);
            words.set(place + 1, position);
            hash = mix(hash, mix(HASH_SEED, code) ^ position);
            self.count.set(count + 1);
            frame = previous;
            if KIND == PythonKind::CFrames as u32 && owner != 0 {
                break;
            }
            match self.frames.find(frame) {
                Some(next) => first = next,
                None => break,
            }
        }
        self.went(frame, hash);
        if is_full { self.pass_frame::<KIND>(owner) } else { Ok(owner) }
    }

    /// Some frames were taken, and this is the next.
    #[inline(always)]
    fn went(&mut self, next: u64, hash: u64) {
        self.frame.set(next);
        self.hash.set(hash);
    }

    /// There is no room for a frame; what it says.
    #[inline(always)]
    fn pass_frame<const KIND: u32>(&mut self, owner: u32) -> Result<u32, PythonEnd> {
        self.full.set(1);
        // The entry of the run that has begun is still worth looking for.
        let has_begun = self.count.get() != self.entered.get();
        let is_ahead = KIND == PythonKind::EntryFrames as u32;
        if has_begun && is_ahead { Ok(owner) } else { Err(PythonEnd::Truncated) }
    }

    /// Goes on to what is behind an entry frame, if that was read with the stack, where such frames
    /// lie; else `false`.
    #[inline(always)]
    fn pass_entry(&mut self, layout: &PythonLayout, stack: &mut Window) -> bool {
        let frame = self.frame.get();
        let offset = layout.frame_owner;
        let place = frame.wrapping_add(u64::from(offset & !7));
        let Some(owners) = stack.known(place) else { return false };
        if (owners >> ((offset & 7) * 8)) as u32 & 0xff < layout.entry_owner_min {
            return false;
        }
        let previous = stack.known(frame.wrapping_add(u64::from(layout.frame_previous)));
        self.frame.set(previous.unwrap_or(frame));
        previous.is_some()
    }

    #[inline(always)]
    fn owner<const KIND: u32>(&self, first: FirstByte, layout: &PythonLayout) -> u32 {
        if KIND == PythonKind::FrameObjects as u32 {
            return 0;
        }
        let offset = layout.frame_owner;
        (self.frames.word(first, offset) >> ((offset & 7) * 8)) as u32 & 0xff
    }

    #[inline(always)]
    fn outermost(&self) -> PythonEnd {
        if self.full.get() == 0 { PythonEnd::Complete } else { PythonEnd::Truncated }
    }

    #[inline(always)]
    fn position<const KIND: u32>(&self, first: FirstByte, layout: &PythonLayout) -> u64 {
        let offset = layout.frame_position;
        let word = self.frames.word(first, offset);
        if KIND != PythonKind::FrameObjects as u32 {
            return word & !ENTRY_MARK;
        }
        // `int f_lasti`; each frame is a run of its own.
        let value = (word >> ((offset & 4) * 8)) as i32;
        i64::from(value) as u64 | ENTRY_MARK
    }

    /// The frames since the last entry are a run, and `entry` is its object on the C stack. There
    /// are none when the run's last frame has been left and its locals are being destroyed.
    #[inline(always)]
    fn enter(&mut self, entry: u64, words: &mut StackWords) {
        let count = self.count.get();
        if count == self.entered.get() {
            return;
        }
        self.entered.set(count);
        let place = (2 * count as usize).wrapping_sub(1);
        words.set(place, words.get(place) | ENTRY_MARK);
        self.hash.set(mix(self.hash.get(), ENTRY_MARK));
        self.marks.add(entry);
    }

    #[inline(always)]
    fn leave_cframe<M: ReadMemory>(
        &mut self,
        memory: &M,
        layout: &PythonLayout,
        words: &mut StackWords,
        stack: &mut Window,
    ) -> Result<(), PythonEnd> {
        let cframe = self.cframe.get();
        self.enter(cframe, words);
        let place = cframe.wrapping_add(u64::from(layout.cframe_previous));
        let previous = stack.peek(memory, place);
        self.cframe.set(previous.ok_or(PythonEnd::Unreadable)?);
        Ok(())
    }

    /// Forgets what was read of the frames.
    #[inline(always)]
    pub fn clear_frames(&mut self) {
        self.frames.clear();
    }

    /// How many frames were found.
    #[inline(always)]
    pub fn count(&self) -> u32 {
        self.count.get()
    }

    /// How it ended: a [`PythonEnd`].
    #[inline(always)]
    pub fn end(&self) -> u32 {
        self.end.get()
    }

    /// The hash of all that was found, to seed that of the native frames.
    #[inline(always)]
    pub fn hash(&self) -> u64 {
        let end = self.end.get();
        if end == PythonEnd::Off as u32 {
            return self.hash.get();
        }
        mix(self.hash.get(), u64::from(end) << 32 | u64::from(self.count.get()))
    }

    /// Which native frames are runs of the interpreter loop.
    #[inline(always)]
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Which native frames are runs of the interpreter loop.
    #[inline(always)]
    pub fn marks_mut(&mut self) -> &mut Marks {
        &mut self.marks
    }
}

#[cfg(test)]
mod tests;
