//! Call stacks. Frames are leaf first everywhere; renderers that want the root first reverse.

use std::{borrow::Cow, sync::Arc};

pub use memtrace_common::python::{ENTRY_MARK, PythonEnd, PythonFrame};
use memtrace_common::wire::StackEnd;
use serde::{Deserialize, Serialize};

/// Names a stack: a hash of its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackId(pub u64);

impl StackId {
    /// The id of calls whose stack could not be recorded.
    pub const NONE: Self = Self(0);
}

/// The module of the frame at the root of a stack that says which process it is of.
pub const PROCESS: &str = "[process]";

/// A stack as addresses of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawStack {
    /// Return addresses, leaf first; index 0 is the direct caller of the traced function. With
    /// [`ENTRY_MARK`] where the frame is a run of Python's interpreter loop.
    pub frames: Vec<u64>,
    /// Why the walk ended.
    pub end: StackEnd,
    /// A frame was guessed by its frame pointer, in code without unwind information.
    pub guessed: bool,
    /// Python frames, innermost first; a position has [`ENTRY_MARK`] where the frame is the oldest
    /// that one run of the interpreter loop serves.
    pub python: Vec<PythonFrame>,
    /// How the Python walk ended.
    pub python_end: PythonEnd,
}

impl RawStack {
    /// A stack of native frames alone.
    pub fn native(frames: Vec<u64>, end: StackEnd) -> Self {
        Self { frames, end, guessed: false, python: Vec::new(), python_end: PythonEnd::Off }
    }
}

/// Stands for a frame that could not be read, so that the others stay at their places.
pub const UNREADABLE_PYTHON: &str = "[python: unreadable]";

/// What a frame was written in, as far as it decides how it is shown.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// Compiled code.
    #[default]
    Native,
    /// A frame of CPython's own stack.
    Python,
}

impl Language {
    fn is_native(&self) -> bool {
        *self == Self::Native
    }
}

/// One named frame. One return address gives several where functions were inlined.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Frame {
    /// The demangled function, or `module+0xoffset` where no name can be had; Python's qualified
    /// name (3.11 and later) or name.
    pub function: String,
    /// File name (not path) of the mapped object, or of a Python frame's source; empty for
    /// anonymous memory.
    pub module: String,
    /// Source file, where debug information is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Source line, 1-based.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The function was inlined into the next frame.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub inlined: bool,
    /// What it was written in; native where it is not said.
    #[serde(skip_serializing_if = "Language::is_native")]
    pub language: Language,
}

/// A stack with names, leaf first.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct NamedStack {
    /// Leaf first. Shared, because the frames near the root are those of most stacks.
    pub frames: Vec<Arc<Frame>>,
    /// Set when the root side is missing: the label that stands for it, e.g. `[truncated]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_root: Option<Cow<'static, str>>,
}
