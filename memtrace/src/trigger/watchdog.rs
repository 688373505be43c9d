//! Decides on each reading whether a condition has been met for long enough.

use super::{Condition, Reading, Trend, time_to_limit_ns};

/// A condition that has been met for as long as it asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Firing {
    /// Which.
    pub condition: Condition,
    /// Since when, on the clock of the readings.
    pub since_ns: u64,
}

/// What a reading led to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Look {
    /// The first of the conditions that fires.
    pub firing: Option<Firing>,
    /// Growth in a second.
    pub bytes_per_second: Option<f64>,
    /// When the room will be used up at the present rate; `None` when that is not in sight.
    pub time_to_limit_ns: Option<u64>,
    /// The clock went backwards, or nothing was read for so long that nothing can be said of the
    /// time between.
    pub is_discontinuous: bool,
}

/// The conditions of one process or group, and what must be remembered for them. Any of them fires.
#[derive(Clone, Debug)]
pub struct Watchdog {
    conditions: Vec<(Condition, Option<u64>)>,
    longest_gap_ns: u64,
    trend: Trend,
    last_ns: Option<u64>,
}

impl Watchdog {
    /// Nothing is known of the time between readings that are further apart than `longest_gap_ns`.
    pub fn new(conditions: &[Condition], longest_gap_ns: u64) -> Self {
        Self {
            conditions: conditions.iter().map(|condition| (*condition, None)).collect(),
            longest_gap_ns,
            trend: Trend::default(),
            last_ns: None,
        }
    }

    /// Takes a reading.
    pub fn look(&mut self, reading: &Reading) -> Look {
        let is_discontinuous = self.is_discontinuous(reading.time_ns);
        if is_discontinuous {
            self.forget();
        }
        self.last_ns = Some(reading.time_ns);
        self.trend.push(reading.time_ns, reading.rss_bytes);
        let bytes_per_second = self.trend.bytes_per_second();
        let steepest = self.trend.steepest_bytes_per_second();
        Look {
            firing: self.firing(reading, bytes_per_second),
            bytes_per_second,
            time_to_limit_ns: reading
                .room_bytes
                .zip(steepest)
                .and_then(|(room, rate)| time_to_limit_ns(reading.rss_bytes, room, rate)),
            is_discontinuous,
        }
    }

    /// Forgets all readings: the process is another one.
    pub fn forget(&mut self) {
        self.trend.clear();
        self.conditions.iter_mut().for_each(|(_, since)| *since = None);
        self.last_ns = None;
    }

    fn is_discontinuous(&self, time_ns: u64) -> bool {
        self.last_ns.is_some_and(|last_ns| {
            time_ns.checked_sub(last_ns).is_none_or(|gap_ns| gap_ns > self.longest_gap_ns)
        })
    }

    /// All are evaluated, so that each knows since when it is met.
    fn firing(&mut self, reading: &Reading, bytes_per_second: Option<f64>) -> Option<Firing> {
        let mut first = None;
        for (condition, since) in &mut self.conditions {
            let is_met = condition.is_met(reading, bytes_per_second) == Some(true);
            *since = is_met.then(|| since.unwrap_or(reading.time_ns));
            let held = since.map(|since_ns| reading.time_ns - since_ns);
            if held.is_some_and(|held_ns| u128::from(held_ns) >= condition.hold.as_nanos()) {
                first = first.or(since.map(|since_ns| Firing { condition: *condition, since_ns }));
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn watchdog(conditions: &[&str]) -> Watchdog {
        let conditions: Vec<Condition> =
            conditions.iter().map(|text| text.parse().unwrap()).collect();
        Watchdog::new(&conditions, 5 * SECOND)
    }

    fn reading(seconds: u64, rss_bytes: u64) -> Reading {
        Reading {
            time_ns: seconds * SECOND,
            rss_bytes,
            room_bytes: Some(1000),
            ..Reading::default()
        }
    }

    #[test]
    fn any_of_several_conditions_fires() {
        let mut watchdog = watchdog(&["swap>1B", "rss>90%", "rss>500B"]);
        assert_eq!(watchdog.look(&reading(1, 400)).firing, None);
        let firing = watchdog.look(&reading(2, 600)).firing.unwrap();
        assert_eq!(firing.condition.to_string(), "rss>500B");
        assert_eq!(firing.since_ns, 2 * SECOND);
        assert_eq!(
            watchdog.look(&reading(3, 950)).firing.unwrap().condition.to_string(),
            "rss>90%"
        );
    }

    #[test]
    fn a_condition_fires_when_it_was_met_without_a_break_for_its_time() {
        let mut watchdog = watchdog(&["rss>500B for 3s"]);
        let fires: Vec<bool> = [600, 600, 600, 400, 600, 600, 600, 600]
            .into_iter()
            .zip(1..)
            .map(|(rss, second)| watchdog.look(&reading(second, rss)).firing.is_some())
            .collect();
        assert_eq!(fires, [false, false, false, false, false, false, false, true]);
    }

    #[test]
    fn a_clock_that_jumps_starts_all_anew() {
        for jump in [100, 1] {
            let mut watchdog = watchdog(&["rss>500B for 3s", "rate>1B/s"]);
            (5..8).for_each(|second| _ = watchdog.look(&reading(second, 600)));
            let after = watchdog.look(&reading(jump, 900));
            assert!(after.is_discontinuous);
            assert_eq!((after.firing, after.bytes_per_second), (None, None), "{jump}");
            assert!(!watchdog.look(&reading(jump + 1, 900)).is_discontinuous);
        }
    }

    #[test]
    fn the_time_to_the_limit_follows_the_growth() {
        let mut watchdog = watchdog(&["rss>90%"]);
        let looks: Vec<Look> =
            (0..6).map(|second| watchdog.look(&reading(second, 100 * second))).collect();
        assert_eq!(looks[0].time_to_limit_ns, None);
        assert_eq!(looks[5].time_to_limit_ns, Some(5 * SECOND));
    }

    #[test]
    fn growth_fires_when_it_is_faster_than_its_bound() {
        let mut watchdog = watchdog(&["rate>60KiB/min"]);
        assert_eq!(watchdog.look(&reading(0, 0)).firing, None);
        assert_eq!(watchdog.look(&reading(2, 2 << 10)).firing, None);
        assert!(watchdog.look(&reading(3, 4 << 10)).firing.is_some());
    }

    proptest! {
        #[test]
        fn nothing_fires_that_is_not_met_now(
            readings in prop::collection::vec((any::<u64>(), 0_u64..2000), 1..100),
            hold in 0_u64..20
        ) {
            let mut watchdog = watchdog(&[&format!("rss>1000B for {hold}s")]);
            for (time_ns, rss_bytes) in readings {
                let look = watchdog.look(&Reading { time_ns, rss_bytes, ..Reading::default() });
                prop_assert!(look.firing.is_none() || rss_bytes > 1000);
                if let Some(firing) = look.firing {
                    prop_assert!(time_ns - firing.since_ns >= hold * SECOND);
                }
            }
        }
    }
}
