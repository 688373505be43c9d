//! The time that a part spans.

use super::{SelectError, Selection};
use crate::capture::Capture;

/// A span of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// When it begins, since the window's start.
    pub since_ns: u64,
    /// When it ends, since the window's start.
    pub until_ns: u64,
    /// When the window was opened, `CLOCK_MONOTONIC`.
    pub opened_ns: u64,
    /// It begins later than the window.
    pub is_late: bool,
    /// It ends earlier than the window.
    pub is_early: bool,
}

impl Part {
    /// The selected one.
    pub fn of<E>(capture: &Capture, selection: &Selection) -> Result<Self, SelectError<E>> {
        let window_ns = window_ns(capture);
        let since_ns = selection.since_ns.unwrap_or(0);
        let until_ns = selection.until_ns.unwrap_or(window_ns).min(window_ns);
        if let Some(until_ns) = selection.until_ns.filter(|until| *until <= since_ns) {
            return Err(SelectError::Empty { since_ns, until_ns });
        }
        if since_ns > 0 && since_ns >= window_ns {
            return Err(SelectError::AfterTheEnd { since_ns, window_ns });
        }
        let (is_late, is_early) = (since_ns > 0, until_ns < window_ns);
        Ok(Self { since_ns, until_ns, opened_ns: capture.header.opened_ns, is_late, is_early })
    }

    /// The first moment, `CLOCK_MONOTONIC`.
    pub fn begin_ns(self) -> u64 {
        self.opened_ns.saturating_add(self.since_ns)
    }

    /// The last moment, `CLOCK_MONOTONIC`. Events that came out of the ring after the window was
    /// closed belong to its end.
    pub fn end_ns(self) -> u64 {
        if self.is_early { self.opened_ns.saturating_add(self.until_ns) } else { u64::MAX }
    }

    /// How long it is.
    pub fn duration_ns(self) -> u64 {
        self.until_ns - self.since_ns
    }
}

fn window_ns(capture: &Capture) -> u64 {
    let between = capture.ending.closed_ns.saturating_sub(capture.header.opened_ns);
    between.max(capture.ending.window.duration_ns)
}
