//! Free memory as a weight of sites: what each site's blocks keep, and what is kept by blocks of
//! none.

use std::sync::Arc;

use super::{arena_pins, build::SiteInput, profile::SiteExtras};
use crate::{
    analysis::arena_pins::UnownedClass,
    capture::Capture,
    model::{
        AllocFn,
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
        let Some(pinned) = arena_pins::by_site(capture) else { return Self::default() };
        let by_site = pinned
            .owners
            .iter()
            .map(|pins| match pins.trapped_bytes {
                0 => Amount::default(),
                bytes => Amount::new(bytes, pins.live.count),
            })
            .collect();
        let others = pinned.classes.iter().filter(|class| class.trapped_bytes > 0);
        Self { by_site, others: others.map(unowned).collect() }
    }

    /// Of a site, by its place in the capture.
    pub(super) fn of_site(&self, site: usize) -> Option<Amount> {
        self.by_site.get(site).copied()
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
