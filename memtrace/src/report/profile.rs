//! What the exports of a report are made of beyond its tables: views, time, threads and objects.

use std::{cmp::Reverse, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use crate::model::site::Amount;

/// What sites are weighed by.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// Live at the end, and at least `min_age_ns` old.
    #[default]
    NeverFreed,
    /// Live at the end.
    Live,
    /// Allocated in the window.
    Allocated,
    /// Allocated in the window and freed in it.
    Freed,
    /// Live when all sites together had the most live bytes.
    Peak,
    /// Freed by the thread that allocated it, before it allocated anything else.
    Temporary,
    /// What of the never freed was in memory when the heap was last walked.
    Resident,
    /// Free memory that the site's blocks kept from being given back then.
    Trapped,
}

impl View {
    /// Every view.
    pub const ALL: [Self; 8] = [
        Self::NeverFreed,
        Self::Live,
        Self::Allocated,
        Self::Freed,
        Self::Peak,
        Self::Temporary,
        Self::Resident,
        Self::Trapped,
    ];

    /// As in titles: `12 MiB never freed`.
    pub fn label(self) -> &'static str {
        match self {
            Self::NeverFreed => "never freed",
            Self::Live => "live at the end",
            Self::Allocated => "allocated",
            Self::Freed => "freed",
            Self::Peak => "live at the peak",
            Self::Temporary => "temporary",
            Self::Resident => "never freed and in memory",
            Self::Trapped => "trapped",
        }
    }

    /// Whether it can be told only from the events, which a capture may lack.
    pub fn needs_events(self) -> bool {
        matches!(self, Self::Peak | Self::Temporary)
    }

    /// Whether it can be told only from where blocks lay when the heap was last walked.
    pub fn needs_layout(self) -> bool {
        matches!(self, Self::Resident | Self::Trapped)
    }
}

/// How the window is cut into bins of equal length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Births {
    /// How many there are.
    pub bins: u32,
    /// The length of one; the last may be longer than the window.
    pub bin_ns: u64,
}

/// Survivors of a site that were obtained in one bin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Birth {
    /// Which, from 0.
    pub bin: u32,
    /// How much.
    #[serde(flatten)]
    pub amount: Amount,
}

/// What a thread did at a site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ThreadShare {
    /// The kernel's id of the thread, in the initial pid namespace.
    pub tid: u32,
    /// The kernel's 15-byte name, where it was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it allocated.
    pub allocated: Amount,
    /// What of it is live at the end, whoever may free it.
    pub live: Amount,
    /// What of that is at least `min_age_ns` old.
    pub survivors: Amount,
}

impl ThreadShare {
    /// A thread that did nothing.
    pub fn none(tid: u32) -> Self {
        Self { tid, ..Self::default() }
    }

    fn join(&mut self, other: &Self) {
        self.allocated += other.allocated;
        self.live += other.live;
        self.survivors += other.survivors;
    }
}

/// What each thread did at all sites together, by what survives of it, largest first.
pub(super) fn threads<'a>(shares: impl Iterator<Item = &'a ThreadShare>) -> Vec<ThreadShare> {
    let mut threads: BTreeMap<u32, ThreadShare> = BTreeMap::new();
    for share in shares {
        let thread = || ThreadShare { name: share.name.clone(), ..ThreadShare::none(share.tid) };
        threads.entry(share.tid).or_insert_with(thread).join(share);
    }
    let mut threads: Vec<ThreadShare> = threads.into_values().collect();
    threads.sort_by_key(|it| Reverse((it.survivors.bytes, it.live.bytes, it.allocated.bytes)));
    threads
}

/// What is known of a site beyond its accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteExtras {
    /// See [`super::SiteReport::at_peak`].
    pub at_peak: Option<Amount>,
    /// See [`super::SiteReport::temporary`].
    pub temporary: Option<Amount>,
    /// See [`super::SiteReport::resident`].
    pub resident: Option<Amount>,
    /// See [`super::SiteReport::trapped`].
    pub trapped: Option<Amount>,
    /// See [`super::SiteReport::threads`]; in any order.
    pub threads: Vec<ThreadShare>,
    /// See [`super::SiteReport::births`]; in order of time.
    pub births: Vec<Birth>,
}

impl SiteExtras {
    /// Adds those of another site with the same names.
    pub(super) fn join(&mut self, other: Self) {
        add(&mut self.at_peak, other.at_peak);
        add(&mut self.temporary, other.temporary);
        add(&mut self.resident, other.resident);
        add(&mut self.trapped, other.trapped);
        for share in other.threads {
            match self.threads.iter_mut().find(|known| known.tid == share.tid) {
                None => self.threads.push(share),
                Some(known) => known.join(&share),
            }
        }
        for birth in other.births {
            match self.births.binary_search_by_key(&birth.bin, |known| known.bin) {
                Ok(at) => self.births[at].amount += birth.amount,
                Err(at) => self.births.insert(at, birth),
            }
        }
    }
}

/// Unknown and known is known: the part that is not known has nothing.
fn add(sum: &mut Option<Amount>, other: Option<Amount>) {
    if let Some(amount) = other {
        *sum.get_or_insert_default() += amount;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn birth(bin: u32, bytes: u64) -> Birth {
        Birth { bin, amount: Amount::one(bytes) }
    }

    fn share(tid: u32, bytes: u64) -> ThreadShare {
        ThreadShare { allocated: Amount::one(bytes), ..ThreadShare::none(tid) }
    }

    #[test]
    fn threads_are_listed_by_what_survives_of_what_they_did_everywhere() {
        let survivor = |tid, bytes| ThreadShare { survivors: Amount::one(bytes), ..share(tid, 1) };
        let shares = [share(1, 100), survivor(2, 5), survivor(3, 4), survivor(3, 4)];
        let of = |it: &ThreadShare| (it.tid, it.survivors.bytes, it.allocated.bytes);
        let threads: Vec<_> = threads(shares.iter()).iter().map(of).collect();
        assert_eq!(threads, [(3, 8, 2), (2, 5, 1), (1, 0, 100)]);
    }

    #[test]
    fn what_is_joined_is_summed_by_thread_and_by_time() {
        let mut sum = SiteExtras {
            at_peak: None,
            temporary: Some(Amount::one(1)),
            resident: None,
            trapped: None,
            threads: vec![share(1, 10)],
            births: vec![birth(3, 5), birth(7, 6)],
        };
        sum.join(SiteExtras {
            at_peak: Some(Amount::one(9)),
            temporary: Some(Amount::one(2)),
            trapped: Some(Amount::new(4096, 3)),
            threads: vec![share(2, 20), share(1, 30)],
            births: vec![birth(1, 4), birth(7, 1)],
            ..SiteExtras::default()
        });
        assert_eq!((sum.at_peak, sum.temporary.unwrap().bytes), (Some(Amount::one(9)), 3));
        assert_eq!((sum.resident, sum.trapped), (None, Some(Amount::new(4096, 3))));
        let threads: Vec<_> = sum.threads.iter().map(|it| (it.tid, it.allocated.bytes)).collect();
        assert_eq!(threads, [(1, 40), (2, 20)]);
        let births: Vec<_> = sum.births.iter().map(|it| (it.bin, it.amount.bytes)).collect();
        assert_eq!(births, [(1, 4), (3, 5), (7, 7)]);
    }
}
