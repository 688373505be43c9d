//! The Python side of a stack, and how it is shown.

use std::sync::Arc;

use crate::model::stack::{ENTRY_MARK, Frame, NamedStack, PythonEnd, PythonFrame, RawStack};

use super::{
    address_space::Location,
    merge::{self, Missing, NativeFrames, PythonPlace},
    namer::Frames,
    root,
};

/// The interpreter loop, with its `.cold` part (Python/ceval.c).
const LOOP: &str = "_PyEval_EvalFrameDefault";

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

    /// The native frames that run Python frames, and the one that runs the last, if its Python
    /// frames were so many that the kernel side did not come to what marks it. It is the next run
    /// of the interpreter loop then, which only its name tells.
    fn entries(&self, named: &[Frames]) -> Vec<u32> {
        let mut entries = self.entries.to_vec();
        let marked = self.places.iter().filter(|place| place.is_oldest).count();
        let is_cut = self.missing_root().is_some()
            && self.places.last().is_some_and(|place| !place.is_oldest);
        if is_cut && marked == entries.len() {
            let next = entries.last().map_or(0, |last| *last as usize + 1);
            let rest = named.iter().enumerate().skip(next);
            let mut loops = rest.filter(|(_, frames)| is_loop(frames));
            entries.extend(loops.next().map(|(index, _)| index as u32));
        }
        entries
    }

    /// Without the native side.
    pub(super) fn alone(&self) -> NamedStack {
        let frames = merge::only_python(&self.places);
        NamedStack { frames, missing_root: self.missing_root().map(Into::into) }
    }
}

fn is_loop(frames: &Frames) -> bool {
    frames.iter().any(|frame| frame.function.starts_with(LOOP))
}

/// Both sides of a stack as one, and whether they fit together.
pub(super) fn with_python(
    places: &[Location],
    python: &PythonStack,
    named: Vec<Frames>,
    missing_native: Option<&'static str>,
) -> (NamedStack, bool) {
    let entries = python.entries(&named);
    let is_entry = |index: usize| entries.contains(&(index as u32));
    // All runs of the interpreter are in one object.
    let interpreter = entries.first().map(|index| places[*index as usize].object);
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
    let missing_root = missing_root.map(Into::into);
    (NamedStack { frames: merged.frames, missing_root }, merged.in_place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use memtrace_common::wire::StackEnd;

    /// The entries of native frames with these names, of which some are marked, below a Python
    /// stack with these marks that ended so.
    fn entries(native: &[&str], marked: &[u32], oldest: &[bool], end: PythonEnd) -> Vec<u32> {
        let position = |is_oldest: &bool| if *is_oldest { ENTRY_MARK } else { 0 };
        let frame = |is_oldest| PythonFrame { code: 1, position: position(is_oldest) };
        let raw = RawStack {
            python: oldest.iter().map(frame).collect(),
            python_end: end,
            ..RawStack::native(Vec::new(), StackEnd::Complete)
        };
        let known = vec![Some(Arc::new(Frame::default())); oldest.len()];
        let named = native.iter().map(|function| -> Frames {
            [Arc::new(Frame { function: (*function).to_owned(), ..Frame::default() })].into()
        });
        let python = PythonStack::of(&raw, &known, marked.to_vec()).unwrap();
        python.entries(&named.collect::<Vec<_>>())
    }

    const NATIVE: [&str; 6] =
        ["realloc", LOOP, "step", "_PyEval_EvalFrameDefault.cold", "call", LOOP];

    #[test]
    fn a_run_that_was_cut_is_the_next_loop_on_the_root_side() {
        let cut = |marked: &[u32], oldest: &[bool]| {
            entries(&NATIVE, marked, oldest, PythonEnd::Truncated)
        };
        assert_eq!(cut(&[], &[false, false]), [1]);
        assert_eq!(cut(&[1], &[true, false]), [1, 3]);
        assert_eq!(cut(&[1, 3], &[false, true, true, false]), [1, 3, 5]);
        assert_eq!(cut(&[5], &[true, false]), [5], "there is none");
    }

    #[test]
    fn a_run_is_not_guessed_by_name_where_marks_tell_it_or_do_not_fit() {
        assert_eq!(entries(&NATIVE, &[1], &[false, true], PythonEnd::Truncated), [1]);
        assert_eq!(entries(&NATIVE, &[1], &[true, true, false], PythonEnd::Truncated), [1]);
        assert_eq!(entries(&NATIVE, &[1, 3], &[true, false], PythonEnd::Truncated), [1, 3]);
        assert!(entries(&NATIVE, &[], &[false], PythonEnd::Complete).is_empty());
    }
}
