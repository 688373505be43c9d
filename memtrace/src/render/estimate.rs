//! Estimates in words: marked with `~`, and with their 95 % interval where there is room.

use crate::{
    diff::Change,
    model::{
        coverage::{Family, WorkBy},
        estimate::Bounds,
        site::Amount,
        size::{self, Units, count, duration_ns},
    },
    report::{Covered, Report, Sampling},
};

use super::label::plural;

/// The longer side of an interval may be so many times the shorter one, to be written with `±`.
const SYMMETRIC: f64 = 1.25;

/// Before a number that is an estimate.
pub(super) fn mark(amount: Amount) -> &'static str {
    if amount.is_exact() { "" } else { "~ " }
}

/// `120.0 MiB`, or `~ 120.0 MiB`.
pub(super) fn bytes(amount: Amount, units: Units) -> String {
    format!("{}{}", mark(amount), units.bytes(amount.bytes))
}

/// `1,234`, or `~ 1,234`.
pub(super) fn blocks_count(amount: Amount) -> String {
    format!("{}{}", mark(amount), count(amount.count))
}

/// `120.0 MiB`, or `~ 120.0 MiB ± 8.0 MiB (95 %)`, or `~ 1.5 MiB (95 %: 512.0 KiB to 4.0 MiB)`.
pub(super) fn bytes_and_error(amount: Amount, units: Units) -> String {
    match error(amount, units) {
        None => bytes(amount, units),
        Some(error) => format!("{} {error}", bytes(amount, units)),
    }
}

/// `+120.0 MiB`, or `~ +120.0 MiB ± 8.0 MiB (95 %)`.
pub(super) fn grown(amount: Amount, units: Units) -> String {
    let bytes = format!("{}+{}", mark(amount), units.bytes(amount.bytes));
    error(amount, units).map_or(bytes.clone(), |error| format!("{bytes} {error}"))
}

/// `120.0 MiB in 3 blocks`, with the interval of the bytes where they are an estimate.
pub(super) fn blocks(amount: Amount, units: Units) -> String {
    let blocks = blocks_count(amount);
    format!("{} in {blocks} block{}", bytes_and_error(amount, units), plural(amount.count))
}

/// `12 MiB by 34 blocks`: free memory, and the blocks that keep it.
pub(super) fn trapped(amount: Amount, units: Units) -> String {
    format!(
        "{} by {} block{}",
        units.bytes(amount.bytes),
        count(amount.count),
        plural(amount.count)
    )
}

/// How far the bytes can be off; `None` where they are no estimate.
fn error(amount: Amount, units: Units) -> Option<String> {
    (!amount.is_exact()).then(|| {
        let Bounds { low, high } = amount.bytes_bounds();
        let below = amount.bytes.saturating_sub(low);
        let above = high.saturating_sub(amount.bytes);
        match above as f64 <= SYMMETRIC * below as f64 {
            true => format!("± {} (95 %)", units.bytes(above)),
            false => format!("(95 %: {} to {})", units.bytes(low), units.bytes(high)),
        }
    })
}

/// How far a difference can be off: the errors of both sides, which are independent, as one.
pub(super) fn growth_error(change: &Change, units: Units) -> Option<String> {
    let [low, high] = change.growth_95_bytes?;
    Some(format!("(95 %: {} to {})", units.signed_bytes(low), units.signed_bytes(high)))
}

/// What is to be known of the numbers, as a label and sentences without a full stop.
pub(super) fn explanations(report: &Report, units: Units) -> Vec<(&'static str, String)> {
    let Some(sampling) = &report.sampling else { return Vec::new() };
    let sampled = sampling.interval_bytes.map(|interval| ("sampled", sampled(interval, units)));
    sampled.into_iter().chain(sampling.coverage.iter().map(|it| ("watched", watched(it)))).collect()
}

/// All of that in one line; `None` where no number is an estimate.
pub(super) fn explanation(report: &Report) -> Option<String> {
    let parts = explanations(report, Units::Auto);
    let parts: Vec<String> =
        parts.into_iter().map(|(word, text)| format!("{word}: {text}")).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn sampled(interval_bytes: u64, units: Units) -> String {
    let interval = units.bytes(interval_bytes);
    format!("one sample per {interval} on average; numbers marked ~ are estimates")
}

/// A part of the work that is so near to that of the time is not told apart.
const ABOUT: f64 = 0.03;

fn watched(covered: &Covered) -> String {
    let what = match covered.family {
        Family::Heap => "malloc and kin",
        Family::Python => "Python's allocator",
        Family::Mappings => "mmap and kin",
        Family::Unknown => "a family of functions",
    };
    let is_as_fast =
        (covered.work_share / covered.share.max(f64::MIN_POSITIVE) - 1.0).abs() < ABOUT;
    let work = match (known(covered), is_as_fast) {
        (None, true) => String::new(),
        (known, _) => format!(
            ", for about {:.1} % of its work{}",
            covered.work_share * 100.0,
            known.unwrap_or_default()
        ),
    };
    format!(
        "{what} for {} of the window ({:.1} %, in {} phase{}){work}; numbers marked ~ take it that \
         the rest went as then",
        duration_ns(covered.covered_ns),
        covered.share * 100.0,
        size::count(covered.phases),
        plural(covered.phases),
    )
}

/// How well the part of the work is known, and by what.
fn known(covered: &Covered) -> Option<String> {
    let [low, high] = covered.work_share_95?.map(|share| share * 100.0);
    let by = match covered.work_by? {
        WorkBy::Instructions => "its instructions",
        WorkBy::CpuTime => {
            "CPU time less what probes cost, because its instructions are not counted"
        }
    };
    Some(format!(" (95 %: {low:.1} to {high:.1} %, by {by})"))
}

/// The mean distance of samples; 1 where every byte is seen.
pub(super) fn period(sampling: &Option<Sampling>) -> i64 {
    let interval = sampling.as_ref().and_then(|sampling| sampling.interval_bytes);
    interval.map_or(1, |interval| i64::try_from(interval).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use memtrace_common::sample::Interval;

    use super::*;
    use crate::report::sample;

    fn samples(number: u64) -> Amount {
        (0..number).fold(Amount::default(), |mut sum, _| {
            sum += Amount::sampled(64, Interval::from_exponent(19));
            sum
        })
    }

    #[test]
    fn what_is_exact_is_written_as_ever() {
        assert_eq!(blocks(Amount::new(1536, 1), Units::Auto), "1.5 KiB in 1 block");
        assert_eq!(explanation(&sample::leaking()), None);
    }

    #[test]
    fn estimates_are_marked_and_have_their_interval() {
        assert_eq!(
            blocks(samples(1000), Units::Auto),
            "~ 502.7 MiB ± 31.9 MiB (95 %) in ~ 8,236,490 blocks"
        );
        let few = bytes_and_error(samples(2), Units::Auto);
        assert!(few.starts_with("~ 1.0 MiB (95 %: ") && few.contains(" KiB to 3."), "{few}");
    }

    #[test]
    fn a_reader_is_told_what_the_numbers_are() {
        let explained = explanation(&sample::sampled()).unwrap();
        assert_eq!(
            explained,
            "sampled: one sample per 512.0 KiB on average; numbers marked ~ are estimates; watched: \
             malloc and kin for 6.0 s of the window (20.0 %, in 3 phases), for about 15.0 % of its work (95 %: 14.0 to \
             16.0 %, by its instructions); numbers marked ~ take it that the rest went as then"
        );
    }
}
