//! What each allocator served, where a program has several.

use serde::Serialize;

use super::{AllocatorReport, SiteInput};
use crate::model::site::{Amount, SiteStats};

/// The heap blocks of one allocator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AllocatorTotals {
    /// As [`super::SiteReport::allocator`].
    pub name: String,
    /// Allocated and not freed.
    pub live: Amount,
    /// All allocations.
    pub allocated: Amount,
    /// Those of them that were freed.
    pub freed: Amount,
    /// Live blocks that are old enough.
    pub survivors: Amount,
}

/// An allocator's name, with what its functions' names begin with.
pub(super) fn label(allocator: &AllocatorReport) -> String {
    match allocator.symbol_prefix.as_str() {
        "" => allocator.name.clone(),
        prefix => format!("{} ({prefix})", allocator.name),
    }
}

/// Sums over sites, the largest first; nothing unless there are several.
pub(super) fn totals(sites: &[SiteInput]) -> Vec<AllocatorTotals> {
    let mut totals: Vec<AllocatorTotals> = Vec::new();
    for site in sites.iter().filter(|site| !maps(site)) {
        let Some(name) = &site.allocator else { continue };
        let known = totals.iter().position(|of| of.name == *name);
        let place = known.unwrap_or_else(|| {
            totals.push(AllocatorTotals { name: name.clone(), ..AllocatorTotals::default() });
            totals.len() - 1
        });
        totals[place].add(site);
    }
    totals.sort_by_key(|of| std::cmp::Reverse(of.allocated.bytes));
    if totals.len() > 1 { totals } else { Vec::new() }
}

fn maps(site: &SiteInput) -> bool {
    site.function.is_some_and(|function| function.shape().is_mapping())
}

impl AllocatorTotals {
    fn add(&mut self, site: &SiteInput) {
        let SiteStats { live, allocated, freed, .. } = site.stats;
        self.live += live;
        self.allocated += allocated;
        self.freed += freed;
        self.survivors += site.survivors.amount;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{AllocFn, site::Survivors},
        report::sample,
    };

    fn site(allocator: &str, function: AllocFn, bytes: u64) -> SiteInput {
        let allocated = Amount::one(bytes);
        SiteInput {
            function: Some(function),
            allocator: Some(allocator.to_owned()),
            stats: SiteStats { allocated, live: allocated, ..SiteStats::default() },
            survivors: Survivors { amount: allocated, ..Survivors::default() },
            ..sample::sites().remove(0)
        }
    }

    #[test]
    fn sums_are_by_allocator_and_without_mappings() {
        let sites = [
            site("glibc", AllocFn::Malloc, 10),
            site("jemalloc (_rjem_)", AllocFn::Malloc, 500),
            site("glibc", AllocFn::Calloc, 7),
            site("glibc", AllocFn::Mmap, 4096),
        ];
        let totals = totals(&sites);
        let found: Vec<_> =
            totals.iter().map(|of| (of.name.as_str(), of.live.bytes, of.survivors.count)).collect();
        assert_eq!(found, [("jemalloc (_rjem_)", 500, 1), ("glibc", 17, 2)]);
    }

    #[test]
    fn one_allocator_alone_is_not_listed() {
        let sites = [site("glibc", AllocFn::Malloc, 10), site("glibc", AllocFn::Mmap, 10)];
        assert_eq!(totals(&sites), []);
    }

    #[test]
    fn a_prefix_is_part_of_the_label() {
        let mut allocator = AllocatorReport { name: "jemalloc".to_owned(), ..Default::default() };
        assert_eq!(label(&allocator), "jemalloc");
        allocator.symbol_prefix = "_rjem_".to_owned();
        assert_eq!(label(&allocator), "jemalloc (_rjem_)");
    }
}
