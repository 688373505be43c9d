//! How many times more there was than was seen: of what sites did, and of what is live.

use crate::{
    capture::{Capture, CapturedSite},
    model::{
        chunk_sizes::may_be_mapped, coverage::Family, estimate::Scale, room::Room, site::LiveItem,
    },
};

/// Of each site of a capture.
pub(super) struct Factors<'c> {
    sites: Vec<SiteFactor<'c>>,
}

/// Of a site.
struct SiteFactor<'c> {
    /// Of what it did.
    done: Scale,
    /// What says that of its live blocks, where anything does.
    room: Option<&'c Room>,
    /// Bytes of its live blocks, by what it did and by what is there.
    live_bytes: [f64; 2],
    /// The latter, each times the logarithm of its margin.
    doubted_bytes: f64,
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
                site.live_bytes[0] += bytes * site.done.factor;
                site.live_bytes[1] += bytes * of_item.factor;
                site.doubted_bytes += bytes * of_item.factor * of_item.margin.ln();
            }
        }
        factors
    }

    /// Of what a site did.
    pub(super) fn of_done(&self, site: usize) -> Scale {
        self.sites[site].done
    }

    /// Of a live block; 1 where its site is not known.
    pub(super) fn of_live(&self, item: &LiveItem) -> Scale {
        self.sites.get(item.site as usize).map_or(1.0.into(), |site| site.of_live(item))
    }

    /// Of all that a site has live.
    pub(super) fn of_all_live(&self, site: usize) -> Scale {
        let SiteFactor { done, live_bytes: [by_done, there], doubted_bytes, .. } = self.sites[site];
        if by_done <= 0.0 {
            return done;
        }
        Scale {
            factor: (done.factor * there / by_done).max(1.0),
            margin: (doubted_bytes / there).exp(),
        }
    }
}

impl<'c> SiteFactor<'c> {
    fn of(capture: &'c Capture, site: &CapturedSite) -> Self {
        let family = site.function.map_or(Family::Heap, Family::of);
        let ending = capture.ending_of(site);
        let room = (family == Family::Heap && !ending.room.is_unknown()).then_some(&ending.room);
        let done = ending.coverage.scale_of(family);
        Self { done, room, live_bytes: [0.0; 2], doubted_bytes: 0.0 }
    }

    /// Blocks that are mapped one by one are not in the heap. What the heap says is not in doubt by how much
    /// of the target's work was watched.
    fn of_live(&self, item: &LiveItem) -> Scale {
        let room = self.room.filter(|_| !may_be_mapped(item.address, item.bytes));
        let by_room = room.map(|room| room.factor_of(item.bytes, self.done.factor));
        by_room.filter(|factor| *factor != self.done.factor).map_or(self.done, Scale::from)
    }
}
