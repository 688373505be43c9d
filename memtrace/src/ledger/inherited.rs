//! What a forked process got of its parent's live blocks, and what becomes of it.
//!
//! The two have the same blocks at the same addresses from the fork on, each its own: what one frees
//! is live in the other. The memory itself is shared until one of them writes to it.

use std::sync::Arc;

use hashbrown::HashMap;

use super::Ledger;
use crate::model::{
    event::{Action, Event},
    process::Inherited,
    site::Amount,
};

/// Most blocks that are followed in a child: they take about 20 bytes each.
const MAX_BLOCKS: u64 = 1 << 19;

/// A heap at a fork.
#[derive(Clone, Debug, Default)]
pub struct HeapAtFork {
    /// All live blocks.
    sum: Amount,
    /// Address and requested bytes of each; none where there were too many.
    blocks: Arc<[(u64, u64)]>,
}

impl HeapAtFork {
    /// The live blocks of a process, and what it inherited itself and still has.
    pub fn of(ledger: &Ledger, inherited: Option<&InheritedHeap>) -> Self {
        let mut sum = ledger.totals().heap.live;
        if let Some(inherited) = inherited {
            sum += inherited.report().live();
        }
        let is_known = inherited.is_none_or(|it| !it.report.is_sum_only);
        if sum.count > MAX_BLOCKS || !is_known {
            return Self { sum, blocks: Arc::default() };
        }
        let own = ledger.heap_blocks();
        let older = inherited.iter().flat_map(|it| &it.blocks).map(|(at, bytes)| (*at, *bytes));
        Self { sum, blocks: own.chain(older).collect() }
    }
}

/// The inherited blocks of a process.
#[derive(Clone, Debug)]
pub struct InheritedHeap {
    report: Inherited,
    /// Those that are still there: requested bytes by address.
    blocks: HashMap<u64, u64>,
}

impl InheritedHeap {
    /// What is there when a process begins.
    pub fn new(heap: &HeapAtFork) -> Self {
        let blocks: HashMap<u64, u64> = heap.blocks.iter().copied().collect();
        // Of samples the blocks are some, and the sum is an estimate.
        let is_all = heap.sum.is_exact() && blocks.len() as u64 == heap.sum.count;
        let is_sum_only = !is_all;
        let report = Inherited { at_fork: heap.sum, freed: Amount::default(), is_sum_only };
        let blocks = if is_sum_only { HashMap::new() } else { blocks };
        Self { report, blocks }
    }

    /// Takes note of what the process does. A new block at an inherited one's address proves that
    /// this one was freed, be it before anybody looked.
    pub fn see(&mut self, event: &Event) {
        match event.action {
            Action::Free { address } | Action::Alloc { address, .. } => self.free(address),
            Action::ReallocEnd { old_address, new_address, size_bytes, .. }
                if new_address != 0 || size_bytes == 0 =>
            {
                self.free(old_address);
                self.free(new_address);
            }
            Action::Exec => self.forget(),
            _ => {}
        }
    }

    /// What there is to say of it.
    pub fn report(&self) -> Inherited {
        self.report
    }

    fn free(&mut self, address: u64) {
        if let Some(bytes) = self.blocks.remove(&address) {
            self.report.freed += Amount::one(bytes);
        }
    }

    /// Another program: nothing of it is left.
    fn forget(&mut self) {
        self.blocks.clear();
        (self.report.freed, self.report.is_sum_only) = (self.report.at_fork, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AllocFn, stack::StackId};

    fn event(action: Action) -> Event {
        Event::of(AllocFn::Malloc, 1, 1, action)
    }

    fn alloc(address: u64, size_bytes: u64) -> Event {
        event(Action::Alloc { address, size_bytes, stack: StackId(1) })
    }

    fn parent() -> Ledger {
        let limits = crate::ledger::Limits { live_blocks: 16, live_ranges: 16, sites: 16 };
        let start = crate::ledger::Start { time_ns: 0, initial_break: None, page_bytes: 4096 };
        let mut ledger = Ledger::new(limits, start);
        for (address, bytes) in [(0x10, 100), (0x20, 200), (0x30, 300)] {
            ledger.apply(&alloc(address, bytes));
        }
        ledger
    }

    #[test]
    fn what_the_child_frees_is_no_longer_inherited_and_the_parent_has_it_still() {
        let parent = parent();
        let mut child = InheritedHeap::new(&HeapAtFork::of(&parent, None));
        child.see(&event(Action::Free { address: 0x20 }));
        child.see(&event(Action::Free { address: 0x20 }));
        let report = child.report();
        assert_eq!((report.at_fork, report.freed), (Amount::new(600, 3), Amount::one(200)));
        assert_eq!(report.live(), Amount::new(400, 2));
        assert_eq!(parent.totals().heap.live.count, 3);
    }

    #[test]
    fn a_new_block_at_an_inherited_ones_address_tells_of_a_free_that_nobody_saw() {
        let mut child = InheritedHeap::new(&HeapAtFork::of(&parent(), None));
        child.see(&alloc(0x30, 8));
        let moved = Action::ReallocEnd {
            old_address: 0x10,
            new_address: 0x90,
            size_bytes: 1,
            stack: StackId(1),
        };
        child.see(&event(moved));
        let failed = Action::ReallocEnd {
            old_address: 0x20,
            new_address: 0,
            size_bytes: 1,
            stack: StackId(1),
        };
        child.see(&event(failed));
        assert_eq!(child.report().live(), Amount::one(200));
    }

    #[test]
    fn a_grandchild_inherits_what_is_left_and_a_new_program_has_nothing() {
        let mut child = InheritedHeap::new(&HeapAtFork::of(&parent(), None));
        child.see(&event(Action::Free { address: 0x10 }));
        let limits = crate::ledger::Limits { live_blocks: 16, live_ranges: 16, sites: 16 };
        let start = crate::ledger::Start { time_ns: 0, initial_break: None, page_bytes: 4096 };
        let mut own = Ledger::new(limits, start);
        own.apply(&alloc(0x40, 7));
        let mut grandchild = InheritedHeap::new(&HeapAtFork::of(&own, Some(&child)));
        assert_eq!(grandchild.report().at_fork, Amount::new(507, 3));
        grandchild.see(&event(Action::Exec));
        assert_eq!(grandchild.report().live(), Amount::default());
    }
}
