//! The state of a watch as data: for its status lines, and for exporters of metrics.

use std::collections::BTreeMap;

use serde::Serialize;

/// A size that is sampled, and the highest it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gauge {
    /// At the last look.
    pub now_bytes: u64,
    /// Since the last status line; from the kernel's own marks where it has them.
    pub max_bytes: u64,
    /// Since the last look that was told.
    #[serde(skip)]
    pub reached_bytes: u64,
}

impl Gauge {
    /// A new value.
    pub fn set(&mut self, bytes: u64) {
        self.now_bytes = bytes;
        self.raise(bytes);
    }

    /// It was as high as this for a moment since the last look.
    pub fn raise(&mut self, bytes: u64) {
        self.max_bytes = self.max_bytes.max(bytes);
        self.reached_bytes = self.reached_bytes.max(bytes);
    }
}

/// Something that is watched: a control group or a process.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TargetStatus {
    /// The path of the group, or the name of the command.
    pub name: String,
    /// Of a process; `None` for a group.
    pub pid: Option<u32>,
    /// Processes in it.
    pub processes: u64,
    /// Memory that cannot be dropped, see [`crate::trigger::Metric::Rss`].
    pub rss: Gauge,
    /// Live bytes by the running trace.
    pub live: Option<Gauge>,
    /// In use in the heaps, when they were last walked.
    pub in_use: Option<Gauge>,
    /// Free and trapped.
    pub trapped: Option<Gauge>,
    /// Free and returnable.
    pub returnable: Option<Gauge>,
    /// Swapped out.
    pub swap_bytes: Option<u64>,
    /// The lowest limit.
    pub limit_bytes: Option<u64>,
    /// The highest memory ever charged to the group, or VmHWM of the process.
    pub peak_bytes: Option<u64>,
    /// Growth in a second.
    pub bytes_per_second: Option<f64>,
    /// When the limit will be reached at the present rate.
    pub time_to_limit_ns: Option<u64>,
    /// Kills for want of memory since the watch began.
    pub oom_kills: u64,
}

/// What memtrace itself takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OwnCost {
    /// CPU time of the whole process.
    pub cpu_ns: u64,
    /// Its RSS.
    pub rss_bytes: u64,
    /// The highest of that.
    pub peak_rss_bytes: u64,
}

/// All of a watch.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// RFC 3339, UTC.
    pub time: String,
    /// What is watched.
    pub targets: Vec<TargetStatus>,
    /// Conditions that were met, cool-downs included.
    pub firings: u64,
    /// Captures on disk that were written by this watch.
    pub captures_written: u64,
    /// Captures that could not be taken or written.
    pub captures_failed: u64,
    /// Captures that were removed to keep within `--keep` and `--max-disk`.
    pub captures_removed: u64,
    /// Processes killed for want of memory.
    pub oom_kills: u64,
    /// Times that the clock jumped or memtrace did not get to run.
    pub discontinuities: u64,
    /// Losses of the captures, by their stable names.
    pub losses: BTreeMap<String, u64>,
    /// What the watch takes.
    pub own: OwnCost,
}

impl TargetStatus {
    fn gauges(&mut self) -> impl Iterator<Item = &mut Gauge> {
        let walked = [&mut self.live, &mut self.in_use, &mut self.trapped, &mut self.returnable];
        walked.into_iter().flatten().chain([&mut self.rss])
    }

    /// A look was told: what is reached from now on belongs to the next one.
    pub fn look_told(&mut self) {
        self.gauges().for_each(|gauge| gauge.reached_bytes = gauge.now_bytes);
    }

    /// A status line was told: maxima are those from now on.
    pub fn status_told(&mut self) {
        self.gauges().for_each(|gauge| gauge.max_bytes = gauge.now_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_stays_until_it_was_told() {
        let mut target = TargetStatus::default();
        target.rss.set(5);
        target.rss.raise(9);
        target.rss.set(3);
        assert_eq!(target.rss, Gauge { now_bytes: 3, max_bytes: 9, reached_bytes: 9 });
        target.look_told();
        assert_eq!(target.rss, Gauge { now_bytes: 3, max_bytes: 9, reached_bytes: 3 });
        target.status_told();
        assert_eq!(target.rss, Gauge { now_bytes: 3, max_bytes: 3, reached_bytes: 3 });
    }
}
