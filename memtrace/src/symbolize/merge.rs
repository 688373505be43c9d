//! One stack of two: Python's frames in the places of the native frames that run them.
//!
//! A native frame that is a run of the interpreter loop carries [`ENTRY_MARK`], and so does the
//! oldest Python frame of each run; the runs of both stacks belong together in order. On the leaf
//! side of the innermost run everything stays: it is how the Python line came to the allocator.
//! On the root side of it the interpreter's own frames (those of the object that the runs are in)
//! say nothing that the Python frames do not, and go; what other objects do there (C extensions
//! that call back, a program that embeds Python) stays.

use std::sync::Arc;

use crate::model::stack::{ENTRY_MARK, Frame};

use super::root::{is_c_library, is_start};

/// User addresses never have it; the kernel's have it together with [`ENTRY_MARK`].
const KERNEL_HALF: u64 = 1 << 62;

/// The program that starts an interpreter that is in a libpython: `python3.11`.
const PROGRAM: &str = "python";

/// A word of a native stack as its return address, and whether it is marked.
pub(super) fn unmarked(word: u64) -> (u64, bool) {
    let marked = word & ENTRY_MARK != 0 && word & KERNEL_HALF == 0;
    (if marked { word & !ENTRY_MARK } else { word }, marked)
}

/// The frames of one return address, leaf first.
#[derive(Clone, Debug)]
pub(super) struct NativeFrames {
    /// More than one where functions were inlined.
    pub(super) frames: Arc<[Arc<Frame>]>,
    /// It runs Python frames.
    pub(super) is_entry: bool,
    /// It is in the object that runs Python frames.
    pub(super) of_interpreter: bool,
}

/// A frame of Python's own stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PythonPlace {
    /// `None` for what is no code, e.g. what stands for a call from C.
    pub(super) frame: Option<Arc<Frame>>,
    /// The oldest frame of a run.
    pub(super) is_oldest: bool,
}

/// What is missing of the two stacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    /// The label for the native frames that are missing at the root side.
    pub(super) native: Option<&'static str>,
    /// Python frames are missing at the root side.
    pub(super) python: bool,
}

/// One stack, leaf first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Merged {
    pub(super) frames: Vec<Arc<Frame>>,
    /// The native stack's end is the whole stack's end.
    pub(super) ends_native: bool,
    /// The runs of both stacks were equal in number, or the difference is missing.
    pub(super) in_place: bool,
}

/// Puts Python frames in their places. `python` is not empty.
pub(super) fn merge(native: &[NativeFrames], python: &[PythonPlace], missing: Missing) -> Merged {
    let runs: Vec<&[PythonPlace]> = python.split_inclusive(|place| place.is_oldest).collect();
    let entries = native.iter().filter(|frames| frames.is_entry).count();
    let may_differ = match entries.cmp(&runs.len()) {
        std::cmp::Ordering::Less => missing.native.is_some(),
        std::cmp::Ordering::Equal => true,
        std::cmp::Ordering::Greater => missing.python,
    };
    if !may_differ {
        return one_after_the_other(native, python);
    }
    let (replaced, left) = runs.split_at(entries.min(runs.len()));
    let inside = if left.is_empty() { without_start_up(native) } else { native };
    let mut frames = replace(inside, replaced);
    if let Some(label) = missing.native.filter(|_| !left.is_empty()) {
        frames.push(Arc::new(Frame { function: label.to_owned(), ..Frame::default() }));
    }
    frames.extend(left.iter().flat_map(|run| named(run)));
    Merged { frames, ends_native: left.is_empty(), in_place: true }
}

/// The frames of Python's stack alone.
pub(super) fn only_python(python: &[PythonPlace]) -> Vec<Arc<Frame>> {
    named(python).collect()
}

fn named(places: &[PythonPlace]) -> impl Iterator<Item = Arc<Frame>> {
    places.iter().filter_map(|place| place.frame.clone())
}

fn one_after_the_other(native: &[NativeFrames], python: &[PythonPlace]) -> Merged {
    let mut frames: Vec<_> = native.iter().flat_map(|one| one.frames.iter().cloned()).collect();
    frames.extend(named(python));
    Merged { frames, ends_native: false, in_place: native.is_empty() }
}

/// Each entry by its run, without the interpreter's frames on the root side of the first entry.
fn replace(native: &[NativeFrames], runs: &[&[PythonPlace]]) -> Vec<Arc<Frame>> {
    let mut runs = runs.iter();
    let mut frames = Vec::new();
    let mut below_python = true;
    for one in native {
        if one.is_entry {
            below_python = false;
            frames.extend(runs.next().into_iter().flat_map(|run| named(run)));
        } else if below_python || !one.of_interpreter {
            frames.extend(one.frames.iter().cloned());
        }
    }
    frames
}

/// The native stack without how its process or thread came to Python, when nothing else took part.
fn without_start_up(native: &[NativeFrames]) -> &[NativeFrames] {
    let Some(last_entry) = native.iter().rposition(|one| one.is_entry) else { return native };
    let (inside, start_up) = native.split_at(last_entry + 1);
    if start_up.iter().all(is_start_up) { inside } else { native }
}

fn is_start_up(one: &NativeFrames) -> bool {
    let is_outer = |frame: &Arc<Frame>| {
        is_c_library(&frame.module) || is_start(frame) || frame.module.starts_with(PROGRAM)
    };
    one.of_interpreter || one.frames.iter().all(is_outer)
}

#[cfg(test)]
mod tests;
