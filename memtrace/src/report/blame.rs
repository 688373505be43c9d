//! Who keeps free memory from being given back, with names.

mod neighbours;

use std::collections::HashMap;

use serde::Serialize;

use super::{GroupBy, GroupName, frame_name::frame_name, group::slots_of, site_function};
use crate::{
    analysis::blame::{self as analysis, BlameInput, Hole},
    capture::Capture,
    model::{
        blame::{Blame, Culprit, Holder, Share},
        stack::{NamedStack, StackId},
    },
};

/// Of more than so many, those with the least are left out.
const MOST_CULPRITS: usize = 1000;

/// The blame of a capture's heaps at the end of its window. Sites with equal numbers in `culprits`
/// are one; those beyond it are their own. `None` where nobody walked the heap then, of several
/// processes together, and of a selection: what others hold would not be known.
pub fn blame_of(capture: &Capture, culprits: &[u32]) -> Option<Blame> {
    blame_with_holes(capture, culprits, 0).map(|(blame, _)| blame)
}

/// The same, with at most so many holes.
fn blame_with_holes(
    capture: &Capture,
    culprits: &[u32],
    most_holes: usize,
) -> Option<(Blame, Vec<Hole>)> {
    let layouts = &capture.layouts;
    let layout = layouts.after.as_deref().filter(|_| capture.selected.what.is_empty())?;
    let input = BlameInput {
        layout,
        before: layouts.before.as_deref(),
        live: &capture.live,
        culprits,
        is_exact: is_exact(capture),
        closed_ns: capture.ending.closed_ns,
    };
    Some(analysis::blame_with_holes(&input, most_holes))
}

/// Every allocation of the window was looked at and seen.
fn is_exact(capture: &Capture) -> bool {
    let ending = &capture.ending;
    let is_sampled = capture.header.sample_bytes.is_some()
        || ending.sample_interval_bytes.is_some()
        || capture.live.iter().any(|item| !item.interval.is_exact());
    !is_sampled && ending.coverage.is_full() && ending.losses.is_empty()
}

/// Who holds pages that free memory lies on.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BlameReport {
    /// When the heap was like this, since the window's start.
    pub at_ns: i64,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Free bytes in memory, on pages that cannot be given back: the sum over all culprits.
    pub trapped_bytes: u64,
    /// Free bytes in memory that `malloc_trim(0)` gives back; without the unused ends of arenas.
    pub returnable_bytes: u64,
    /// Chunks in use in glibc's heaps.
    pub live_bytes: u64,
    /// Those of them whose site is known.
    pub traced_bytes: u64,
    /// The part that this is, from 0 to 1.
    pub coverage: f64,
    /// What was not looked at because there was no room for it.
    pub left_out_bytes: u64,
    /// By trapped bytes, the largest first.
    pub culprits: Vec<CulpritReport>,
    /// Who holds the end of each arena.
    pub tops: Vec<TopReport>,
    /// Arenas that no thread uses any more.
    pub stranded: Vec<StrandedReport>,
    /// By huge pages, where the kernel gives them to the heap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub huge: Option<HugeReport>,
}

/// What kind of holder it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CulpritKind {
    /// A site, or sites with the same line or function.
    #[default]
    Site,
    /// See [`Culprit::AllocatorCache`].
    AllocatorCache,
    /// See [`Culprit::BeforeAttach`].
    BeforeAttach,
    /// See [`Culprit::NotSampled`].
    NotSampled,
    /// See [`Culprit::Allocator`].
    Allocator,
}

/// Who it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CulpritName {
    /// Of which kind.
    pub kind: CulpritKind,
    /// For people: `session_new (server.c:42)`, `allocator cache`.
    pub name: String,
    /// As in `groups`; `None` for those that are no sites.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
}

