//! Conditions as they are typed.

use std::{str::FromStr, time::Duration};

use thiserror::Error;

use super::{Bound, Condition, Metric};

/// All that can be typed, for messages and help.
pub const GRAMMAR: &str = "rss>80% (of the limit, or of the machine), rss>2GiB, rate>100MiB/min, \
                           psi>20, psi.full>5, swap>1GiB, trapped>500MiB, majfault>100/s; \
                           each with ` for 30s` if it has to last";

/// Why a condition is none.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ParseError {
    /// Nothing is compared.
    #[error("`{0}` has no `>`; conditions are: {GRAMMAR}")]
    NoComparison(String),
    /// Nobody measures that.
    #[error("`{0}` is not measured; conditions are: {GRAMMAR}")]
    UnknownMetric(String),
    /// The bound is none of this metric.
    #[error("`{found}` is no bound of {metric}: write {expected}")]
    BadBound {
        /// As typed.
        metric: &'static str,
        /// As typed.
        found: String,
        /// What it could be.
        expected: &'static str,
    },
    /// The time is none.
    #[error("`{0}` is no time: write ` for 30s` or ` for 5m`")]
    BadHold(String),
}

impl FromStr for Condition {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        let (comparison, hold) = match text.split_once(" for ") {
            Some((comparison, hold)) => (comparison, parse_hold(hold)?),
            None => (text, Duration::ZERO),
        };
        let (name, bound) =
            comparison.split_once('>').ok_or_else(|| ParseError::NoComparison(text.to_owned()))?;
        let metric = parse_metric(name.trim())?;
        let bound = parse_bound(metric, bound.trim()).ok_or_else(|| ParseError::BadBound {
            metric: metric.name(),
            found: bound.trim().to_owned(),
            expected: expected(metric),
        })?;
        Ok(Self { metric, bound, hold })
    }
}

fn parse_metric(name: &str) -> Result<Metric, ParseError> {
    let found = Metric::ALL.into_iter().find(|metric| metric.name() == name);
    let found = found.or_else(|| (name == "psi.some").then_some(Metric::Pressure));
    found.ok_or_else(|| ParseError::UnknownMetric(name.to_owned()))
}

fn parse_hold(text: &str) -> Result<Duration, ParseError> {
    let wrong = |_| ParseError::BadHold(text.trim().to_owned());
    humantime::parse_duration(text.trim()).map_err(wrong)
}

const fn expected(metric: Metric) -> &'static str {
    match metric {
        Metric::Rss => "a percentage from 0% to 100%, or a size like 2GiB",
        Metric::Rate => "a size in a time, like 100MiB/min, 1GiB/h or 5MiB/s",
        Metric::Pressure | Metric::FullPressure => {
            "the percentage of time that is waited for memory, like 20"
        }
        Metric::Swap | Metric::Trapped => "a size like 1GiB",
        Metric::MajorFaults => "a number in a second, like 100/s",
    }
}

fn parse_bound(metric: Metric, text: &str) -> Option<Bound> {
    match metric {
        Metric::Rss if text.ends_with('%') => parse_percent(text),
        Metric::Rss | Metric::Swap | Metric::Trapped => parse_bytes(text).map(Bound::Bytes),
        Metric::Rate => parse_rate(text),
        Metric::Pressure | Metric::FullPressure => parse_percent(text),
        Metric::MajorFaults => {
            parse_number(text.strip_suffix("/s").unwrap_or(text)).map(Bound::PerSecond)
        }
    }
}

fn parse_percent(text: &str) -> Option<Bound> {
    let percent = parse_number(text.strip_suffix('%').unwrap_or(text))?;
    (percent <= 100.0).then_some(Bound::Share(percent / 100.0))
}

fn parse_rate(text: &str) -> Option<Bound> {
    let (bytes, unit) = text.split_once('/')?;
    let seconds = match unit.trim() {
        "s" => 1.0,
        "min" | "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Some(Bound::BytesPerSecond(parse_bytes(bytes)? as f64 / seconds))
}

/// With a unit: `rss>80` is meant to be 80 %, and not 80 bytes.
fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let has_unit = text.ends_with(|last: char| last.is_ascii_alphabetic());
    parse_size::parse_size(text).ok().filter(|_| has_unit)
}

