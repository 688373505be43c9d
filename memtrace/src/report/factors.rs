//! How many times more there was than was seen: of what sites did, and of what is live.

use crate::{
    capture::{Capture, CapturedSite},
    model::{chunk_sizes::may_be_mapped, coverage::Family, room::Room, site::LiveItem},
};

/// Of each site of a capture.
pub(super) struct Factors<'c> {
    sites: Vec<SiteFactor<'c>>,
}

/// Of a site.
struct SiteFactor<'c> {
    /// Of what it did.
    done: f64,
    /// What says that of its live blocks, where anything does.
    room: Option<&'c Room>,
    /// Bytes of its live blocks, by what it did and by what is there.
    live_bytes: [f64; 2],
}

impl<'c> Factors<'c> {
    pub(super) fn of(capture: &'c Capture) -> Self {
        let sites = capture.sites.iter().map(|site| SiteFactor::of(capture, site)).collect();
        let mut factors = Self { sites };
        if factors.sites.iter().all(|site| site.room.is_none()) {
            return factors;
        }
        for item in &capture.live {
            let of_item = factors.of_live(item);
            if let Some(site) = factors.sites.get_mut(item.site as usize) {
                let bytes = item.amount().bytes as f64;
                site.live_bytes[0] += bytes * site.done;
                site.live_bytes[1] += bytes * of_item;
            }
        }
        factors
    }

    /// Of what a site did.
    pub(super) fn of_done(&self, site: usize) -> f64 {
        self.sites[site].done
    }

    /// Of a live block; 1 where its site is not known.
    pub(super) fn of_live(&self, item: &LiveItem) -> f64 {
        self.sites.get(item.site as usize).map_or(1.0, |site| site.of_live(item))
    }

    /// Of all that a site has live.
    pub(super) fn of_all_live(&self, site: usize) -> f64 {
        let SiteFactor { done, live_bytes: [by_done, there], .. } = self.sites[site];
        if by_done > 0.0 { (done * there / by_done).max(1.0) } else { done }
    }
}

impl<'c> SiteFactor<'c> {
    fn of(capture: &'c Capture, site: &CapturedSite) -> Self {
        let family = site.function.map_or(Family::Heap, Family::of);
        let ending = capture.ending_of(site);
        let room = (family == Family::Heap && !ending.room.is_unknown()).then_some(&ending.room);
        Self { done: ending.coverage.factor_of(family), room, live_bytes: [0.0; 2] }
    }

    /// Blocks that are mapped one by one are not in the heap.
    fn of_live(&self, item: &LiveItem) -> f64 {
        let room = self.room.filter(|_| !may_be_mapped(item.address, item.bytes));
        room.map_or(self.done, |room| room.factor_of(item.bytes, self.done))
    }
}
