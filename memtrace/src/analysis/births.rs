//! When survivors were obtained, in memory that does not grow with their number.

use crate::model::{
    growth::Burst,
    site::{Amount, LiveItem, Survivors},
};

/// The most bursts of one group: the time from its first to its last survivor is cut into as many
/// bins.
pub const MAX_BURSTS: usize = 1024;

/// The bursts of each group, in order of time.
pub fn by_slot(
    items: impl Iterator<Item = LiveItem>,
    slot_of: impl Fn(&LiveItem) -> Option<usize>,
    groups: &[Survivors],
    now_ns: u64,
) -> Vec<Vec<Burst>> {
    let mut bins: Vec<Bins> = groups.iter().map(|group| Bins::new(group, now_ns)).collect();
    for item in items {
        if let Some(of_group) = slot_of(&item).and_then(|slot| bins.get_mut(slot)) {
            of_group.add(&item);
        }
    }
    bins.into_iter().map(Bins::bursts).collect()
}

/// Bins of equal length; each knows its first and last survivor, so that gaps between bins are
/// exact.
struct Bins {
    start_ns: u64,
    length_ns: u64,
    bins: Vec<Option<Burst>>,
}

impl Bins {
    fn new(group: &Survivors, now_ns: u64) -> Self {
        let span_ns = group.oldest_age_ns.saturating_sub(group.youngest_age_ns);
        Self {
            start_ns: now_ns.saturating_sub(group.oldest_age_ns),
            length_ns: span_ns / MAX_BURSTS as u64 + 1,
            bins: vec![None; MAX_BURSTS],
        }
    }

    fn add(&mut self, item: &LiveItem) {
        let index = item.time_ns.saturating_sub(self.start_ns) / self.length_ns;
        let index = usize::try_from(index).unwrap_or(usize::MAX).min(self.bins.len() - 1);
        let time_ns = item.time_ns;
        let empty = Burst { first_ns: time_ns, last_ns: time_ns, amount: Amount::default() };
        let burst = self.bins[index].get_or_insert(empty);
        burst.first_ns = burst.first_ns.min(time_ns);
        burst.last_ns = burst.last_ns.max(time_ns);
        // A sample is one piece of evidence, for however many blocks it stands.
        burst.amount += Amount::new(item.amount().bytes, 1);
    }

    fn bursts(self) -> Vec<Burst> {
        self.bins.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bursts(times: &[u64], now_ns: u64) -> Vec<Burst> {
        let items = || {
            let item =
                |time_ns: &u64| LiveItem { bytes: 8, time_ns: *time_ns, ..LiveItem::default() };
            times.iter().map(item)
        };
        let age = |time: Option<&u64>| time.map_or(0, |time| now_ns - time);
        let group = Survivors {
            amount: Amount::new(8 * times.len() as u64, times.len() as u64),
            oldest_age_ns: age(times.iter().min()),
            youngest_age_ns: age(times.iter().max()),
            ..Survivors::default()
        };
        by_slot(items(), |_| Some(0), &[group], now_ns).remove(0)
    }

    #[test]
    fn moments_that_lie_apart_are_bursts_of_their_own() {
        let of_two = bursts(&[1_000_000, 1_000_010, 9_000_000], 10_000_000);
        let [early, late] = &of_two[..] else { panic!("{of_two:?}") };
        assert_eq!((early.first_ns, early.last_ns, early.amount.count), (1_000_000, 1_000_010, 2));
        assert_eq!((late.first_ns, late.amount.bytes), (9_000_000, 8));
    }

    #[test]
    fn what_is_of_no_group_is_left_out() {
        let item = LiveItem { bytes: 8, time_ns: 5, ..LiveItem::default() };
        assert_eq!(by_slot([item].into_iter(), |_| None, &[Survivors::default()], 9), [[]]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_bursts_are_in_order(
            times in prop::collection::vec(0_u64..1 << 40, 0..3000),
        ) {
            let bursts = bursts(&times, 1 << 40);
            prop_assert!(bursts.len() <= MAX_BURSTS);
            let blocks: u64 = bursts.iter().map(|burst| burst.amount.count).sum();
            prop_assert_eq!(blocks, times.len() as u64);
            for burst in &bursts {
                prop_assert!(times.contains(&burst.first_ns) && times.contains(&burst.last_ns));
            }
            prop_assert!(bursts.windows(2).all(|pair| pair[0].last_ns < pair[1].first_ns));
        }
    }
}