/// Neither negative, nor infinite, nor none.
fn parse_number(text: &str) -> Option<f64> {
    let number: f64 = text.trim().parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Condition {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_the_grammar_shows_can_be_typed() {
        let examples = GRAMMAR.split([',', ';']).map(|it| it.trim().split(" (").next().unwrap());
        let examples: Vec<&str> = examples.filter(|it| it.contains('>')).collect();
        assert_eq!(examples.len(), 8);
        for example in examples {
            assert_eq!(parsed(example).hold, Duration::ZERO, "{example}");
            let held = parsed(&format!("{example} for 30s"));
            assert_eq!(held.hold, Duration::from_secs(30), "{example}");
        }
    }

    #[test]
    fn bounds_are_what_was_typed() {
        let cases = [
            ("rss>80%", Metric::Rss, Bound::Share(0.8)),
            (" rss > 2GiB ", Metric::Rss, Bound::Bytes(2 << 30)),
            ("rate>1GiB/h", Metric::Rate, Bound::BytesPerSecond((1_u64 << 30) as f64 / 3600.0)),
            ("psi>20", Metric::Pressure, Bound::Share(0.2)),
            ("psi.some>20%", Metric::Pressure, Bound::Share(0.2)),
            ("psi.full>5", Metric::FullPressure, Bound::Share(0.05)),
            ("majfault>100/s", Metric::MajorFaults, Bound::PerSecond(100.0)),
        ];
        for (text, metric, bound) in cases {
            let condition = parsed(text);
            assert_eq!((condition.metric, condition.bound), (metric, bound), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        let cases = [
            ("rss", "no `>`"),
            ("rss<2GiB", "no `>`"),
            ("heap>1GiB", "`heap` is not measured"),
            ("rss>120%", "from 0% to 100%"),
            ("rss>much", "a size like 2GiB"),
            ("rss>80", "from 0% to 100%"),
            ("swap>500", "a size like 1GiB"),
            ("rate>100/min", "100MiB/min"),
            ("rate>100MiB", "100MiB/min"),
            ("rate>100MiB/day", "100MiB/min"),
            ("psi>101", "percentage of time"),
            ("psi>NaN", "percentage of time"),
            ("majfault>-1/s", "100/s"),
            ("rss>1GiB for ever", "for 30s"),
        ];
        for (text, words) in cases {
            let error = text.parse::<Condition>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    fn bounds() -> impl Strategy<Value = (Metric, Bound)> {
        let percent = || (0_u32..=1000).prop_map(|tenths| Bound::Share(f64::from(tenths) / 1000.0));
        let bytes = || any::<u64>().prop_map(Bound::Bytes);
        prop_oneof![
            percent().prop_map(|bound| (Metric::Rss, bound)),
            percent().prop_map(|bound| (Metric::FullPressure, bound)),
            bytes().prop_map(|bound| (Metric::Rss, bound)),
            bytes().prop_map(|bound| (Metric::Trapped, bound)),
            (0_u64..1 << 40).prop_map(|a_minute| {
                (Metric::Rate, Bound::BytesPerSecond(a_minute as f64 / 60.0))
            }),
            (0_u32..1000).prop_map(|n| (Metric::MajorFaults, Bound::PerSecond(n.into()))),
        ]
    }

    proptest! {
        #[test]
        fn a_condition_reads_what_it_writes(
            (metric, bound) in bounds(), seconds in 0_u64..1_000_000
        ) {
            let condition = Condition { metric, bound, hold: Duration::from_secs(seconds) };
            let again = parsed(&condition.to_string());
            prop_assert_eq!(again.metric, metric);
            prop_assert_eq!(again.hold, condition.hold);
            prop_assert_eq!(again.to_string(), condition.to_string());
        }

        #[test]
        fn no_text_is_more_than_an_error(text in ".{0,40}") {
            let _ = text.parse::<Condition>();
        }
    }
}
