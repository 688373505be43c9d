//! What a target asks of its allocator, and what tracing that would cost it.

use memtrace_common::sample::Interval;

/// A trap in a target that does nothing else, over what was measured in such a loop.
const WARM: f64 = 1.1;
/// The same with cold caches. A trap after a megabyte of other memory was looked at took 1.7 times as
/// long as one in a loop, and after four megabytes three times.
const COLD: f64 = 2.2;
/// Between calls that are so far apart, the target's own work leaves half of the caches.
const COOLING_NS: f64 = 2000.0;

/// What was counted while the probes were armed and the window open; sums that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Activity {
    /// Calls that obtain memory, or may: each has an entry and a return.
    pub acquisitions: u64,
    /// Bytes that they asked for, as far as they are known.
    pub requested_bytes: u64,
    /// Calls that only release.
    pub releases: u64,
    /// What the traps of the former cost the target: calls by the price of their sites.
    pub acquire_trap_ns: f64,
    /// What those of the latter cost.
    pub release_trap_ns: f64,
    /// Acquisitions that were recorded, with a stack.
    pub recorded: u64,
    /// What that cost besides the traps.
    pub record_ns: f64,
    /// Instructions that the target executed for probes.
    pub added_instructions: f64,
}

impl Activity {
    /// What came after an earlier count.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            acquisitions: self.acquisitions.saturating_sub(earlier.acquisitions),
            requested_bytes: self.requested_bytes.saturating_sub(earlier.requested_bytes),
            releases: self.releases.saturating_sub(earlier.releases),
            acquire_trap_ns: (self.acquire_trap_ns - earlier.acquire_trap_ns).max(0.0),
            release_trap_ns: (self.release_trap_ns - earlier.release_trap_ns).max(0.0),
            recorded: self.recorded.saturating_sub(earlier.recorded),
            record_ns: (self.record_ns - earlier.record_ns).max(0.0),
            added_instructions: (self.added_instructions - earlier.added_instructions).max(0.0),
        }
    }

    /// The same with traps as dear as they are in a target that used so much CPU time meanwhile: the
    /// more it does between them, the less of the kernel's way through a trap is left in its caches.
    pub fn chilled(self, cpu_ns: f64) -> Self {
        let own_ns = (cpu_ns - self.added_ns() * WARM).max(0.0);
        let calls = (self.acquisitions + self.releases) as f64;
        let gap_ns = own_ns / calls.max(1.0);
        let factor = WARM + (COLD - WARM) * gap_ns / (gap_ns + COOLING_NS);
        Self {
            acquire_trap_ns: self.acquire_trap_ns * factor,
            release_trap_ns: self.release_trap_ns * factor,
            ..self
        }
    }

    /// What all of it cost the target, in nanoseconds of CPU time.
    pub fn added_ns(&self) -> f64 {
        self.acquire_trap_ns + self.release_trap_ns + self.record_ns
    }
}

/// A target's calls and their price, both for a nanosecond of CPU time of its own. Prices are
/// therefore shares: 0.5 makes it one and a half times as slow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Calls that obtain memory.
    pub acquisitions: f64,
    /// Price of their traps.
    pub acquire_traps: f64,
    /// Price of the traps of calls that only release.
    pub release_traps: f64,
    /// Price of recording all that is obtained, with its stack.
    pub records: f64,
    /// Mean size of a block.
    pub mean_bytes: f64,
}

/// At least so much of the target's time is its own, by assumption: counted costs are approximate,
/// and may be more than the time that there was.
const LEAST_OWN_SHARE: f64 = 0.004;

/// What is known of the price of a record counts as much as so many that are measured.
const BELIEVED: f64 = 16.0;

impl Load {
    /// The price of one record with its stack, in nanoseconds; `None` where nothing is obtained.
    pub fn record_ns(&self) -> Option<f64> {
        (self.acquisitions > 0.0).then(|| self.records / self.acquisitions)
    }

    /// From a count, and the CPU time that the target used meanwhile, tracing included. `record_ns`
    /// is the price of one record as far as it is known.
    pub fn of(activity: &Activity, cpu_ns: f64, record_ns: f64) -> Self {
        let own_ns = (cpu_ns - activity.added_ns()).max(cpu_ns * LEAST_OWN_SHARE).max(1.0);
        let recorded = activity.recorded as f64;
        let each = (record_ns * BELIEVED + activity.record_ns) / (BELIEVED + recorded);
        let acquisitions = activity.acquisitions as f64;
        Self {
            acquisitions: acquisitions / own_ns,
            acquire_traps: activity.acquire_trap_ns / own_ns,
            release_traps: activity.release_trap_ns / own_ns,
            records: acquisitions * each / own_ns,
            mean_bytes: activity.requested_bytes as f64 / acquisitions.max(1.0),
        }
    }

