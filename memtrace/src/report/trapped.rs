//! Free memory as a weight of sites: what each site's blocks keep, and what is kept by blocks of
//! none.

use std::sync::Arc;

use super::{arena_pins, blame::blame_of, build::SiteInput, profile::SiteExtras};
use crate::{
    analysis::arena_pins::{Pinned, UnownedClass},
    capture::Capture,
    model::{
        AllocFn,
        blame::{Blame, Culprit, Share},
        site::{Amount, SiteStats, Survivors},
        size,
        stack::{Frame, NamedStack},
    },
};

/// The object that frames belong to which stand for blocks of no site.
const NO_SITE: &str = "[heap]";

/// By site, and the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Trapped {
    /// In the order of the capture's sites; empty where nothing is known.
    pub(super) by_site: Vec<Amount>,
    /// Stacks that say what the blocks are.
    pub(super) others: Vec<SiteInput>,
}

impl Trapped {
    /// As of the last walk of the heap; nothing where it is not known where blocks lay.
    pub(super) fn of(capture: &Capture) -> Self {
        // Each site is its own culprit.
        let Some(blame) = blame_of(capture, &[]) else { return Self::default() };
        let by_site = vec![Amount::default(); capture.sites.len()];
        let mut trapped = Self { by_site, others: Vec::new() };
        trapped.add_heaps(&blame);
        if let Some(pinned) = arena_pins::by_site(capture) {
            trapped.add_arenas(&pinned);
        }
        trapped
    }

    /// Of glibc's.
    fn add_heaps(&mut self, blame: &Blame) {
        for share in blame.shares.iter().filter(|share| share.trapped_bytes > 0) {
            let trapped = Amount::new(share.trapped_bytes, share.pins.max(1));
            match share.culprit {
                Culprit::Site(site) => self.add(site as usize, trapped),
                _ => self.others.push(other(AllocFn::Malloc, &[label(share)], trapped)),
            }
        }
    }

    /// Of CPython's small objects.
    fn add_arenas(&mut self, pinned: &Pinned) {
        for (site, pins) in pinned.owners.iter().enumerate().filter(|it| it.1.trapped_bytes > 0) {
            self.add(site, Amount::new(pins.trapped_bytes, pins.live.count));
        }
        let trapping = pinned.classes.iter().filter(|class| class.trapped_bytes > 0);
        self.others.extend(trapping.map(unowned));
    }

    fn add(&mut self, site: usize, trapped: Amount) {
        if let Some(of_site) = self.by_site.get_mut(site) {
            *of_site += trapped;
        }
    }

    /// Of a site, by its place in the capture.
    pub(super) fn of_site(&self, site: usize) -> Option<Amount> {
        self.by_site.get(site).copied()
    }
}

fn label(share: &Share) -> &'static str {
    match share.culprit {
        Culprit::AllocatorCache => "[allocator cache]",
        Culprit::BeforeAttach => "[allocated before attach]",
        Culprit::NotSampled => "[not sampled]",
        Culprit::Site(_) | Culprit::Allocator => "[the allocator itself]",
    }
}

fn unowned(class: &UnownedClass) -> SiteInput {
    let of_size = match class.block_bytes {
        0 => "[pools that were not understood]".to_owned(),
        bytes => format!("[objects of up to {}]", size::bytes(bytes.into())),
    };
    let trapped = Amount::new(class.trapped_bytes, class.live.count.max(1));
    other(AllocFn::PyObjectMalloc, &[&of_size, "[Python objects that were not traced]"], trapped)
}

/// A stack of such labels, leaf first.
fn other(function: AllocFn, labels: &[&str], trapped: Amount) -> SiteInput {
    let frame = |label: &&str| {
        let (function, module) = ((*label).to_owned(), NO_SITE.to_owned());
        Arc::new(Frame { function, module, ..Frame::default() })
    };
    SiteInput {
        function: Some(function),
        allocator: None,
        stack: NamedStack { frames: labels.iter().map(frame).collect(), missing_root: None },
        stats: SiteStats::default(),
        survivors: Survivors::default(),
        extras: SiteExtras { trapped: Some(trapped), ..SiteExtras::default() },
    }
}
