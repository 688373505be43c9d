//! Groups in a watched group that have a limit of their own, as containers of a pod and pods of a node have:
//! when it is reached the kernel kills there, however much the whole has left.

use std::collections::BTreeMap;

use super::{member::Members, target::LONGEST_GAP_NS};
use crate::{
    sys::cgroup::{Group, GroupUsage},
    trigger::{Bound, Condition, Look, Metric, Reading, Watchdog},
};

/// One of them.
pub(super) struct Inner {
    pub(super) group: Group,
    pub(super) usage: GroupUsage,
    pub(super) look: Look,
    watchdog: Watchdog,
    /// Nothing fires before.
    cool_until_ns: u64,
    looked_ns: u64,
}

/// All of them, by their paths.
pub(super) struct Inside {
    all: BTreeMap<String, Inner>,
    /// Those on a share of the limit: of all else, the whole has at least as much.
    conditions: Vec<Condition>,
}

impl Inside {
    pub(super) fn new(conditions: &[Condition]) -> Self {
        let is_share =
            |it: &&Condition| it.metric == Metric::Rss && matches!(it.bound, Bound::Share(_));
        Self {
            all: BTreeMap::new(),
            conditions: conditions.iter().filter(is_share).copied().collect(),
        }
    }

    /// Looks at those that somebody is in.
    pub(super) fn look(&mut self, watched: &Group, members: &Members, now_ns: u64) {
        for group in members.groups().flat_map(|it| it.limited_inside(watched)) {
            let known = self.all.get(group.name());
            if known.is_some_and(|inner| inner.looked_ns == now_ns) {
                continue;
            }
            // One that goes meanwhile is not looked at any more.
            if let Ok(Some(usage)) = group.usage() {
                self.take(group, usage, now_ns);
            }
        }
        self.all.retain(|_, inner| inner.looked_ns == now_ns);
    }

    fn take(&mut self, group: Group, usage: GroupUsage, now_ns: u64) {
        let inner = self.all.entry(group.name().to_owned()).or_insert_with(|| Inner {
            group,
            usage,
            look: Look::default(),
            watchdog: Watchdog::new(&self.conditions, LONGEST_GAP_NS),
            cool_until_ns: 0,
            looked_ns: now_ns,
        });
        inner.usage = usage;
        inner.looked_ns = now_ns;
        inner.look = inner.watchdog.look(&Reading {
            time_ns: now_ns,
            rss_bytes: usage.working_set_bytes,
            room_bytes: usage.limit_bytes,
            ..Reading::default()
        });
    }

    /// Which fires, and by what; the one that has the least time first.
    pub(super) fn due(&self, now_ns: u64) -> Option<(&str, Condition)> {
        let may_fire = self.all.iter().filter(|(_, inner)| inner.cool_until_ns <= now_ns);
        let firing = may_fire.filter_map(|(name, inner)| Some((name, inner, inner.look.firing?)));
        let first =
            firing.min_by_key(|(_, inner, _)| inner.look.time_to_limit_ns.unwrap_or(u64::MAX));
        first.map(|(name, _, firing)| (name.as_str(), firing.condition))
    }

    /// Nothing fires there before; whether there is such a group.
    pub(super) fn cool(&mut self, name: &str, until_ns: u64) -> bool {
        let inner = self.all.get_mut(name);
        inner.map(|inner| inner.cool_until_ns = until_ns).is_some()
    }

    /// Until the first of their limits is reached.
    pub(super) fn time_to_limit_ns(&self) -> Option<u64> {
        self.all.values().filter_map(|inner| inner.look.time_to_limit_ns).min()
    }

    /// Which has used most of what it may, and that share.
    pub(super) fn fullest(&self) -> Option<(&Inner, f64)> {
        let share = |inner: &Inner| {
            inner.usage.working_set_bytes as f64
                / inner.usage.limit_bytes.unwrap_or(u64::MAX) as f64
        };
        let shares = self.all.values().map(|inner| (inner, share(inner)));
        shares.max_by(|(_, one), (_, other)| one.total_cmp(other))
    }

    pub(super) fn get(&self, name: &str) -> Option<&Inner> {
        self.all.get(name)
    }

    pub(super) fn forget(&mut self) {
        self.all.clear();
    }
}
