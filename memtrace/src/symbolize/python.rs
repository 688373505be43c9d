//! The Python side of a stack, and how it is shown.

use std::sync::Arc;

use crate::model::stack::{ENTRY_MARK, Frame, NamedStack, PythonEnd, PythonFrame, RawStack};

use super::{
    address_space::Location,
    merge::{self, Missing, NativeFrames, PythonPlace},
    namer::Frames,
    root,
};

/// What becomes of Python's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PythonFrames {
    /// They stand for the interpreter's frames that run them.
    #[default]
    Merged,
    /// Stacks with Python frames have no others.
    Only,
    /// They are not looked at.
    None,
}

/// The Python side of a stack.
#[derive(Debug)]
pub(super) struct PythonStack {
    pub(super) places: Box<[PythonPlace]>,
    end: PythonEnd,
    /// Indices of the native frames that run Python frames.
    entries: Box<[u32]>,
}

impl PythonStack {
    /// `None` where Python runs nothing.
    pub(super) fn of(
        raw: &RawStack,
        frames: &[Option<Arc<Frame>>],
        entries: Vec<u32>,
    ) -> Option<Self> {
        let place = |(at, frame): (&PythonFrame, &Option<Arc<Frame>>)| PythonPlace {
            frame: frame.clone(),
            is_oldest: at.position & ENTRY_MARK != 0,
        };
        let places: Box<[_]> = raw.python.iter().zip(frames).map(place).collect();
        let any = places.iter().any(|place| place.frame.is_some());
        any.then(|| Self { places, end: raw.python_end, entries: entries.into() })
    }

    /// The label for the Python frames that are missing at the root side.
    fn missing_root(&self) -> Option<&'static str> {
        match self.end {
            PythonEnd::Truncated => Some(root::TRUNCATED),
            PythonEnd::Unreadable => Some(root::UNREADABLE),
            PythonEnd::Off | PythonEnd::Complete | PythonEnd::NoThreadState => None,
        }
    }

    /// Without the native side.
    pub(super) fn alone(&self) -> NamedStack {
        let frames = merge::only_python(&self.places);
        NamedStack { frames, missing_root: self.missing_root() }
    }
}

/// Both sides of a stack as one, and whether they fit together.
pub(super) fn with_python(
    places: &[Location],
    python: &PythonStack,
    named: Vec<Frames>,
    missing_native: Option<&'static str>,
) -> (NamedStack, bool) {
    let is_entry = |index: usize| python.entries.contains(&(index as u32));
    // All runs of the interpreter are in one object.
    let interpreter = python.entries.first().map(|index| places[*index as usize].object);
    let native: Vec<_> = named
        .into_iter()
        .zip(places)
        .enumerate()
        .map(|(index, (frames, place))| NativeFrames {
            frames,
            is_entry: is_entry(index),
            of_interpreter: Some(place.object) == interpreter,
        })
        .collect();
    let missing_python = python.missing_root();
    let missing = Missing { native: missing_native, python: missing_python.is_some() };
    let merged = merge::merge(&native, &python.places, missing);
    let missing_root = missing_python.or(missing_native.filter(|_| merged.ends_native));
    (NamedStack { frames: merged.frames, missing_root }, merged.in_place)
}