    /// Goes a part of the way to a newer load.
    pub fn approach(&mut self, newer: &Self, share: f64) {
        let toward = |old: f64, new: f64| old + (new - old) * share;
        *self = Self {
            acquisitions: toward(self.acquisitions, newer.acquisitions),
            acquire_traps: toward(self.acquire_traps, newer.acquire_traps),
            release_traps: toward(self.release_traps, newer.release_traps),
            records: toward(self.records, newer.records),
            mean_bytes: toward(self.mean_bytes, newer.mean_bytes),
        };
    }

    /// What it is likely to be when only releases were counted: what is freed was obtained.
    pub fn with_releases(&self, release_traps: f64) -> Self {
        if self.release_traps <= 0.0 {
            return Self { release_traps, ..*self };
        }
        let ratio = release_traps / self.release_traps;
        Self {
            acquisitions: self.acquisitions * ratio,
            acquire_traps: self.acquire_traps * ratio,
            release_traps,
            records: self.records * ratio,
            ..*self
        }
    }

    /// The price of having all probes armed, with samples at this distance.
    pub fn price(&self, interval: Interval) -> f64 {
        self.acquire_traps + self.release_traps + self.records * self.recorded_share(interval)
    }

    /// The price of having only those armed that see releases.
    pub fn release_price(&self) -> f64 {
        self.release_traps
    }

    /// The share of acquisitions that are samples. From the mean, so not less than it is: a larger
    /// block is a sample less often than its size says.
    fn recorded_share(&self, interval: Interval) -> f64 {
        if interval.is_exact() {
            return 1.0;
        }
        (self.mean_bytes.max(1.0) / interval.mean_bytes() as f64).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_what_the_target_loses_for_each_of_its_own_nanoseconds() {
        let activity = Activity {
            acquisitions: 1000,
            requested_bytes: 100_000,
            releases: 1000,
            acquire_trap_ns: 600_000.0,
            release_trap_ns: 400_000.0,
            recorded: 1000,
            record_ns: 1_000_000.0,
            added_instructions: 0.0,
        };
        let load = Load::of(&activity, 4_000_000.0, 1000.0);
        assert_eq!(load.price(Interval::EXACT), 1.0);
        assert_eq!(load.release_price(), 0.2);
        let sampled = load.price(Interval::nearest(1 << 20));
        assert!((0.5..0.501).contains(&sampled), "{sampled}");
        assert_eq!(load.mean_bytes, 100.0);
    }

    #[test]
    fn a_trap_costs_more_where_the_target_does_much_between_traps() {
        let activity = Activity {
            acquisitions: 1000,
            acquire_trap_ns: 500_000.0,
            record_ns: 7.0,
            ..Activity::default()
        };
        let factor = |own_ns: f64| {
            let chilled = activity.chilled(500_000.0 + own_ns);
            assert_eq!(chilled.record_ns, 7.0, "it was measured in the target");
            chilled.acquire_trap_ns / activity.acquire_trap_ns
        };
        assert!(factor(0.0) < 1.2, "{}", factor(0.0));
        assert!((1.5..1.8).contains(&factor(2e6)), "{}", factor(2e6));
        assert!((2.1..=COLD).contains(&factor(1e9)), "{}", factor(1e9));
        assert_eq!(Activity::default().chilled(1e6), Activity::default());
    }

    #[test]
    fn what_records_cost_is_learnt_from_many_and_not_from_one() {
        let of = |recorded: u64| {
            let record_ns = recorded as f64 * 9000.0;
            let activity =
                Activity { acquisitions: 1000, recorded, record_ns, ..Activity::default() };
            Load::of(&activity, 1e9, 1000.0).record_ns().expect("some are obtained")
        };
        assert!((1000.0..1500.0).contains(&of(1)), "{}", of(1));
        assert!(of(1000) > 8800.0, "{}", of(1000));
    }

    #[test]
    fn counted_costs_beyond_the_time_there_was_give_a_large_price_and_no_nonsense() {
        let activity =
            Activity { releases: 1, release_trap_ns: 5_000_000.0, ..Activity::default() };
        let price = Load::of(&activity, 1_000_000.0, 0.0).price(Interval::EXACT);
        assert!(price.is_finite() && price > 100.0, "{price}");
        let nothing = Load::of(&Activity::default(), 0.0, 300.0);
        assert_eq!(nothing.price(Interval::EXACT), 0.0);
    }
}
