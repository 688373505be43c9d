//! What the ledger knows of groups of sites: their survivors, and how those came to be.

use crate::{
    analysis::pattern::pattern,
    ledger::{Ledger, SiteId},
    model::site::Survivors,
    report::{GroupBy, GroupFacts, SiteInput, group_slots},
};

/// The groups whose survivors' pattern is looked for: those with the most bytes. Each takes about
/// 40 KB while it is.
const PATTERNS: usize = 64;

/// In the order of [`group_slots`]. `ids` are the ledger's of `sites`, in ascending order.
pub(super) fn group_facts(
    ledger: &Ledger,
    by: GroupBy,
    sites: &[SiteInput],
    ids: &[SiteId],
    now_ns: u64,
    min_age_ns: u64,
) -> Vec<GroupFacts> {
    let (slots, count) = group_slots(by, sites);
    let mut slot_by_id = vec![0; ids.last().map_or(0, |id| id.index() + 1)];
    for (id, slot) in ids.iter().zip(&slots) {
        slot_by_id[id.index()] = *slot;
    }
    let slot_of = |id: SiteId| slot_by_id[id.index()];
    let mut facts = vec![GroupFacts::default(); count];
    for (slot, survivors) in ledger.survivors_by(slot_of, count, now_ns, min_age_ns) {
        facts[slot].survivors = survivors;
    }
    let largest = largest(&facts);
    let mut places = vec![None; count];
    for (place, slot) in largest.iter().enumerate() {
        places[*slot] = Some(place);
    }
    let survivors: Vec<Survivors> = largest.iter().map(|slot| facts[*slot].survivors).collect();
    let births = ledger.births(|id| places[slot_of(id)], &survivors, now_ns, min_age_ns);
    let (from_ns, to_ns) = (ledger.start().time_ns, now_ns.saturating_sub(min_age_ns));
    for (slot, bursts) in largest.into_iter().zip(&births) {
        facts[slot].pattern = Some(pattern(bursts, from_ns, to_ns));
    }
    facts
}

/// The groups with the most bytes, as far as they have any survivors.
fn largest(facts: &[GroupFacts]) -> Vec<usize> {
    let survivors = |slot: usize| facts[slot].survivors.amount;
    let mut slots: Vec<usize> =
        (0..facts.len()).filter(|slot| survivors(*slot).count > 0).collect();
    slots.sort_by_key(|slot| std::cmp::Reverse((survivors(*slot).bytes, survivors(*slot).count)));
    slots.truncate(PATTERNS);
    slots
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        ledger::{Limits, Start},
        model::{
            AllocFn,
            event::{Action, Event},
            growth::GrowthPattern,
            stack::{Frame, NamedStack, StackId},
        },
    };

    const SECOND: u64 = 1_000_000_000;

    fn ledger(blocks: impl Iterator<Item = (u64, u64, u64)>) -> Ledger {
        let limits = Limits { live_blocks: 1000, live_ranges: 10, sites: 100 };
        let start = Start { time_ns: 0, initial_break: None, page_bytes: 4096 };
        let mut ledger = Ledger::new(limits, start);
        for (address, (stack, time_ns, size_bytes)) in (1..).zip(blocks) {
            let stack = StackId(stack);
            let action = Action::Alloc { address, size_bytes, stack };
            let function = AllocFn::Malloc;
            ledger.apply(&Event { function, tid: 1, time_ns, internal: false, action });
        }
        ledger
    }

    /// The site of a stack whose only function is `function`.
    fn site(function: &str) -> SiteInput {
        let frame = Frame { function: function.to_owned(), ..Frame::default() };
        SiteInput {
            function: Some(AllocFn::Malloc),
            stack: NamedStack { frames: vec![Arc::new(frame)], missing_root: None },
            stats: Default::default(),
            survivors: Survivors::default(),
            extras: Default::default(),
        }
    }

    #[test]
    fn the_survivors_of_a_line_are_told_over_all_of_its_stacks() {
        let steps = (0..6).map(|n| (1 + n % 2, n * 10 * SECOND, 1000));
        let once = (0..3).map(|n| (3, SECOND + n, 7));
        let ledger = ledger(steps.chain(once));
        let sites = ["load", "load", "init"].map(site);
        let ids: Vec<SiteId> = ledger.sites().map(|(id, _)| id).collect();
        let facts = group_facts(&ledger, GroupBy::Line, &sites, &ids, 60 * SECOND, 0);
        let [load, init] = facts[..] else { panic!("{facts:?}") };
        let interval_ns = 10 * SECOND;
        let expected = GrowthPattern::Steps { count: 6, step_bytes: 1000, interval_ns };
        assert_eq!((load.pattern, load.survivors.amount.count), (Some(expected), 6));
        assert_eq!(init.pattern, Some(GrowthPattern::Once));
        let by_stack = group_facts(&ledger, GroupBy::Stack, &sites, &ids, 60 * SECOND, 0);
        assert_eq!(by_stack.len(), 2, "names that are equal are one stack");
    }

    #[test]
    fn a_window_without_allocations_has_no_groups() {
        assert_eq!(group_facts(&ledger([].into_iter()), GroupBy::Line, &[], &[], 9, 0), []);
    }
}
