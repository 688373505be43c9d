//! What is left at the end, how old and how large it is.

use crate::model::site::{Amount, LiveItem, Survivors};

/// Sums up by slot; every slot is below `slots`, and those without items are left out.
///
/// `items` is asked for several times, so that ages and then sizes can be sorted into one array by
/// slot: 8 bytes a survivor, whatever the number of slots, and 16 where survivors stand for others.
pub fn by_slot<Items: Iterator<Item = LiveItem>>(
    items: impl Fn() -> Items,
    slot_of: impl Fn(&LiveItem) -> usize,
    amount_of: impl Fn(&LiveItem) -> Amount,
    slots: usize,
    now_ns: u64,
) -> Vec<(usize, Survivors)> {
    let mut amounts = vec![Amount::default(); slots];
    let mut counts = vec![0_usize; slots];
    for item in items() {
        let slot = slot_of(&item);
        amounts[slot] += amount_of(&item);
        counts[slot] += 1;
    }
    let ages = items().map(|item| (slot_of(&item), item.age_ns(now_ns), weight(&item)));
    let sizes = items().map(|item| (slot_of(&item), item.bytes, weight(&item)));
    let (ages, sizes) = match items().all(|item| item.interval.is_exact()) {
        true => (spreads::<u64>(ages, &counts), spreads::<u64>(sizes, &counts)),
        false => (spreads::<Weighted>(ages, &counts), spreads::<Weighted>(sizes, &counts)),
    };
    let used = amounts.iter().enumerate().filter(|(slot, _)| counts[*slot] > 0);
    used.zip(ages.iter().zip(&sizes))
        .map(|((slot, amount), (age, size))| (slot, describe(*amount, age, size)))
        .collect()
}

/// How many blocks it stands for.
fn weight(item: &LiveItem) -> f64 {
    if item.interval.is_exact() { 1.0 } else { item.interval.weight(item.bytes) }
}

fn describe(amount: Amount, age_ns: &Spread, bytes: &Spread) -> Survivors {
    Survivors {
        amount,
        oldest_age_ns: age_ns.largest,
        median_age_ns: age_ns.median,
        youngest_age_ns: age_ns.smallest,
        smallest_bytes: bytes.smallest,
        median_bytes: bytes.median,
        largest_bytes: bytes.largest,
    }
}

/// How values lie.
#[derive(Clone, Copy)]
struct Spread {
    smallest: u64,
    median: u64,
    largest: u64,
}

/// A value, with or without a weight.
trait Value: Copy + Default {
    fn new(value: u64, weight: f64) -> Self;

    /// `values` is not empty; of an even number of them, the median is the lower middle one.
    fn spread(values: &mut [Self]) -> Spread;
}

impl Value for u64 {
    fn new(value: u64, _: f64) -> Self {
        value
    }

    fn spread(values: &mut [Self]) -> Spread {
        let middle = (values.len() - 1) / 2;
        let (lower, median, upper) = values.select_nth_unstable(middle);
        let median = *median;
        Spread {
            smallest: lower.iter().copied().min().unwrap_or(median),
            median,
            largest: upper.iter().copied().max().unwrap_or(median),
        }
    }
}

/// A value that stands for several.
#[derive(Clone, Copy, Default)]
struct Weighted {
    value: u64,
    weight: f64,
}

impl Value for Weighted {
    fn new(value: u64, weight: f64) -> Self {
        Self { value, weight }
    }

    fn spread(values: &mut [Self]) -> Spread {
        values.sort_unstable_by_key(|it| it.value);
        let half = values.iter().map(|it| it.weight).sum::<f64>() / 2.0;
        let mut before = 0.0;
        let median = values.iter().find(|it| {
            before += it.weight;
            before >= half
        });
        let value = |it: Option<&Self>| it.map_or(0, |it| it.value);
        let median = value(median.or(values.last()));
        Spread { smallest: value(values.first()), median, largest: value(values.last()) }
    }
}

/// One for each slot that has values, in order.
fn spreads<V: Value>(
    values: impl Iterator<Item = (usize, u64, f64)>,
    counts: &[usize],
) -> Vec<Spread> {
    let mut sorted = sort_by_slot::<V>(values, counts);
    let mut rest = sorted.as_mut_slice();
    let mut spreads = Vec::new();
    for count in counts.iter().filter(|count| **count > 0) {
        let (of_slot, others) = rest.split_at_mut(*count);
        rest = others;
        spreads.push(V::spread(of_slot));
    }
    spreads
}

/// All values, those of the first slot first.
fn sort_by_slot<V: Value>(
    values: impl Iterator<Item = (usize, u64, f64)>,
    counts: &[usize],
) -> Vec<V> {
    let mut next = Vec::with_capacity(counts.len());
    let mut total = 0;
    for count in counts {
        next.push(total);
        total += count;
    }
    let mut sorted = vec![V::default(); total];
    for (slot, value, weight) in values {
        let at = &mut next[slot];
        sorted[*at] = V::new(value, weight);
        *at += 1;
    }
    sorted
}

#[cfg(test)]
mod tests {
    use memtrace_common::sample::Interval;

    use super::*;

    fn survivors(sizes: &[u64], interval: Interval) -> Survivors {
        let item = |bytes: &u64| LiveItem { bytes: *bytes, interval, ..LiveItem::default() };
        let items: Vec<LiveItem> = sizes.iter().map(item).collect();
        by_slot(|| items.iter().copied(), |_| 0, LiveItem::amount, 1, 0)[0].1
    }

    #[test]
    fn a_small_sample_counts_for_many_in_a_median() {
        let sizes = [16, 5000, 6000, 7000, 8000];
        assert_eq!(survivors(&sizes, Interval::EXACT).median_bytes, 6000);
        let sampled = survivors(&sizes, Interval::from_exponent(19));
        assert_eq!((sampled.median_bytes, sampled.largest_bytes), (16, 8000));
        assert_eq!(sampled.amount.samples(), 5);
    }
}
