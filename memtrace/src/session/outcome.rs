//! A finished trace of all its processes.

use super::{recorder::Recorder, window::Ending};
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
        let parts: Vec<Capture> = self.endings.into_iter().map(Ending::into_capture).collect();
        let mut capture = capture::merge(parts);
        capture.ending.completeness.not_followed = self.not_followed;
        (capture, self.recorder)
    }
}