/// A culprit; all fields but the names are those of [`Share`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CulpritReport {
    /// Who it is.
    #[serde(flatten)]
    pub name: CulpritName,
    /// See [`Share::trapped_bytes`].
    pub trapped_bytes: u64,
    /// See [`Share::exclusive_bytes`].
    pub exclusive_bytes: u64,
    /// See [`Share::drop_bytes`].
    pub drop_bytes: u64,
    /// See [`Share::chunk_bytes`].
    pub chunk_bytes: u64,
    /// See [`Share::chunks`].
    pub chunks: u64,
    /// See [`Share::resident_bytes`].
    pub resident_bytes: u64,
    /// Trapped bytes for each byte in use; `None` where nothing is.
    pub pin_ratio: Option<f64>,
    /// See [`Share::pins`].
    pub pins: u64,
    /// See [`Share::median_age_ns`].
    pub median_age_ns: Option<u64>,
    /// See [`Share::oldest_age_ns`].
    pub oldest_age_ns: Option<u64>,
    /// Whose blocks lay last where there are holes on its pages, largest first; only where events
    /// were asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub neighbours: Vec<NeighbourReport>,
}

/// A site whose blocks were freed beside those that pin memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NeighbourReport {
    /// Who it is.
    #[serde(flatten)]
    pub name: CulpritName,
    /// Bytes of holes where its blocks lay last.
    pub bytes: u64,
}

/// Who holds the end of an arena.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TopReport {
    /// Index in `heap.glibc`.
    pub heap: u32,
    /// The arena's `index` there.
    pub arena: u32,
    /// Who it is.
    #[serde(flatten)]
    pub name: CulpritName,
    /// How many of its chunks are the highest.
    pub chunks: u64,
    /// What would go back by itself with them: resident bytes.
    pub behind_bytes: u64,
}

/// An arena that no thread uses any more.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StrandedReport {
    /// Index in `heap.glibc`.
    pub heap: u32,
    /// The arena's `index` there.
    pub arena: u32,
    /// What of it is in memory.
    pub resident_bytes: u64,
    /// Whose chunks are in it, largest first.
    pub holders: Vec<HolderReport>,
}

/// Whose bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HolderReport {
    /// Who it is.
    #[serde(flatten)]
    pub name: CulpritName,
    /// How many.
    pub bytes: u64,
}

/// By huge pages.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HugeReport {
    /// Bytes of a huge page.
    pub page_bytes: u64,
    /// Free bytes in memory on huge pages that somebody holds.
    pub trapped_bytes: u64,
    /// Parts of that, largest first.
    pub holders: Vec<HolderReport>,
}

impl BlameReport {
    /// Of a capture, with its sites taken together so; `None` where it cannot be told.
    pub(super) fn of(capture: &Capture, by: GroupBy) -> Option<Self> {
        capture.layouts.after.as_ref()?;
        let names = Names::of(capture, by);
        let blame = blame_of(capture, &names.culprits())?;
        Some(Self::with_names(&blame, &names))
    }

    fn with_names(blame: &Blame, names: &Names<'_>) -> Self {
        let holders = |holders: &[Holder]| -> Vec<HolderReport> {
            holders.iter().map(|it| names.holder(it)).collect()
        };
        let top = |top: &crate::model::blame::TopPin| TopReport {
            heap: top.heap,
            arena: top.arena,
            name: names.called(top.culprit),
            chunks: top.chunks,
            behind_bytes: top.behind_bytes,
        };
        let stranded = |arena: &crate::model::blame::StrandedArena| StrandedReport {
            heap: arena.heap,
            arena: arena.arena,
            resident_bytes: arena.resident_bytes,
            holders: holders(&arena.holders),
        };
        Self {
            at_ns: blame.at_ns,
            page_bytes: blame.page_bytes,
            trapped_bytes: blame.trapped_bytes,
            returnable_bytes: blame.returnable_bytes,
            live_bytes: blame.live_bytes,
            traced_bytes: blame.traced_bytes,
            coverage: blame.coverage(),
            left_out_bytes: blame.left_out_bytes,
            culprits: blame.shares.iter().take(MOST_CULPRITS).map(|it| names.culprit(it)).collect(),
            tops: blame.tops.iter().map(top).collect(),
            stranded: blame.stranded.iter().map(stranded).collect(),
            huge: blame.huge.as_ref().map(|huge| HugeReport {
                page_bytes: huge.page_bytes,
                trapped_bytes: huge.trapped_bytes,
                holders: holders(&huge.shares),
            }),
        }
    }
}

