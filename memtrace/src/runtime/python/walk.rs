//! A thread's Python frames, walked from outside by the layout that the kernel side gets: a walk
//! that decodes here says that the layout is right.

use memtrace_common::python::{
    ENTRY_MARK, MAX_FRAME_BYTES, MAX_PYTHON_FRAMES, PythonEnd, PythonFrame, PythonKind,
    PythonLayout,
};

use super::objects::{half_word, word};
use crate::model::memory::TargetMemory;

/// The most links followed; entry frames are no Python frames.
const MAX_LINKS: usize = MAX_PYTHON_FRAMES * 2;

/// Frames, innermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// As the kernel side sends them.
    pub frames: Vec<PythonFrame>,
    /// How the walk ended.
    pub end: PythonEnd,
}

/// Walks the frames of the thread with this `PyThreadState`. A thread that runs changes them
/// meanwhile: what comes of it is to be checked.
pub fn walk(layout: &PythonLayout, thread_state: u64, memory: &impl TargetMemory) -> Walked {
    let mut walk = Walk { layout, memory, frames: Vec::new() };
    let end = walk.run(thread_state);
    Walked { frames: walk.frames, end }
}

struct Walk<'a, M> {
    layout: &'a PythonLayout,
    memory: &'a M,
    frames: Vec<PythonFrame>,
}

impl<M: TargetMemory> Walk<'_, M> {
    fn run(&mut self, thread_state: u64) -> PythonEnd {
        let Some(mut frame) = self.newest(thread_state) else { return PythonEnd::Unreadable };
        for _ in 0..MAX_LINKS {
            if frame == 0 {
                return PythonEnd::Complete;
            }
            if self.frames.len() == MAX_PYTHON_FRAMES {
                return PythonEnd::Truncated;
            }
            let Some(previous) = self.visit(frame) else { return PythonEnd::Unreadable };
            frame = previous;
        }
        PythonEnd::Truncated
    }

    fn newest(&self, thread_state: u64) -> Option<u64> {
        let frame = self.pointer(thread_state, self.layout.thread_frame)?;
        if self.layout.has_cframe == 0 {
            Some(frame)
        } else {
            self.pointer(frame, self.layout.cframe_frame)
        }
    }

    fn pointer(&self, base: u64, offset: u32) -> Option<u64> {
        self.memory.read_u64(base.checked_add(offset.into())?)
    }

    /// Takes a frame, and tells the older one.
    fn visit(&mut self, frame: u64) -> Option<u64> {
        let layout = self.layout;
        let mut bytes = [0; MAX_FRAME_BYTES as usize];
        let bytes = bytes.get_mut(..layout.frame_bytes as usize)?;
        self.memory.read(frame, bytes).then_some(())?;
        let owner = bytes.get(layout.frame_owner as usize).copied().unwrap_or(0);
        let is_entry_frame = layout.kind == PythonKind::EntryFrames as u32
            && u32::from(owner) >= layout.entry_owner_min;
        if is_entry_frame {
            self.mark_oldest();
        } else {
            self.frames.push(self.python_frame(bytes, owner));
        }
        Some(word(bytes, layout.frame_previous))
    }

    fn python_frame(&self, bytes: &[u8], owner: u8) -> PythonFrame {
        let layout = self.layout;
        let is_frame_object = layout.kind == PythonKind::FrameObjects as u32;
        let position = if is_frame_object {
            i64::from(half_word(bytes, layout.frame_position).cast_signed()).cast_unsigned()
        } else {
            word(bytes, layout.frame_position)
        };
        let is_oldest_of_run =
            is_frame_object || (layout.kind == PythonKind::CFrames as u32 && owner == 1);
        let mark = if is_oldest_of_run { ENTRY_MARK } else { 0 };
        let code = word(bytes, layout.frame_code) & !layout.code_tag_mask;
        PythonFrame { code, position: position & !ENTRY_MARK | mark }
    }

    fn mark_oldest(&mut self) {
        if let Some(oldest) = self.frames.last_mut() {
            oldest.position |= ENTRY_MARK;
        }
    }
}
