//! A condition: what is measured, the bound that it must exceed, and for how long.

use std::{fmt, time::Duration};

use super::Reading;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Memory that cannot be dropped: VmRSS of a process; of a control group what it uses without
    /// inactive files (the working set of container platforms).
    Rss,
    /// How fast that grows.
    Rate,
    /// Share of the time in which some task waited for memory (Documentation/accounting/psi.rst).
    Pressure,
    /// Share of the time in which all tasks did.
    FullPressure,
    /// What is swapped out.
    Swap,
    /// What malloc holds free and cannot give back.
    Trapped,
    /// Faults that waited for the disk.
    MajorFaults,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 7] = [
        Self::Rss,
        Self::Rate,
        Self::Pressure,
        Self::FullPressure,
        Self::Swap,
        Self::Trapped,
        Self::MajorFaults,
    ];

    /// As it is typed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rss => "rss",
            Self::Rate => "rate",
            Self::Pressure => "psi",
            Self::FullPressure => "psi.full",
            Self::Swap => "swap",
            Self::Trapped => "trapped",
            Self::MajorFaults => "majfault",
        }
    }
}

/// What a measured value must exceed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// So many bytes.
    Bytes(u64),
    /// A share of the limit, or of the time; 0.8 for 80 %.
    Share(f64),
    /// Bytes in a second.
    BytesPerSecond(f64),
    /// So many in a second.
    PerSecond(f64),
}

/// `rss>80% for 30s`, see [`super::GRAMMAR`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Condition {
    /// What is measured.
    pub metric: Metric,
    /// What it must exceed.
    pub bound: Bound,
    /// For how long without a break; zero for at once.
    pub hold: Duration,
}

impl Condition {
    /// Whether a reading exceeds the bound; `None` where the reading does not tell. The growth comes
    /// from more than one reading.
    pub fn is_met(&self, reading: &Reading, bytes_per_second: Option<f64>) -> Option<bool> {
        match (self.metric, self.bound) {
            (Metric::Rss, Bound::Share(share)) => {
                Some(reading.rss_bytes as f64 > share * reading.room_bytes? as f64)
            }
            (Metric::Rate, Bound::BytesPerSecond(bound)) => Some(bytes_per_second? > bound),
            (Metric::Pressure, Bound::Share(share)) => Some(reading.pressure? > share),
            (Metric::FullPressure, Bound::Share(share)) => Some(reading.full_pressure? > share),
            (Metric::MajorFaults, Bound::PerSecond(bound)) => {
                Some(reading.major_faults_per_second? > bound)
            }
            (_, Bound::Bytes(bytes)) => Some(self.bytes(reading)? > bytes),
            _ => None,
        }
    }

    fn bytes(&self, reading: &Reading) -> Option<u64> {
        match self.metric {
            Metric::Rss => Some(reading.rss_bytes),
            Metric::Swap => reading.swap_bytes,
            Metric::Trapped => reading.trapped_bytes,
            _ => None,
        }
    }
}

/// In a form that can be typed again.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}>{}", self.metric.name(), self.bound)?;
        if self.hold.is_zero() {
            return Ok(());
        }
        write!(f, " for {}", humantime::format_duration(self.hold))
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{}", Size(*bytes)),
            Self::Share(share) => write!(f, "{}%", rounded(share * 100.0)),
            Self::BytesPerSecond(rate) => {
                let a_minute = (rate * 60.0).round() as u64;
                write!(f, "{}/min", Size(a_minute))
            }
            Self::PerSecond(rate) => write!(f, "{rate}/s"),
        }
    }
}

/// What multiplication left of a number that was typed.
fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

/// A size without loss: in the largest unit of which it is a multiple.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        let fits = |(shift, _): &(u32, _)| self.0 > 0 && self.0.is_multiple_of(1 << shift);
        match units.into_iter().find(fits) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(metric: Metric, bound: Bound) -> Condition {
        Condition { metric, bound, hold: Duration::ZERO }
    }

    #[test]
    fn a_share_is_one_of_the_room_that_there_is() {
        let condition = condition(Metric::Rss, Bound::Share(0.8));
        let reading =
            |rss_bytes, room_bytes| Reading { rss_bytes, room_bytes, ..Reading::default() };
        assert_eq!(condition.is_met(&reading(80, Some(100)), None), Some(false));
        assert_eq!(condition.is_met(&reading(81, Some(100)), None), Some(true));
        assert_eq!(condition.is_met(&reading(81, None), None), None);
    }

    #[test]
    fn what_is_not_known_meets_nothing() {
        let unknown = Reading::default();
        for metric in Metric::ALL.into_iter().filter(|it| *it != Metric::Rss) {
            for bound in [Bound::Bytes(0), Bound::Share(0.0), Bound::BytesPerSecond(0.0)] {
                assert_eq!(condition(metric, bound).is_met(&unknown, None), None, "{metric:?}");
            }
        }
    }

    #[test]
    fn growth_and_pressure_are_compared_with_their_own_bounds() {
        let rate = condition(Metric::Rate, Bound::BytesPerSecond(10.0));
        assert_eq!(rate.is_met(&Reading::default(), Some(11.0)), Some(true));
        let full = condition(Metric::FullPressure, Bound::Share(0.05));
        let reading =
            Reading { pressure: Some(1.0), full_pressure: Some(0.04), ..Reading::default() };
        assert_eq!(full.is_met(&reading, None), Some(false));
    }

    #[test]
    fn conditions_are_written_as_they_are_typed() {
        let condition = Condition {
            metric: Metric::Rate,
            bound: Bound::BytesPerSecond(f64::from(100 << 20) / 60.0),
            hold: Duration::from_secs(30),
        };
        assert_eq!(condition.to_string(), "rate>100MiB/min for 30s");
    }
}
