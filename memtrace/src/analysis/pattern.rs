//! How survivors came to be: all at once, in steps, or steadily.
//!
//! Steps are told by the gaps between births: those between two steps are much longer than those
//! within one. Where a step leaves one block only there is nothing within it to compare with; then
//! steps are what comes at regular times. What is small beside the rest is not looked at, so that
//! small change between two steps does not hide them.

use super::watched::Watched;
use crate::model::growth::{Burst, GrowthPattern};

/// Gaps between steps are at least this many times as long as the gaps within one.
const MUCH_LONGER: u64 = 5;

/// Gaps shorter than this are no gaps: the time in which one thing is allocated.
const SHORTEST_GAP_NS: u64 = 1_000_000;

/// Steps that come faster look like a slope to people.
const SHORTEST_INTERVAL_NS: u64 = 200_000_000;

/// What lies within this part of the window came at once.
const ONCE_PART: u64 = 20;

/// Fewer blocks than this that are in no order tell nothing.
const MANY_BLOCKS: u64 = 8;

/// Steps that come at irregular times, or are only two, are told by as many blocks in each.
const MANY_IN_A_STEP: u64 = 4;

/// Bursts this many times smaller than the typical one are small change ...
const SMALL_CHANGE: u64 = 10;

/// ... if all of them are at most this part of the bytes.
const SMALL_CHANGE_PART: u64 = 10;

/// The pattern of survivors that were born in these bursts, in order of time; `from_ns` and `to_ns`
/// are the ends of the time in which survivors could be born.
pub fn pattern(bursts: &[Burst], from_ns: u64, to_ns: u64) -> GrowthPattern {
    let bursts = without_small_change(bursts);
    let (Some(first), Some(last)) = (bursts.first(), bursts.last()) else {
        return GrowthPattern::Few;
    };
    let span_ns = last.last_ns.saturating_sub(first.first_ns);
    if span_ns <= to_ns.saturating_sub(from_ns) / ONCE_PART {
        return GrowthPattern::Once;
    }
    steps(&bursts).unwrap_or_else(|| slope(&bursts, from_ns, to_ns))
}

/// The pattern of survivors that could be born, for all that is known, at any time, but whose births
/// were seen only while they were watched; `bytes` is what they stand for all together. What was
/// watched at times seems to come in steps: only those are believed that are steps on a clock that
/// stands still meanwhile.
pub fn pattern_as_watched(
    bursts: &[Burst],
    from_ns: u64,
    to_ns: u64,
    watched: &Watched,
    bytes: u64,
) -> GrowthPattern {
    let seen = pattern(bursts, from_ns, to_ns);
    if watched.is_always() || seen == GrowthPattern::Few {
        return seen;
    }
    if watched.is_seldom() {
        return GrowthPattern::Few;
    }
    let on_its_clock = |burst: &Burst| Burst {
        first_ns: watched.until(burst.first_ns),
        last_ns: watched.until(burst.last_ns),
        ..*burst
    };
    let first_ns = bursts.first().map_or(from_ns, |burst| burst.first_ns);
    let bursts: Vec<Burst> = bursts.iter().map(on_its_clock).collect();
    match (seen, pattern(&bursts, watched.until(from_ns), watched.until(to_ns))) {
        (_, GrowthPattern::Steady { .. }) => {
            GrowthPattern::Steady { bytes_per_s: rate(bytes, first_ns, to_ns) }
        }
        (GrowthPattern::Steps { .. }, GrowthPattern::Steps { .. }) => seen,
        (GrowthPattern::Steps { .. }, _) => GrowthPattern::Uneven,
        _ => seen,
    }
}

/// The bursts that matter.
fn without_small_change(bursts: &[Burst]) -> Vec<Burst> {
    let typical = typical_bytes(bursts);
    let is_small = |burst: &&Burst| burst.amount.bytes < typical / SMALL_CHANGE;
    let small = sum(bursts.iter().filter(is_small).map(|burst| burst.amount.bytes));
    if small > sum(bursts.iter().map(|burst| burst.amount.bytes)) / SMALL_CHANGE_PART {
        return bursts.to_vec();
    }
    bursts.iter().filter(|burst| !is_small(burst)).copied().collect()
}

/// Half of all bytes are in bursts of at least this size.
fn typical_bytes(bursts: &[Burst]) -> u64 {
    let mut sizes: Vec<u64> = bursts.iter().map(|burst| burst.amount.bytes).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let half = sum(sizes.iter().copied()) / 2;
    let mut so_far: u64 = 0;
    let reaches_half = |size: &&u64| {
        so_far = so_far.saturating_add(**size);
        so_far >= half
    };
    sizes.iter().find(reaches_half).copied().unwrap_or(0)
}

