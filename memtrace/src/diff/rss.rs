//! The table of what RSS is made of, row by row.

use serde::Serialize;

use crate::{
    model::census::{OpaqueAllocator, RssKind, RssTable},
    report::Report,
};

/// The closing tables of both windows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RssChange {
    /// RSS of the first.
    pub before_bytes: u64,
    /// Of the second.
    pub after_bytes: u64,
    /// What grew the most first. They add up to the two above.
    pub rows: Vec<RssRowChange>,
    /// The allocators of the second that are not looked into.
    #[serde(skip)]
    pub opaque: Vec<OpaqueAllocator>,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RssRowChange {
    /// What for.
    pub kind: RssKind,
    /// Resident bytes in the first.
    pub before_bytes: i64,
    /// In the second.
    pub after_bytes: i64,
    /// The difference.
    pub growth_bytes: i64,
}

impl RssChange {
    /// `None` where either heap was not walked.
    pub(super) fn of(before: &Report, after: &Report) -> Option<Self> {
        let (old, new) = (before.rss_table.as_ref()?, after.rss_table.as_ref()?);
        let heaps = [&after.heap, &before.heap];
        let opaque = heaps.iter().filter_map(|heap| heap.as_ref().map(|heap| &heap.opaque));
        Some(Self {
            before_bytes: old.rss_bytes,
            after_bytes: new.rss_bytes,
            rows: rows(old, new),
            opaque: opaque.flatten().cloned().collect(),
        })
    }
}

fn rows(old: &RssTable, new: &RssTable) -> Vec<RssRowChange> {
    let mut kinds: Vec<RssKind> = old.rows.iter().chain(&new.rows).map(|row| row.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let row = |kind| {
        let (before_bytes, after_bytes) = (old.bytes(kind), new.bytes(kind));
        let growth_bytes = after_bytes.wrapping_sub(before_bytes);
        RssRowChange { kind, before_bytes, after_bytes, growth_bytes }
    };
    let mut rows: Vec<_> = kinds.into_iter().map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.growth_bytes));
    rows
}
