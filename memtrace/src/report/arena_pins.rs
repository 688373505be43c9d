//! Whose small objects keep CPython's arenas.

use serde::Serialize;

use super::{
    build::SiteInput,
    group::{GroupBy, GroupName, group_slots},
    site_function,
};
use crate::{
    analysis::arena_pins::{ArenaPins, OwnedBlock, Pinned, UnownedClass, pinned},
    capture::Capture,
    model::{AllocFn, layout::HeapLayout, site::LiveItem},
};

/// No more places than these are told.
const PLACES: usize = 100;

/// What of arenas is free and kept, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ArenaPinsReport {
    /// Arenas that are there.
    pub arenas: u64,
    /// Their free bytes that are in memory and kept: those of `places` (beyond the hundred first,
    /// too) and `unowned`.
    pub trapped_bytes: u64,
    /// Whether calls of CPython's allocator were traced (`--pymalloc`).
    pub is_traced: bool,
    /// By what sites are taken together by, most trapped first.
    pub places: Vec<ArenaPlace>,
    /// Blocks from before the window, or that were not traced.
    pub unowned: ArenaPins,
    /// The same by size, most trapped first.
    pub unowned_sizes: Vec<UnownedClass>,
}

/// Blocks that were obtained at one place.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ArenaPlace {
    /// Where.
    #[serde(flatten)]
    pub name: GroupName,
    /// What they keep.
    #[serde(flatten)]
    pub pins: ArenaPins,
    /// Bytes trapped for each byte of the blocks.
    pub pin_ratio: f64,
    /// Age of the oldest at the end.
    pub oldest_age_ns: u64,
    /// Median age at the end.
    pub median_age_ns: u64,
}

impl ArenaPinsReport {
    /// `None` where there are no arenas, or it is not known where their pools lie.
    pub(super) fn of(capture: &Capture, by: GroupBy, sites: &[SiteInput]) -> Option<Self> {
        let layout = capture.layouts.after.as_deref().filter(|it| !it.pymalloc.is_empty())?;
        let (slots, count) = group_slots(by, sites);
        let slot_of = |item: &LiveItem| slots.get(item.site as usize).copied();
        let pinned = pinned(layout, &owned(layout, &capture.live, slot_of), count);
        let mut ages = vec![Vec::new(); count];
        for item in in_arenas(layout, &capture.live) {
            if let Some(slot) = slot_of(item) {
                ages[slot].push(item.age_ns(capture.ending.closed_ns));
            }
        }
        Some(Self {
            arenas: layout.pymalloc.len() as u64,
            trapped_bytes: pinned.trapped_bytes,
            is_traced: sites.iter().any(|site| site.function.is_some_and(is_of_python)),
            places: places(by, sites, &slots, &pinned, ages),
            unowned: pinned.unowned,
            unowned_sizes: pinned.classes,
        })
    }
}

/// What each site's blocks keep, and what those of no site do.
pub(super) fn by_site(capture: &Capture) -> Option<Pinned> {
    let layout = capture.layouts.after.as_deref()?;
    let sites = capture.sites.len();
    let blocks = owned(layout, &capture.live, |item| Some(item.site as usize));
    Some(pinned(layout, &blocks, sites))
}

fn is_of_python(function: AllocFn) -> bool {
    function.name().starts_with("Py")
}

fn in_arenas<'c>(
    layout: &HeapLayout,
    live: &'c [LiveItem],
) -> impl Iterator<Item = &'c LiveItem> + use<'c> {
    let start = layout.pymalloc.first().map_or(0, |arena| arena.extent.start);
    let end = layout.pymalloc.last().map_or(0, |arena| arena.extent.end);
    live.iter().filter(move |item| (start..end).contains(&item.address))
}

fn owned(
    layout: &HeapLayout,
    live: &[LiveItem],
    owner_of: impl Fn(&LiveItem) -> Option<usize>,
) -> Vec<OwnedBlock> {
    let owned = |item: &LiveItem| {
        let owner = u32::try_from(owner_of(item)?).ok()?;
        Some(OwnedBlock { address: item.address, owner })
    };
    let mut blocks: Vec<OwnedBlock> = in_arenas(layout, live).filter_map(owned).collect();
    blocks.sort_unstable();
    blocks
}