fn sum(values: impl Iterator<Item = u64>) -> u64 {
    values.fold(0, u64::saturating_add)
}

/// Steps by the longest gaps that set them apart; by shorter ones where those give none.
fn steps(bursts: &[Burst]) -> Option<GrowthPattern> {
    let mut gaps: Vec<u64> = bursts.windows(2).map(gap_ns).collect();
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    gaps.push(longest_gap_within(bursts));
    let sets_apart = |pair: &&[u64]| pair[0] / MUCH_LONGER >= pair[1].max(SHORTEST_GAP_NS);
    gaps.windows(2).filter(sets_apart).find_map(|pair| as_steps(&split(bursts, pair[0])))
}

fn gap_ns(pair: &[Burst]) -> u64 {
    pair[1].first_ns.saturating_sub(pair[0].last_ns)
}

/// Bursts say nothing of the gaps inside; on average they are as long.
fn longest_gap_within(bursts: &[Burst]) -> u64 {
    let within = |burst: &Burst| {
        burst.last_ns.saturating_sub(burst.first_ns) / burst.amount.count.saturating_sub(1).max(1)
    };
    bursts.iter().map(within).max().unwrap_or(0)
}

/// Joins what no gap of this length sets apart.
fn split(bursts: &[Burst], gap: u64) -> Vec<Burst> {
    let mut joined: Vec<Burst> = Vec::new();
    for burst in bursts {
        match joined.last_mut() {
            Some(last) if gap_ns(&[*last, *burst]) < gap => {
                last.last_ns = burst.last_ns;
                last.amount += burst.amount;
            }
            _ => joined.push(*burst),
        }
    }
    joined
}

fn as_steps(steps: &[Burst]) -> Option<GrowthPattern> {
    let intervals: Vec<u64> =
        steps.windows(2).map(|pair| pair[1].first_ns - pair[0].first_ns).collect();
    let interval_ns = median(intervals.clone())?;
    let of_many = steps.iter().filter(|step| step.amount.count >= MANY_IN_A_STEP).count();
    let told_apart = match steps.len() {
        2 => of_many == 2,
        many => of_many * 2 > many || are_regular(&intervals, interval_ns),
    };
    (told_apart && interval_ns >= SHORTEST_INTERVAL_NS).then(|| GrowthPattern::Steps {
        count: steps.len() as u64,
        step_bytes: median(steps.iter().map(|step| step.amount.bytes).collect()).unwrap_or(0),
        interval_ns,
    })
}

/// Three of four are as long as the typical one, to the half.
fn are_regular(intervals: &[u64], typical: u64) -> bool {
    let alike = |interval: &&u64| interval.abs_diff(typical) <= typical / 2;
    intervals.iter().filter(alike).count() * 4 >= intervals.len() * 3
}

/// Of an even number of values, the lower middle one.
fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}

/// Steady when each quarter of the time from the first to the end has its share. Of a cache that
/// replaces its contents only the newest are left, steadily born but no growth.
fn slope(bursts: &[Burst], window_from_ns: u64, to_ns: u64) -> GrowthPattern {
    let blocks = sum(bursts.iter().map(|burst| burst.amount.count));
    if blocks < MANY_BLOCKS {
        return GrowthPattern::Few;
    }
    let total = sum(bursts.iter().map(|burst| burst.amount.bytes));
    let from_ns = bursts[0].first_ns;
    if from_ns > window_from_ns.midpoint(to_ns) {
        return GrowthPattern::Lately;
    }
    let length_ns = to_ns.saturating_sub(from_ns).max(1);
    let mut quarters = [0_u64; 4];
    for burst in bursts {
        let middle = burst.first_ns.midpoint(burst.last_ns).saturating_sub(from_ns);
        let quarter = u128::from(middle) * 4 / u128::from(length_ns);
        let quarter = &mut quarters[quarter.min(3) as usize];
        *quarter = quarter.saturating_add(burst.amount.bytes);
    }
    let share = |bytes: u64| bytes as f64 / total.max(1) as f64;
    if quarters.iter().any(|bytes| !(0.05..0.6).contains(&share(*bytes))) {
        return GrowthPattern::Uneven;
    }
    GrowthPattern::Steady { bytes_per_s: rate(total, from_ns, to_ns) }
}

/// Bytes a second.
fn rate(bytes: u64, from_ns: u64, to_ns: u64) -> u64 {
    (bytes as f64 * 1e9 / to_ns.saturating_sub(from_ns).max(1) as f64) as u64
}

#[cfg(test)]
mod tests;
