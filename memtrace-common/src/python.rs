//! CPython's stacks as the kernel side sees them: where its structs have what, and what it sends.
//!
//! A frame is sent as the address of its code object and its position in it; the user side knows
//! the names and lines. Python frames and native frames are told to belong together by marks: the
//! interpreter's C frame that runs a chain of Python frames holds (or its caller holds) an object
//! of that chain, whose address the Python walk notes and the native walk finds in `[SP, CFA)`.

mod frames;
pub mod marks;
pub mod walk;

/// The most Python frames a stack record holds.
pub const MAX_PYTHON_FRAMES: usize = 128;

/// The most bytes of a frame that can be of interest: `PyFrameObject` needs 112 of them.
pub const MAX_FRAME_BYTES: u32 = 128;

/// Set in [`PythonFrame::position`] of the oldest frame that one run of the interpreter loop
/// serves, and in a native return address whose frame is that run.
pub const ENTRY_MARK: u64 = 1 << 63;

/// A Python frame on the wire.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PythonFrame {
    /// Address of the code object (or of what stands in its place), without tag bits.
    pub code: u64,
    /// The frame's instruction pointer (3.11 and later), or its `f_lasti` (sign-extended to 63
    /// bits); with [`ENTRY_MARK`].
    pub position: u64,
}

/// Which kind of frame chain a CPython has.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PythonKind {
    /// There is no Python, or none that is understood.
    Off = 0,
    /// 3.8 to 3.10: `PyFrameObject`s, one run of the interpreter loop each. Runs are told by code
    /// range ([`PythonLayout::eval_ranges`]).
    FrameObjects = 1,
    /// 3.11: `_PyInterpreterFrame`s; a run's oldest frame has `is_entry` set, and its `_PyCFrame`
    /// lies on the C stack.
    CFrames = 2,
    /// 3.12 and later: a run's oldest frame is followed by an entry frame that lies on the C
    /// stack itself.
    EntryFrames = 3,
}

/// The one element of the `PYTHON` map. Only the user side writes it. Offsets are in bytes, from
/// facts about the very build or from its own `_Py_DebugOffsets`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PythonLayout {
    /// A [`PythonKind`].
    pub kind: u32,
    /// Offset from the thread pointer (`fs` base) of the slot that holds the `PyThreadState`: the
    /// data of `pthread_setspecific` for CPython's key.
    pub thread_state_slot: u32,
    /// In `PyThreadState`: the frame, or the `_PyCFrame` up to 3.12.
    pub thread_frame: u32,
    /// 1 when [`Self::thread_frame`] leads to a `_PyCFrame` (3.11 and 3.12).
    pub has_cframe: u32,
    /// In `_PyCFrame`: the frame.
    pub cframe_frame: u32,
    /// In `_PyCFrame`: the previous one.
    pub cframe_previous: u32,
    /// How much of a frame is of interest, a multiple of 8 and at most [`MAX_FRAME_BYTES`]. The kernel
    /// side reads more at once.
    pub frame_bytes: u32,
    /// In a frame: the code object.
    pub frame_code: u32,
    /// In a frame: the older frame.
    pub frame_previous: u32,
    /// In a frame: the position, 8 bytes from 3.11 on, 4 bytes before.
    pub frame_position: u32,
    /// In a frame: the byte that says whether it is an entry: `is_entry` (3.11) or `owner`.
    pub frame_owner: u32,
    /// Owners from here on are entry frames ([`PythonKind::EntryFrames`]).
    pub entry_owner_min: u32,
    /// Bits of the code pointer that are tags.
    pub code_tag_mask: u64,
    /// The interpreter loop's code: `[start, end)`, its hot and its cold part
    /// ([`PythonKind::FrameObjects`]).
    pub eval_ranges: [crate::config::CodeRange; 2],
    /// The program image (a number of execs) that all of this is of.
    pub image: u64,
    /// In the kernel's `task_struct`: the thread pointer, from the running kernel's BTF; 0 when it
    /// is not known, and then there is no Python walk.
    pub task_thread_pointer: u64,
}

// SAFETY: `repr(C)`, only integers, no padding, any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for PythonLayout {}

impl PythonLayout {
    /// What is of interest in a frame.
    #[inline(always)]
    pub(crate) fn frame_part(&self) -> FramePart {
        let offsets = self.frame_code.min(self.frame_previous);
        let start = offsets.min(self.frame_position).min(self.frame_owner);
        FramePart { start: start & !7, end: self.frame_bytes.min(MAX_FRAME_BYTES) & !7 }
    }
}

/// A part of a frame, by offsets: multiples of 8, at most [`MAX_FRAME_BYTES`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct FramePart {
    start: u32,
    end: u32,
}

/// How the Python walk of a stack ended.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PythonEnd {
    /// It was not tried: no Python, or not asked for.
    #[default]
    Off = 0,
    /// The outermost frame was reached.
    Complete = 1,
    /// The thread has no Python state (a native thread).
    NoThreadState = 2,
    /// The buffer was full: the root side is missing.
    Truncated = 3,
    /// A frame could not be read.
    Unreadable = 4,
}

impl PythonEnd {
    /// Every end.
    pub const ALL: [Self; 5] =
        [Self::Off, Self::Complete, Self::NoThreadState, Self::Truncated, Self::Unreadable];

    /// The end with this discriminant.
    pub fn from_u32(value: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|end| *end as u32 == value)
    }
}

const _: () = {
    assert!(size_of::<PythonFrame>() == 16);
    assert!(size_of::<PythonLayout>() == 12 * 4 + 8 + 4 * 8 + 2 * 8);
};
