//! What must be known of all events before the first of them is replayed.

use hashbrown::HashMap;

use crate::{
    capture::KeptEvent,
    model::{AllocFn, event::Action, site::Amount, stack::StackId},
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
    /// Mappings that the program made, and not its allocators: they are not replayed.
    pub mappings: Amount,
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

/// Whether no allocator made it for its own heap.
fn is_of_program(kept: &KeptEvent) -> bool {
    !kept.event.internal && !kept.is_arena
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
            Action::Map { length_bytes, .. } if is_of_program(kept) => {
                return self.mappings += Amount::one(length_bytes);
            }
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
    use super::{
        super::testing::{alloc_by, event},
        *,
    };

    #[test]
    fn mappings_of_the_program_are_counted_and_those_of_allocators_are_not() {
        let map = |length_bytes| {
            let (address, stack) = (1 << 30, StackId(1));
            let action = Action::Map { address, length_bytes, prot: 3, map_flags: 0x22, stack };
            event(1, AllocFn::Mmap, 0, action)
        };
        let mut survey = Survey::default();
        survey.visit(&map(4096));
        let (mut arena, mut internal) = (map(1 << 18), map(1 << 26));
        (arena.is_arena, internal.event.internal) = (true, true);
        [arena, internal].iter().for_each(|event| survey.visit(event));
        assert_eq!((survey.mappings, survey.calls), (Amount::one(4096), 0));
    }

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
