//! Calls are counted before the window opens, while memtrace measures on itself what a hit costs.

use std::time::{Duration, Instant};

use memtrace_common::{loss::KernelCounters, sample::Interval};

use super::{
    attach::AttachError,
    governing::Place,
    prices::{Prices, RECORD_NS},
};
use crate::{
    budget::{Load, Reading},
    model::cost::ProbeCosts,
    probe::calibrate::{Calibration, Calibrator},
    sys::clock,
};

/// How long calls are counted before the window opens.
const COUNT: Duration = Duration::from_millis(200);
/// How often it is looked whether that is enough.
const COUNT_STEP: Duration = Duration::from_millis(5);
/// After this, little is enough: a target that hardly allocates.
const LEAST_COUNT: Duration = Duration::from_millis(100);
/// A count this large is exact to a percent.
const ENOUGH_CALLS: u64 = 20_000;
/// The count itself may not take more of the target's time.
const MOST_COUNT_NS: f64 = 10e6;
/// An overhead that nobody would notice: then there is nothing to choose.
const NOTHING: f64 = 0.005;
/// How long is waited for the calibration, which takes some 50 ms, most of which the kernel waits.
const CALIBRATION: Duration = Duration::from_millis(500);
/// The waiting of more threads than these is not asked for at each look: it takes 10 us for each.
const MOST_WAITING: usize = 8;

/// What was counted, at which prices.
pub(super) struct Counted {
    pub(super) first: Reading,
    pub(super) last: Reading,
    pub(super) probes: ProbeCosts,
}

/// Counts until it is enough. All probes are armed, and nothing is drawn.
pub(super) fn count(place: &Place<'_>) -> Result<Counted, AttachError> {
    let first = Snapshot::take(place)?;
    let mut costs = Costs::measure(place);
    let begun = Instant::now();
    loop {
        std::thread::sleep(COUNT_STEP);
        let now = Snapshot::take(place)?;
        let Some(probes) = costs.look() else { continue };
        let prices = place.prices(&probes);
        let (first, last) = (first.reading(&prices), now.reading(&prices));
        if is_enough(&first, &last, begun.elapsed()) {
            return Ok(Counted { first, last, probes });
        }
    }
}

/// What a hit costs, where calls are not counted.
pub(super) fn calibrate(place: &Place<'_>) -> ProbeCosts {
    let mut costs = Costs::measure(place);
    loop {
        if let Some(probes) = costs.look() {
            return probes;
        }
        std::thread::sleep(COUNT_STEP);
    }
}

/// What was counted at a moment, before it has a price.
struct Snapshot {
    at: Reading,
    counters: KernelCounters,
}

impl Snapshot {
    fn take(place: &Place<'_>) -> Result<Self, AttachError> {
        let counters = place.kernel.counters()?;
        let at = Reading {
            at_ns: clock::monotonic_ns(),
            // A process that has ended uses no more.
            cpu_ns: clock::process_cpu_ns(place.pid).unwrap_or_default(),
            own_cpu_ns: clock::process_cpu_ns(std::process::id()).unwrap_or_default(),
            waited_ns: clock::process_waited_ns(place.pid, MOST_WAITING),
            ..Reading::default()
        };
        Ok(Self { at, counters })
    }

    fn reading(&self, prices: &Prices) -> Reading {
        Reading { activity: prices.activity(&self.counters), ..self.at }
    }
}

/// What is counted by now.
pub(super) fn reading(place: &Place<'_>, prices: &Prices) -> Result<Reading, AttachError> {
    Snapshot::take(place).map(|snapshot| snapshot.reading(prices))
}

/// What hits cost, or will be known to.
enum Costs {
    Measured(Calibration, Instant),
    Known(ProbeCosts),
}

impl Costs {
    fn measure(place: &Place<'_>) -> Self {
        match place.kernel.calibrator().map(Calibrator::start) {
            Some(calibration) => Self::Measured(calibration, Instant::now()),
            None => Self::Known(ProbeCosts::default()),
        }
    }

    /// `None` as long as they are measured, which ends when it takes too long.
    fn look(&mut self) -> Option<ProbeCosts> {
        let known = match self {
            Self::Known(known) => *known,
            Self::Measured(calibration, begun) => match calibration.look() {
                None if begun.elapsed() < CALIBRATION => return None,
                None => ProbeCosts::default(),
                Some(measured) => measured.unwrap_or_else(|error| {
                    log::info!("the cost of a probe is not measured: {error}");
                    ProbeCosts::default()
                }),
            },
        };
        *self = Self::Known(known);
        Some(known)
    }
}

fn is_enough(first: &Reading, now: &Reading, elapsed: Duration) -> bool {
    let cpu_ns = now.used_since_ns(first);
    let activity = now.activity.since(&first.activity).chilled(cpu_ns);
    let calls = activity.acquisitions + activity.releases;
    let price = || Load::of(&activity, cpu_ns, RECORD_NS).price(Interval::EXACT);
    elapsed >= COUNT
        || calls >= ENOUGH_CALLS
        || activity.added_ns() >= MOST_COUNT_NS
        || elapsed >= LEAST_COUNT && price() < NOTHING
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Activity;

    fn after(milliseconds: u64, calls: u64) -> bool {
        let activity = Activity {
            acquisitions: calls,
            acquire_trap_ns: calls as f64 * 500.0,
            ..Activity::default()
        };
        let at_ns = milliseconds * 1_000_000;
        let now = Reading { at_ns, cpu_ns: at_ns, activity, ..Reading::default() };
        is_enough(&Reading::default(), &now, Duration::from_millis(milliseconds))
    }

    #[test]
    fn a_count_ends_early_where_the_rate_is_certain_and_only_there() {
        assert!(!after(50, 0), "it may be between two bursts of work");
        assert!(after(100, 10), "it hardly allocates");
        assert!(!after(100, 5000), "a rate that is to be known");
        assert!(after(200, 5000));
        assert!(after(5, ENOUGH_CALLS), "a tight loop pays for each");
    }
}
