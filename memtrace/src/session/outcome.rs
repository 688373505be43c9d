//! A finished trace of all its processes.

use super::{prepare::Prepared, recorder::Recorder, window::Ending};
use crate::{
    capture::{self, Capture},
    model::trace::{EndReason, NotFollowed},
};

/// See the module.
pub struct Outcome {
    /// In the order of their numbers.
    pub(super) endings: Vec<Ending>,
    pub(super) not_followed: NotFollowed,
    /// Writes the rest of the capture.
    pub(super) recorder: Option<Recorder>,
}

impl Outcome {
    /// How many stacks have to be named, which can take a while.
    pub fn site_count(&self) -> usize {
        self.endings.iter().map(Ending::site_count).sum()
    }

    /// Whether the traced process, or the first of several, has ended.
    pub fn has_exited(&self) -> bool {
        self.endings.first().is_some_and(|ending| ending.reason == EndReason::TargetExited)
    }

    /// Names every stack and hands over all that is known of the window, and what writes it.
    pub fn into_capture(self) -> (Capture, Option<Recorder>) {
        let (capture, recorder, _) = self.into_capture_and_rest();
        (capture, recorder)
    }

    /// The same, and what is left of the first process for a trace of the next that runs the same code.
    pub fn into_capture_and_rest(self) -> (Capture, Option<Recorder>, Option<Prepared>) {
        let parts = self.endings.into_iter().map(Ending::into_capture_and_rest);
        let (parts, rests): (Vec<Capture>, Vec<Prepared>) = parts.unzip();
        let mut capture = capture::merge(parts);
        capture.ending.completeness.not_followed = self.not_followed;
        (capture, self.recorder, rests.into_iter().next())
    }
}
