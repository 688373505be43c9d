//! When to make ready what a capture takes: before anything fires, and anew when the process that would
//! be traced is another one or runs more code than before.

/// Another process is made ready for after this time at the earliest, while the former is still there:
/// where two take turns in being the largest, not at each turn.
const OTHER_NS: u64 = 60_000_000_000;
/// Code that was loaded since is looked for this often at most.
const GROWN_NS: u64 = 2_000_000_000;
/// Loading code takes memory: there is none where the process has grown by less.
const GROWN_BYTES: u64 = 4 << 20;
/// Or by a smaller share of what it had.
const GROWN_SHARE: u64 = 16;
/// It is not tried again before.
const FAILED_NS: u64 = 10_000_000_000;

/// What is ready, or in the making.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    last: Option<Last>,
    is_in_the_making: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    pid: u32,
    rss_bytes: u64,
    begun_ns: u64,
    has_failed: bool,
}

impl Readiness {
    /// The process that it was made ready for last.
    pub fn of(&self) -> Option<u32> {
        self.last.map(|last| last.pid)
    }

    /// Whether a capture of this process, which is so large now, is to be made ready; and whether the one
    /// of the last time is still there.
    pub fn is_due(&self, pid: u32, rss_bytes: u64, now_ns: u64, former_is_there: bool) -> bool {
        let Some(last) = self.last.filter(|_| !self.is_in_the_making) else {
            return !self.is_in_the_making;
        };
        let past_ns = now_ns.saturating_sub(last.begun_ns);
        let grown = GROWN_BYTES.max(last.rss_bytes / GROWN_SHARE);
        match () {
            () if last.has_failed => past_ns >= FAILED_NS,
            () if last.pid != pid && former_is_there => past_ns >= OTHER_NS,
            () if last.pid != pid => past_ns >= GROWN_NS,
            () => past_ns >= GROWN_NS && rss_bytes >= last.rss_bytes.saturating_add(grown),
        }
    }

    /// Whether it is being made.
    pub fn is_in_the_making(&self) -> bool {
        self.is_in_the_making
    }

    /// Making it begins.
    pub fn begin(&mut self, pid: u32, rss_bytes: u64, now_ns: u64) {
        self.last = Some(Last { pid, rss_bytes, begun_ns: now_ns, has_failed: false });
        self.is_in_the_making = true;
    }

    /// It is made, or cannot be.
    pub fn end(&mut self, is_ready: bool) {
        self.is_in_the_making = false;
        if let Some(last) = &mut self.last {
            last.has_failed = !is_ready;
        }
    }

    /// A capture has taken it.
    pub fn spend(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const MIB: u64 = 1 << 20;

    fn ready(pid: u32, rss_bytes: u64) -> Readiness {
        let mut readiness = Readiness::default();
        readiness.begin(pid, rss_bytes, 0);
        readiness.end(true);
        readiness
    }

    #[test]
    fn the_first_process_is_made_ready_for_at_once_and_by_one_thread() {
        let mut readiness = Readiness::default();
        assert!(readiness.is_due(1, MIB, 0, false));
        readiness.begin(1, MIB, 0);
        assert!(!readiness.is_due(2, MIB, 100 * SECOND, false));
    }

    #[test]
    fn a_process_that_stays_as_it_is_is_left_alone() {
        assert!(!ready(1, 30 * MIB).is_due(1, 33 * MIB, 1000 * SECOND, true));
    }

    #[test]
    fn one_that_has_loaded_something_is_looked_at_again_and_not_too_often() {
        assert!(!ready(1, 10 * MIB).is_due(1, 90 * MIB, SECOND, true));
        assert!(ready(1, 10 * MIB).is_due(1, 90 * MIB, 2 * SECOND, true));
        assert!(!ready(1, 1000 * MIB).is_due(1, 1050 * MIB, 2 * SECOND, true));
    }

    #[test]
    fn another_process_has_to_stay_the_largest() {
        assert!(!ready(1, MIB).is_due(2, MIB, 59 * SECOND, true));
        assert!(ready(1, MIB).is_due(2, MIB, 60 * SECOND, true));
    }

    #[test]
    fn one_that_comes_for_one_that_has_gone_is_made_ready_for_soon() {
        assert!(!ready(1, MIB).is_due(2, MIB, SECOND, false));
        assert!(ready(1, MIB).is_due(2, MIB, 2 * SECOND, false));
    }

    #[test]
    fn what_failed_is_tried_again_and_what_was_used_is_replaced() {
        let mut readiness = ready(1, MIB);
        readiness.end(false);
        assert!(!readiness.is_due(2, 90 * MIB, 9 * SECOND, false));
        assert!(readiness.is_due(2, 90 * MIB, 10 * SECOND, false));
        readiness.spend();
        assert!(readiness.is_due(1, MIB, 0, true));
    }
}
