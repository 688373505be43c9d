//! Places that are taken together.

use serde::Serialize;

use super::{Change, Rate, SiteChange, order};
use crate::{
    model::site::Amount,
    report::{GroupBy, GroupName, slots_of},
};

/// Places that share a line, a function or whatever was asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupChange {
    /// What they share. Where lines do not tell places apart, the line is that of all its stacks in
    /// the second capture; it is left out where they have several.
    #[serde(flatten)]
    pub name: GroupName,
    /// What they weigh together.
    #[serde(flatten)]
    pub change: Change,
    /// The same by time.
    #[serde(flatten)]
    pub rate: Rate,
    /// How many places they are.
    pub sites: u64,
    /// Index in [`super::Diff::sites`] of the one whose bytes changed the most.
    pub largest_site: usize,
}

/// What grew the most first.
pub(super) fn groups(by: GroupBy, sites: &[SiteChange], windows_ns: [u64; 2]) -> Vec<GroupChange> {
    let identities = sites.iter().map(|site| (site.function, &site.identity));
    let (slots, count) = slots_of(by, identities);
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); count];
    slots.iter().enumerate().for_each(|(site, slot)| members[*slot].push(site));
    let mut groups: Vec<GroupChange> =
        members.iter().filter_map(|members| group(by, sites, members, windows_ns)).collect();
    groups.sort_by(|a, b| order(&a.change).cmp(&order(&b.change)).then(a.name.cmp(&b.name)));
    groups
}

fn group(
    by: GroupBy,
    sites: &[SiteChange],
    members: &[usize],
    windows_ns: [u64; 2],
) -> Option<GroupChange> {
    let largest_site =
        members.iter().copied().max_by_key(|at| sites[*at].change.growth_bytes.unsigned_abs())?;
    let sum = |of: fn(&Change) -> Amount| {
        members.iter().fold(Amount::default(), |mut sum, at| {
            sum += of(&sites[*at].change);
            sum
        })
    };
    let change = Change::new(sum(|it| it.before), sum(|it| it.after));
    Some(GroupChange {
        name: name(by, sites, members, &sites[largest_site]),
        change,
        rate: Rate::new(&change, windows_ns),
        sites: members.len() as u64,
        largest_site,
    })
}

fn name(by: GroupBy, sites: &[SiteChange], members: &[usize], largest: &SiteChange) -> GroupName {
    let of = |site: &SiteChange| GroupName::of(by, site.function, &site.stack);
    let mut name = of(largest);
    if members.iter().any(|at| of(&sites[*at]).line != name.line) {
        name.line = None;
    }
    name
}
