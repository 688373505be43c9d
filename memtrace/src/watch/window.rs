//! How long a capture may take, so that it is on disk before the limit is reached.

use std::time::Duration;

/// What attaching took, and what ending and writing took, the last time; before the first time a
/// guess for a loaded machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overheads {
    /// Until the window was open.
    pub attach: Duration,
    /// From the end of the window to the written file.
    pub finish: Duration,
}

impl Default for Overheads {
    fn default() -> Self {
        Self { attach: Duration::from_millis(800), finish: Duration::from_millis(1200) }
    }
}

/// Shorter windows say too little to be worth it; it is taken all the same, and written in time if
/// growth allows.
pub const SHORTEST: Duration = Duration::from_millis(300);

/// The share of the time that is left which is used: growth is rarely steady.
const MARGIN: f64 = 0.6;

/// The length of the window: what was asked for, or less if the limit would be reached before the
/// capture is written.
pub fn window(asked: Duration, left: Option<Duration>, overheads: Overheads) -> Duration {
    let Some(left) = left else { return asked };
    let usable = left.mul_f64(MARGIN).saturating_sub(overheads.attach + overheads.finish);
    asked.min(usable.max(SHORTEST))
}

/// How long after the firing the window may end at the latest, however long attaching takes: what is
/// left then is for writing. `None` where no limit comes near.
pub fn latest_end(left: Option<Duration>, overheads: Overheads) -> Option<Duration> {
    left.map(|left| left.mul_f64(MARGIN).saturating_sub(overheads.finish))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVERHEADS: Overheads =
        Overheads { attach: Duration::from_secs(1), finish: Duration::from_secs(1) };

    fn seconds(asked: u64, left: Option<u64>) -> f64 {
        let left = left.map(Duration::from_secs);
        window(Duration::from_secs(asked), left, OVERHEADS).as_secs_f64()
    }

    #[test]
    fn the_window_shrinks_with_the_time_that_is_left() {
        assert_eq!(seconds(20, None), 20.0);
        assert_eq!(seconds(20, Some(100)), 20.0);
        assert_eq!(seconds(20, Some(20)), 10.0);
        assert_eq!(seconds(20, Some(1)), SHORTEST.as_secs_f64());
    }

    #[test]
    fn an_attach_that_takes_long_leaves_time_to_write() {
        let seconds = |left| latest_end(Some(Duration::from_secs(left)), OVERHEADS);
        assert_eq!(latest_end(None, OVERHEADS), None);
        assert_eq!(seconds(20), Some(Duration::from_secs(11)));
        assert_eq!(seconds(1), Some(Duration::ZERO));
    }
}
