//! What the page's scripts are given: the report with its sites laid out for them.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{
    frames::{Frames, Strings},
    pins::{Pins, arena_pin_names, pins},
    sites::Sites,
    tree::{self, Tree},
};
use crate::{
    model::{
        census::{RssKind, RssTable},
        cost::Cost,
        size::Units,
        timeline::Timeline,
        verdict::Verdict,
    },
    render::{
        estimate,
        label::{end_reason, pattern, place},
        text::rss_table,
    },
    report::{
        ArenaPinsReport, Births, Completeness, Distribution, GroupBy, GroupReport, HeapReport,
        Report, Rss, Sampling, SiteReport, Survivors, Target, ThreadShare, Totals, View, Window,
    },
};

/// The value of [`Page::schema`].
const SCHEMA: &str = "memtrace-page/1";

/// Of more groups than these, the page tells what follows from their sites.
const GROUPS: usize = 200;

/// All of it. The fields of a report are as docs/report-json.md describes them; docs/html.md
/// describes the others.
#[derive(Serialize)]
pub(super) struct Page<'a> {
    schema: &'static str,
    version: &'static str,
    target: &'a Target,
    /// Container and limit, in words.
    place: Option<String>,
    window: &'a Window,
    ended: &'static str,
    rss: &'a Rss,
    rss_table: &'a Option<RssTable>,
    rss_table_before: &'a Option<RssTable>,
    rss_labels: BTreeMap<RssKind, String>,
    heap: &'a Option<HeapReport>,
    pins: Vec<Pins>,
    arena_pins: &'a Option<ArenaPinsReport>,
    arena_pin_names: Vec<String>,
    timeline: &'a Timeline,
    verdict: &'a Option<Verdict>,
    summary: &'a [String],
    sampling: &'a Option<Sampling>,
    /// In words; nothing where no number is an estimate.
    sampled: Option<String>,
    totals: &'a Totals,
    sizes: &'a Option<Distribution>,
    lifetimes: &'a Option<Distribution>,
    completeness: &'a Completeness,
    view: View,
    views: BTreeMap<View, &'static str>,
    grouped_by: GroupBy,
    births: &'a Births,
    groups: Vec<Group<'a>>,
    threads: &'a [ThreadShare],
    cost: &'a Option<Cost>,
    strings: Strings<'a>,
    frames: Frames<'a>,
    tree: Tree,
    sites: Sites,
}

/// What does not follow from a group's sites.
#[derive(Serialize)]
struct Group<'a> {
    /// One of its sites, by its place in the columns.
    site: usize,
    /// In words.
    pattern: Option<String>,
    survivors: &'a Survivors,
}

impl<'a> Page<'a> {
    pub(super) fn of(report: &'a Report) -> Self {
        let mut frames = Frames::new();
        let mut tree = Tree::default();
        let stacks = tree::stacks(&mut frames, &report.sites);
        stacks.iter().for_each(|(stack, _)| tree.add(stack));
        let sites = Sites::of(stacks.iter().map(|(_, site)| *site));
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            target: &report.target,
            place: place(&report.place, Units::Auto),
            window: &report.window,
            ended: end_reason(report.window.ended_by),
            rss: &report.rss,
            rss_table: &report.rss_table,
            rss_table_before: &report.rss_table_before,
            rss_labels: rss_labels(report),
            heap: &report.heap,
            pins: pins(&report.pinned_cells),
            arena_pins: &report.arena_pins,
            arena_pin_names: arena_pin_names(report.arena_pins.as_ref()),
            timeline: &report.timeline,
            verdict: &report.verdict,
            summary: &report.summary,
            sampling: &report.sampling,
            sampled: estimate::explanation(report),
            totals: &report.totals,
            sizes: &report.sizes,
            lifetimes: &report.lifetimes,
            completeness: &report.completeness,
            view: report.view,
            views: View::ALL.map(|view| (view, view.label())).into(),
            grouped_by: report.grouped_by,
            births: &report.births,
            groups: groups(report, &stacks),
            threads: &report.threads,
            cost: &report.cost,
            strings: frames.take_strings(),
            frames,
            tree,
            sites,
        }
    }
}

fn rss_labels(report: &Report) -> BTreeMap<RssKind, String> {
    let opaque = report.heap.as_ref().map_or(&[][..], |heap| &heap.opaque);
    let tables = [&report.rss_table, &report.rss_table_before];
    let rows = tables.into_iter().flatten().flat_map(|table| &table.rows);
    rows.map(|row| (row.kind, rss_table::label(row.kind, opaque))).collect()
}

fn groups<'a>(report: &'a Report, stacks: &[(Vec<u32>, &'a SiteReport)]) -> Vec<Group<'a>> {
    let place_of =
        |(place, (_, site)): (usize, &(_, &'a SiteReport))| (std::ptr::from_ref(*site), place);
    let places: HashMap<*const SiteReport, usize> =
        stacks.iter().enumerate().map(place_of).collect();
    let group = |group: &'a GroupReport| {
        let site = places.get(&std::ptr::from_ref(report.sites.get(group.largest_site)?))?;
        let pattern = group.pattern.and_then(pattern);
        Some(Group { site: *site, pattern, survivors: &group.survivors })
    };
    report.groups.iter().take(GROUPS).filter_map(group).collect()
}