/// What numbers of culprits stand for.
struct Names<'n> {
    by: GroupBy,
    /// What each site calls, and its stack.
    sites: Vec<(&'static str, &'n NamedStack)>,
    /// The group of each.
    slots: Vec<usize>,
}

/// Of sites whose stack is not known.
static NO_STACK: NamedStack = NamedStack { frames: Vec::new(), missing_root: None };

impl<'n> Names<'n> {
    fn of(capture: &'n Capture, by: GroupBy) -> Self {
        let stacks: HashMap<StackId, &NamedStack> =
            capture.stacks.iter().map(|(id, stack)| (*id, stack)).collect();
        let stack = |id: Option<StackId>| id.and_then(|id| stacks.get(&id).copied());
        let site = |site: &crate::capture::CapturedSite| {
            (site_function(site.function), stack(site.stack).unwrap_or(&NO_STACK))
        };
        let sites: Vec<_> = capture.sites.iter().map(site).collect();
        let (slots, _) = slots_of(by, sites.iter().copied());
        Self { by, sites, slots }
    }

    /// For each site the number of the culprit that it is part of.
    fn culprits(&self) -> Vec<u32> {
        self.slots.iter().map(|slot| *slot as u32).collect()
    }

    /// The number of a site's culprit.
    fn slot(&self, site: u32) -> u32 {
        self.slots.get(site as usize).map_or(site, |slot| *slot as u32)
    }
}

impl Names<'_> {
    fn called(&self, culprit: Culprit) -> CulpritName {
        let other = |kind, name: &str| CulpritName { kind, name: name.to_owned(), group: None };
        match culprit {
            Culprit::Site(slot) => self.site(slot as usize),
            Culprit::AllocatorCache => other(CulpritKind::AllocatorCache, "allocator cache"),
            Culprit::BeforeAttach => other(CulpritKind::BeforeAttach, "allocated before attach"),
            Culprit::NotSampled => other(CulpritKind::NotSampled, "not sampled"),
            Culprit::Allocator => other(CulpritKind::Allocator, "the allocator itself"),
        }
    }

    /// A group is called by the first of its sites.
    fn site(&self, slot: usize) -> CulpritName {
        let first = self.slots.iter().position(|of_site| *of_site == slot);
        let group = first.map(|at| {
            let (function, stack) = self.sites[at];
            GroupName::of(self.by, function, stack)
        });
        let name = group.as_ref().map(|group| frame_name(&group.frame())).unwrap_or_default();
        CulpritName { kind: CulpritKind::Site, name, group }
    }

    fn holder(&self, holder: &Holder) -> HolderReport {
        HolderReport { name: self.called(holder.culprit), bytes: holder.chunk_bytes }
    }

    fn culprit(&self, share: &Share) -> CulpritReport {
        CulpritReport {
            name: self.called(share.culprit),
            trapped_bytes: share.trapped_bytes,
            exclusive_bytes: share.exclusive_bytes,
            drop_bytes: share.drop_bytes,
            chunk_bytes: share.chunk_bytes,
            chunks: share.chunks,
            resident_bytes: share.resident_bytes,
            pin_ratio: share.pin_ratio(),
            pins: share.pins,
            median_age_ns: share.median_age_ns,
            oldest_age_ns: share.oldest_age_ns,
            neighbours: Vec::new(),
        }
    }
}
