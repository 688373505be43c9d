//! Two captures side by side: which places of the program hold more than before. Renderers turn it
//! into text, JSON, a page or a picture and compute nothing.
//!
//! The serialized form is the JSON schema `memtrace-diff/1`, documented in docs/diff.md. Fields are
//! added freely; a field that changes its meaning or goes away raises the version.

mod change;
mod groups;
mod matching;
mod notes;
mod rss;
mod side;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;

use serde::Serialize;

pub use self::{
    change::{Change, Rate, Status},
    groups::GroupChange,
    rss::{RssChange, RssRowChange},
    side::Side,
};
use self::{groups::groups, matching::Matched};
use crate::{
    model::{site::Amount, stack::NamedStack},
    report::{GroupBy, Report, SiteReport, View},
};

/// The value of [`Diff::schema`].
pub const SCHEMA: &str = "memtrace-diff/1";

/// How two captures are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiffOptions {
    /// What places are taken together by.
    pub group_by: GroupBy,
    /// Two lines of a function are two places. Lines move when a source is edited.
    pub lines: bool,
}

/// The second capture against the first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// What places are weighed by.
    pub view: View,
    /// What they are taken together by in `groups`.
    pub grouped_by: GroupBy,
    /// Lines tell places apart.
    pub lines: bool,
    /// The first.
    pub before: Side,
    /// The second.
    pub after: Side,
    /// What makes them less comparable than they look, as sentences.
    pub warnings: Vec<String>,
    /// The windows differ so much in length that rates say more than bytes.
    pub lengths_differ: bool,
    /// All places together: the sum of `sites`.
    pub total: Change,
    /// The same by time.
    pub total_rate: Rate,
    /// What RSS was made of near the end of each; `None` where either was not looked at.
    pub rss_table: Option<RssChange>,
    /// Places taken together, what grew the most first. Those without anything in the view are left
    /// out.
    pub groups: Vec<GroupChange>,
    /// Every place with anything in the view, what grew the most first.
    pub sites: Vec<SiteChange>,
}

/// A place of the program that allocates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SiteChange {
    /// The function that the stack calls.
    pub function: &'static str,
    /// Leaf first. Where several stacks are one place, the one that weighs the most, of the second
    /// capture if it is there.
    pub stack: NamedStack,
    /// Index in the stack of the frame to look at first.
    pub key_frame: Option<usize>,
    /// What it weighs.
    #[serde(flatten)]
    pub change: Change,
    /// What places are the same, whatever their lines: the stack that stands for them.
    #[serde(skip)]
    pub(crate) identity: NamedStack,
}

/// A report, and what it is called.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// E.g. the file.
    pub name: &'a str,
    /// Of the whole capture or a part, in the same view as the other.
    pub report: &'a Report,
}

impl Diff {
    /// The difference of two reports.
    pub fn of(before: Named<'_>, after: Named<'_>, options: DiffOptions) -> Self {
        let sides = [before, after].map(|side| Side::of(side.name, side.report));
        let windows_ns = sides.each_ref().map(|side| side.window.duration_ns);
        let (before, after) = (before.report, after.report);
        let sites = sites(before, after, options.lines);
        let total = Change::new(before.weight(), after.weight());
        let [side_before, side_after] = sides;
        Self {
            schema: SCHEMA,
            view: after.view,
            grouped_by: options.group_by,
            lines: options.lines,
            before: side_before,
            after: side_after,
            warnings: notes::warnings(before, after),
            lengths_differ: notes::lengths_differ(before, after),
            total,
            total_rate: Rate::new(&total, windows_ns),
            rss_table: RssChange::of(before, after),
            groups: groups(options.group_by, &sites, windows_ns),
            sites,
        }
    }

    /// How many groups have this status.
    pub fn count(&self, status: Status) -> u64 {
        self.groups.iter().filter(|group| group.change.status == status).count() as u64
    }
}

fn sites(before: &Report, after: &Report, lines: bool) -> Vec<SiteChange> {
    let views = [before.view, after.view];
    let places = matching::matched(before, after, lines);
    let mut sites: Vec<SiteChange> = places
        .iter()
        .filter_map(|place| site(place, views, lines))
        .filter(|site| !site.change.is_nothing())
        .collect();
    sites.sort_by(|a, b| order(&a.change).cmp(&order(&b.change)).then(a.stack.cmp(&b.stack)));
    sites
}

/// What grew the most first; among what did not, what is the most.
fn order(change: &Change) -> impl Ord + use<> {
    Reverse((change.growth_bytes, change.growth_count, change.after.bytes))
}

fn site(place: &Matched<'_>, [before, after]: [View; 2], lines: bool) -> Option<SiteChange> {
    let largest = largest(&place.after, after).or_else(|| largest(&place.before, before))?;
    let identity = place.sites().map(|site| matching::without_lines(&site.stack, lines)).min()?;
    Some(SiteChange {
        function: largest.function,
        stack: largest.stack.clone(),
        key_frame: largest.key_frame,
        change: Change::new(weight(&place.before, before), weight(&place.after, after)),
        identity,
    })
}

fn largest<'a>(sites: &[&'a SiteReport], view: View) -> Option<&'a SiteReport> {
    sites.iter().copied().min_by_key(|site| (Reverse(site.weight(view).bytes), &site.stack))
}

fn weight(sites: &[&SiteReport], view: View) -> Amount {
    sites.iter().fold(Amount::default(), |mut sum, site| {
        sum += site.weight(view);
        sum
    })
}
