//! What must be known of all events before the first of them is replayed.

use hashbrown::HashMap;

use crate::{
    capture::KeptEvent,
    model::{AllocFn, event::Action, stack::StackId},
};

/// Alignments beyond this are chance: a huge page.
const MAX_EXPONENT: u32 = 21;

/// The exponent of a page, to which `valloc` and `pvalloc` align.
const PAGE_EXPONENT: u8 = 12;

/// What a look at all events tells.
#[derive(Debug, Default)]
pub struct Survey {
    /// Calls that are replayed.
    pub calls: u64,
    /// Calls of other allocators of the process, which are not.
    pub of_others: u64,
    /// Allocations that stand for more than themselves.
    pub samples: u64,
    /// Programs that were executed; what was before the last one is gone.
    pub execs: u64,
    /// When the last event happened, `CLOCK_MONOTONIC`.
    pub last_ns: u64,
    /// Of each thread, the first address that it got.
    first_address: HashMap<u32, u64>,
    /// Of each place that asks for an alignment, all addresses it got, by `or`.
    aligned: HashMap<(StackId, AllocFn), u64>,
}

/// Whether it is a call of the allocator that serves `malloc`, and not of the kernel.
pub(super) fn is_replayed(kept: &KeptEvent) -> bool {
    let event = &kept.event;
    event.object.position() == 0 && !event.internal
}

impl Survey {
    /// Takes the next event.
    pub fn visit(&mut self, kept: &KeptEvent) {
        let event = &kept.event;
        self.last_ns = self.last_ns.max(event.time_ns);
        let (address, stack) = match event.action {
            Action::Alloc { address, stack, .. } => (address, Some(stack)),
            Action::ReallocEnd { new_address, stack, .. } => (new_address, Some(stack)),
            Action::Free { address } => (address, None),
            Action::Exec => return self.execs += 1,
            _ => return,
        };
        if !is_replayed(kept) {
            return self.of_others += 1;
        }
        self.calls += 1;
        let Some(stack) = stack.filter(|_| address != 0) else { return };
        self.samples += u64::from(!event.interval.is_exact());
        self.first_address.entry(event.tid).or_insert(address);
        if asks_for_alignment(event.function) {
            *self.aligned.entry((stack, event.function)).or_default() |= address;
        }
    }

    /// Threads that obtained something, with the first address that they got.
    pub fn first_addresses(&self) -> impl Iterator<Item = (u32, u64)> {
        self.first_address.iter().map(|(tid, address)| (*tid, *address))
    }

    /// To which power of two a call aligns, where it asks for it: that of all addresses that its
    /// place ever got, because events do not have what was asked for.
    pub fn exponent(&self, stack: StackId, function: AllocFn) -> Option<u8> {
        match function {
            AllocFn::Valloc | AllocFn::Pvalloc => Some(PAGE_EXPONENT),
            _ => {
                let addresses = self.aligned.get(&(stack, function))?;
                Some(addresses.trailing_zeros().min(MAX_EXPONENT) as u8)
            }
        }
    }
}

fn asks_for_alignment(function: AllocFn) -> bool {
    matches!(
        function,
        AllocFn::Memalign
            | AllocFn::AlignedAlloc
            | AllocFn::PosixMemalign
            | AllocFn::MallocAligned
            | AllocFn::ZallocAligned
    )
}

#[cfg(test)]
mod tests {
    use super::{super::testing::alloc_by, *};

    #[test]
    fn an_alignment_is_what_all_addresses_of_a_place_have_in_common() {
        let mut survey = Survey::default();
        for address in [0x1040, 0x2080, 0x4000] {
            survey.visit(&alloc_by(AllocFn::AlignedAlloc, 1, address, 10));
        }
        let exponent = |function| survey.exponent(StackId(1), function);
        assert_eq!(exponent(AllocFn::AlignedAlloc), Some(6));
        assert_eq!(exponent(AllocFn::Valloc), Some(12));
        assert_eq!(exponent(AllocFn::Malloc), None);
        assert_eq!(survey.first_addresses().collect::<Vec<_>>(), [(1, 0x1040)]);
    }
}
