//! What is left at the end, how old and how large it is.

use crate::model::site::{Amount, LiveItem, Survivors};

/// Sums up by slot; every slot is below `slots`, and those without items are left out.
///
/// `items` is asked for several times, so that ages and then sizes can be sorted into one array by
/// slot: 8 bytes a survivor, whatever the number of slots.
pub fn by_slot<Items: Iterator<Item = LiveItem>>(
    items: impl Fn() -> Items,
    slot_of: impl Fn(&LiveItem) -> usize,
    slots: usize,
    now_ns: u64,
) -> Vec<(usize, Survivors)> {
    let mut amounts = vec![Amount::default(); slots];
    for item in items() {
        amounts[slot_of(&item)] += Amount::one(item.bytes);
    }
    let ages = spreads(items().map(|item| (slot_of(&item), item.age_ns(now_ns))), &amounts);
    let sizes = spreads(items().map(|item| (slot_of(&item), item.bytes)), &amounts);
    let used = amounts.iter().enumerate().filter(|(_, amount)| amount.count > 0);
    used.zip(ages.iter().zip(&sizes))
        .map(|((slot, amount), (age, size))| (slot, describe(*amount, age, size)))
        .collect()
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

/// One for each slot that has values, in order.
fn spreads(values: impl Iterator<Item = (usize, u64)>, amounts: &[Amount]) -> Vec<Spread> {
    let mut sorted = sort_by_slot(values, amounts);
    let mut rest = sorted.as_mut_slice();
    let mut spreads = Vec::new();
    for amount in amounts.iter().filter(|amount| amount.count > 0) {
        let (of_slot, others) = rest.split_at_mut(amount.count as usize);
        rest = others;
        spreads.push(spread(of_slot));
    }
    spreads
}

/// All values, those of the first slot first.
fn sort_by_slot(values: impl Iterator<Item = (usize, u64)>, amounts: &[Amount]) -> Vec<u64> {
    let mut next = Vec::with_capacity(amounts.len());
    let mut total = 0;
    for amount in amounts {
        next.push(total);
        total += amount.count as usize;
    }
    let mut sorted = vec![0; total];
    for (slot, value) in values {
        let at = &mut next[slot];
        sorted[*at] = value;
        *at += 1;
    }
    sorted
}

/// `values` is not empty; of an even number of them, the median is the lower middle one.
fn spread(values: &mut [u64]) -> Spread {
    let middle = (values.len() - 1) / 2;
    let (lower, median, upper) = values.select_nth_unstable(middle);
    let median = *median;
    Spread {
        smallest: lower.iter().copied().min().unwrap_or(median),
        median,
        largest: upper.iter().copied().max().unwrap_or(median),
    }
}
