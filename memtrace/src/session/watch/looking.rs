//! Readings: what a process or a group tells, as far as a condition asks for it.

use std::path::{Path, PathBuf};

use crate::{
    sys::{
        cgroup::GroupUsage,
        pressure::{self, OF_THE_MACHINE, Stalls},
        procfs::ProcFs,
    },
    trigger::{Condition, Metric, Reading},
};

/// Pressure is measured over at least this time.
const PRESSURE_NS: u64 = 1_000_000_000;

/// What conditions ask for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wants {
    pub(super) swap: bool,
    pub(super) faults: bool,
    pub(super) pressure: bool,
    pub(super) trapped: bool,
}

impl Wants {
    pub(super) fn of(conditions: &[Condition]) -> Self {
        let asks = |metric| conditions.iter().any(|condition| condition.metric == metric);
        Self {
            swap: asks(Metric::Swap),
            faults: asks(Metric::MajorFaults),
            pressure: asks(Metric::Pressure) || asks(Metric::FullPressure),
            trapped: asks(Metric::Trapped),
        }
    }
}

/// What two readings are needed for.
#[derive(Debug, Default)]
pub(super) struct Differences {
    faults: Option<(u64, u64)>,
    stalls: Option<(u64, Stalls)>,
    /// Of the last second, some and full.
    pressure: (Option<f64>, Option<f64>),
    /// What the kernel said since then that it was more than.
    announced: (Option<f64>, Option<f64>),
}

impl Differences {
    fn faults_per_second(&mut self, now_ns: u64, faults: Option<u64>) -> Option<f64> {
        let faults = faults?;
        let (before_ns, before) = self.faults.replace((now_ns, faults))?;
        let seconds = now_ns.checked_sub(before_ns).filter(|it| *it > 0)? as f64 / 1e9;
        Some(faults.saturating_sub(before) as f64 / seconds)
    }

    /// Takes a reading of the stalls. What the kernel said since the last one is of another second than what
    /// is measured now: the higher counts.
    fn press(&mut self, now_ns: u64, stalls: Stalls) {
        self.measure(now_ns, stalls);
        let (some, full) = std::mem::take(&mut self.announced);
        self.pressure = (raised(self.pressure.0, some), raised(self.pressure.1, full));
    }

    /// Within a second of the last reading, that still holds.
    fn measure(&mut self, now_ns: u64, stalls: Stalls) {
        let (before_ns, before) = *self.stalls.get_or_insert((now_ns, stalls));
        let span_ns = now_ns.saturating_sub(before_ns);
        if span_ns < PRESSURE_NS {
            return;
        }
        let share = |now: u64, then: u64| now.saturating_sub(then) as f64 * 1e3 / span_ns as f64;
        self.pressure = (
            Some(share(stalls.some_us, before.some_us)),
            Some(share(stalls.full_us, before.full_us)),
        );
        self.stalls = Some((now_ns, stalls));
    }

    /// The kernel says that tasks waited for more than this share of the last second.
    pub(super) fn announced(&mut self, some: Option<f64>, full: Option<f64>) {
        self.announced = (raised(self.announced.0, some), raised(self.announced.1, full));
    }
}

fn raised(known: Option<f64>, said: Option<f64>) -> Option<f64> {
    match (known, said) {
        (Some(known), Some(said)) => Some(known.max(said)),
        (known, said) => known.or(said),
    }
}

/// Where the pressure on a target is told.
pub(super) fn pressure_file(of_group: Option<PathBuf>) -> PathBuf {
    of_group.unwrap_or_else(|| PathBuf::from(OF_THE_MACHINE))
}

/// Of a process.
pub(super) fn of_process(
    proc: &ProcFs,
    pid: u32,
    wants: Wants,
    base: Reading,
    before: &mut Differences,
) -> Reading {
    let faults = if wants.faults { proc.major_faults(pid) } else { None };
    let swap_bytes = if wants.swap { proc.swap_bytes(pid) } else { None };
    let major_faults_per_second = before.faults_per_second(base.time_ns, faults);
    Reading { swap_bytes, major_faults_per_second, ..base }
}

/// Of a group whose memory is counted.
pub(super) fn of_group(usage: &GroupUsage, base: Reading, before: &mut Differences) -> Reading {
    Reading {
        rss_bytes: usage.working_set_bytes,
        room_bytes: usage.limit_bytes.or(base.room_bytes),
        swap_bytes: usage.swap_bytes,
        major_faults_per_second: before.faults_per_second(base.time_ns, usage.major_faults),
        ..base
    }
}

/// Adds the pressure.
pub(super) fn with_pressure(base: Reading, file: &Path, before: &mut Differences) -> Reading {
    match pressure::stalls(file) {
        Ok(stalls) => before.press(base.time_ns, stalls),
        Err(error) => log::debug!("{error}"),
    }
    let (pressure, full_pressure) = before.pressure;
    Reading { pressure, full_pressure, ..base }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn stalls(some_us: u64) -> Stalls {
        Stalls { some_us, full_us: some_us / 2 }
    }

    #[test]
    fn pressure_is_the_share_of_time_that_was_waited() {
        let mut before = Differences::default();
        before.press(SECOND, stalls(0));
        assert_eq!(before.pressure, (None, None));
        before.press(SECOND + SECOND / 2, stalls(400_000));
        assert_eq!(before.pressure, (None, None));
        before.press(3 * SECOND, stalls(500_000));
        assert_eq!(before.pressure, (Some(0.25), Some(0.125)));
        before.announced(Some(0.6), None);
        before.press(3 * SECOND + SECOND / 2, stalls(500_000));
        assert_eq!(before.pressure, (Some(0.6), Some(0.125)));
        before.announced(Some(0.7), None);
        before.press(4 * SECOND, stalls(600_000));
        assert_eq!(
            before.pressure,
            (Some(0.7), Some(0.05)),
            "a second is over, and it was said in it"
        );
        before.press(5 * SECOND, stalls(600_000));
        assert_eq!(before.pressure, (Some(0.0), Some(0.0)));
    }

    #[test]
    fn faults_are_counted_by_the_second() {
        let mut before = Differences::default();
        assert_eq!(before.faults_per_second(SECOND, Some(100)), None);
        assert_eq!(before.faults_per_second(3 * SECOND, Some(300)), Some(100.0));
        assert_eq!(before.faults_per_second(3 * SECOND, Some(400)), None);
    }
}
