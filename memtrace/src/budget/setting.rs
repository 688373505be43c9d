//! How closely a target is looked at.

use std::fmt::{self, Display, Formatter};

use memtrace_common::sample::Interval;

use super::load::Load;
use crate::model::size::bytes;

/// When the probes are in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// All the time.
    Always,
    /// Those that see releases all the time, the others part of it: each block that is seen to be
    /// obtained is seen to be freed.
    AcquisitionsAtTimes,
    /// All of them part of the time: what is not freed while they are there may be freed unseen.
    AtTimes,
    /// Not any more.
    Never,
}

/// How closely a target is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Which blocks. Stacks are walked of these only.
    pub interval: Interval,
    /// When.
    pub presence: Presence,
}

/// What may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Any interval.
    Any,
    /// This one only; when the probes are there may still be chosen.
    Only(Interval),
}

/// The smallest interval that is worth it: below, hardly anything is not recorded.
const SMALLEST_EXPONENT: u8 = 10;
/// The largest, about 8 MiB: beyond, records cost nothing any more.
const LARGEST_EXPONENT: u8 = 23;

/// Releases may take this part of the budget when they are seen all the time. With more of it,
/// hardly anything would be left for what is obtained.
const MOST_FOR_RELEASES: f64 = 0.5;

impl Choice {
    /// The finest setting whose price is not above `most`.
    pub fn finest(self, load: &Load, most: f64) -> Setting {
        let fits = |interval: &Interval| load.price(*interval) <= most;
        if let Some(interval) = self.intervals().find(fits) {
            return Setting { interval, presence: Presence::Always };
        }
        let presence = match load.release_price() <= most * MOST_FOR_RELEASES {
            true => Presence::AcquisitionsAtTimes,
            false => Presence::AtTimes,
        };
        Setting { interval: self.balanced(load), presence }
    }

    /// Finest first.
    fn intervals(self) -> impl Iterator<Item = Interval> {
        let (only, any) = match self {
            Self::Only(interval) => (Some(interval), None),
            Self::Any => (None, Some(SMALLEST_EXPONENT..=LARGEST_EXPONENT)),
        };
        let exact = any.is_some().then_some(Interval::EXACT);
        let sampled = any.into_iter().flatten().map(Interval::from_exponent);
        only.into_iter().chain(exact).chain(sampled)
    }

    /// For probes that are not there all the time: the finest interval with which records cost no
    /// more than traps. A finer one would cost more time than it tells, a coarser one saves little.
    fn balanced(self, load: &Load) -> Interval {
        let traps = load.acquire_traps + load.release_traps;
        let is_balanced = |interval: &Interval| load.price(*interval) <= 2.0 * traps;
        self.intervals().find(is_balanced).unwrap_or_else(|| match self {
            Self::Only(interval) => interval,
            Self::Any => Interval::from_exponent(LARGEST_EXPONENT),
        })
    }
}

impl Setting {
    /// Everything, all the time.
    pub const EXACT: Self = Self { interval: Interval::EXACT, presence: Presence::Always };

    /// Coarser settings come later.
    pub fn coarseness(self) -> (Presence, u8) {
        (self.presence, self.interval.exponent())
    }

    /// Whether the probes come and go.
    pub fn is_at_times(self) -> bool {
        matches!(self.presence, Presence::AcquisitionsAtTimes | Presence::AtTimes)
    }
}

impl Display for Setting {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.presence == Presence::Never {
            return f.write_str("nothing");
        }
        match self.interval.is_exact() {
            true => f.write_str("every allocation")?,
            false => write!(f, "one allocation per {}", bytes(self.interval.mean_bytes()))?,
        }
        match self.presence {
            Presence::Always | Presence::Never => Ok(()),
            Presence::AcquisitionsAtTimes => f.write_str(", part of the time"),
            Presence::AtTimes => f.write_str(", in short bursts"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Load = Load {
        acquisitions: 1e-6,
        acquire_traps: 0.001,
        release_traps: 0.0005,
        records: 0.002,
        mean_bytes: 100.0,
    };

    fn times(load: &Load, traps: f64, records: f64) -> Load {
        Load {
            acquire_traps: load.acquire_traps * traps,
            release_traps: load.release_traps * traps,
            records: load.records * records,
            ..*load
        }
    }

    #[test]
    fn the_finest_that_fits_is_chosen() {
        let chosen =
            |traps, records| Choice::Any.finest(&times(&CHEAP, traps, records), 0.08).to_string();
        assert_eq!(chosen(1.0, 1.0), "every allocation");
        assert_eq!(chosen(10.0, 100.0), "one allocation per 1.0 KiB");
        assert_eq!(chosen(10.0, 1000.0), "one allocation per 4.0 KiB");
        assert_eq!(chosen(60.0, 1.0), "every allocation, part of the time");
        assert_eq!(chosen(60.0, 100.0), "one allocation per 1.0 KiB, part of the time");
        assert_eq!(chosen(100_000.0, 1.0), "every allocation, in short bursts");
    }

    #[test]
    fn an_interval_that_was_asked_for_is_kept_whatever_it_costs() {
        for interval in [Interval::EXACT, Interval::nearest(512 << 10)] {
            for traps in [1.0, 1000.0] {
                let load = times(&CHEAP, traps, traps);
                assert_eq!(Choice::Only(interval).finest(&load, 0.08).interval, interval);
            }
        }
    }
}
