//! The proof that an interpreter is understood: frames of its threads, followed to their names.

use memtrace_common::python::{PythonEnd, PythonLayout};

use super::{
    code::{CodeNames, Moment, Objects, Resolved},
    threads::Thread,
    walk::{Walked, walk},
};
use crate::model::memory::TargetMemory;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// A thread's frames are understood, this many, to the last one.
    Frames(usize),
    /// No thread runs Python: nothing is known.
    NoFrames,
    /// There are frames, and none of the threads could be followed to its end.
    Failed(String),
}

/// Tries each thread until one is understood.
pub(super) fn prove(
    objects: &Objects,
    layout: &PythonLayout,
    threads: &[Thread],
    memory: &impl TargetMemory,
) -> Proof {
    let mut names = CodeNames::new(objects.clone());
    let mut proof = Proof::NoFrames;
    for thread in threads {
        let walked = walk(layout, thread.state, memory);
        match judge(&walked, &mut names, memory) {
            Proof::NoFrames => {}
            Proof::Failed(reason) => proof = Proof::Failed(reason),
            found @ Proof::Frames(_) => return found,
        }
    }
    proof
}

fn judge(walked: &Walked, names: &mut CodeNames, memory: &impl TargetMemory) -> Proof {
    let failed = |reason: String| Proof::Failed(reason);
    match walked.end {
        PythonEnd::Complete | PythonEnd::Truncated => {}
        end => {
            return failed(format!("the chain of frames ends {end:?} at {}", walked.frames.len()));
        }
    }
    let resolved = names.resolve_each(&walked.frames, Moment::NOW, memory);
    if let Some(at) = resolved.iter().position(|frame| *frame == Resolved::Unreadable) {
        return failed(format!("frame {at} of {} is not one", resolved.len()));
    }
    let is_shown = |frame: &&Resolved| matches!(frame, Resolved::Frame(_));
    match resolved.iter().filter(is_shown).count() {
        0 => Proof::NoFrames,
        shown => Proof::Frames(shown),
    }
}