fn places(
    by: GroupBy,
    sites: &[SiteInput],
    slots: &[usize],
    pinned: &Pinned,
    ages: Vec<Vec<u64>>,
) -> Vec<ArenaPlace> {
    let mut places: Vec<ArenaPlace> = pinned
        .owners
        .iter()
        .zip(ages)
        .enumerate()
        .filter(|(_, (pins, _))| pins.trapped_bytes > 0 || pins.drop_bytes > 0)
        .filter_map(|(slot, (pins, ages))| {
            let site = &sites[slots.iter().position(|of_site| *of_site == slot)?];
            let name = GroupName::of(by, site_function(site.function), &site.stack);
            Some(place(name, *pins, ages))
        })
        .collect();
    let weight = |place: &ArenaPlace| (place.pins.trapped_bytes, place.pins.drop_bytes);
    places.sort_by(|one, other| {
        weight(other).cmp(&weight(one)).then_with(|| one.name.cmp(&other.name))
    });
    places.truncate(PLACES);
    places
}

fn place(name: GroupName, pins: ArenaPins, mut ages: Vec<u64>) -> ArenaPlace {
    ages.sort_unstable();
    ArenaPlace {
        name,
        pins,
        pin_ratio: pins.trapped_bytes as f64 / pins.live.bytes.max(1) as f64,
        oldest_age_ns: ages.last().copied().unwrap_or(0),
        median_age_ns: ages.get(ages.len() / 2).copied().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        capture::{CapturedSite, Ending, Layouts},
        model::{
            census::Extent,
            layout::{PoolLayout, PymallocArenaLayout},
            stack::{NamedStack, StackId},
        },
        report::{Report, ReportOptions, View, sample::python_frame},
    };

    const START: u64 = 0x7000_0000;
    const ARENA: u64 = 256 << 10;

    /// An arena that a block of `cache.py:7` keeps, and a few of which nothing is known.
    pub(crate) fn capture() -> Capture {
        let stack = |line| NamedStack {
            frames: vec![python_frame("put", "/srv/cache.py", line)],
            missing_root: None,
        };
        let site = |stack| CapturedSite {
            stack: Some(StackId(stack)),
            function: Some(AllocFn::PyObjectMalloc),
            ..CapturedSite::default()
        };
        let pools =
            vec![PoolLayout::used(START, 64, 1, 63), PoolLayout::used(START + 4096, 512, 3, 7)];
        let extent = Extent { start: START, end: START + ARENA };
        let layout = HeapLayout {
            page_bytes: 4096,
            pymalloc: vec![PymallocArenaLayout { extent, pool_bytes: 4096, pools }],
            resident: vec![extent],
            ..HeapLayout::default()
        };
        let live = LiveItem { address: START + 48, bytes: 60, time_ns: 4, ..LiveItem::default() };
        Capture {
            stacks: vec![(StackId(1), stack(7)), (StackId(2), stack(9))],
            sites: vec![site(1), site(2)],
            live: vec![live, LiveItem { address: 0x1000, site: 1, ..live }],
            layouts: Layouts { before: None, after: Some(Arc::new(layout)) },
            ending: Ending { closed_ns: 10, ..Ending::default() },
            ..Capture::default()
        }
    }

    #[test]
    fn the_line_that_keeps_an_arena_is_named() {
        let report = Report::of(&capture(), ReportOptions::default());
        let pins = report.arena_pins.expect("it is known where pools lie");
        let [place] = &pins.places[..] else { panic!("{:?}", pins.places) };
        assert_eq!((place.name.line, place.pins.live.count), (Some(7), 1));
        assert_eq!((place.oldest_age_ns, place.median_age_ns), (6, 6));
        assert_eq!(place.pin_ratio, place.pins.trapped_bytes as f64 / 64.0);
        assert_eq!(pins.trapped_bytes, place.pins.trapped_bytes + pins.unowned.trapped_bytes);
        assert!(pins.is_traced && pins.unowned_sizes[0].block_bytes == 512);
    }

    #[test]
    fn sites_and_the_rest_weigh_all_that_is_trapped_in_its_view() {
        let options = ReportOptions { view: View::Trapped, ..ReportOptions::default() };
        let report = Report::of(&capture(), options);
        assert_eq!(report.weight().bytes, report.arena_pins.as_ref().unwrap().trapped_bytes);
        let usual = Report::of(&capture(), ReportOptions::default());
        assert_eq!((report.sites.len(), usual.sites.len()), (3, 2));
        assert_eq!(usual.sites[0].trapped, None);
        let options = ReportOptions { with_trapped: true, ..ReportOptions::default() };
        let report = Report::of(&capture(), options);
        assert_eq!(report.sites[0].trapped.map(|it| it.count), Some(1));
    }

    #[test]
    fn what_is_in_memory_is_known_where_pages_are() {
        let options = ReportOptions { view: View::Resident, ..ReportOptions::default() };
        let report = Report::of(&capture(), options);
        assert_eq!((report.weight().bytes, report.weight().count), (60, 1));
        let unknown = Capture { layouts: Layouts::default(), ..capture() };
        let report = Report::of(&unknown, options);
        assert!(report.arena_pins.is_none() && report.sites[0].resident.is_none());
    }
}
