//! A simulated program with several threads and a real allocator's habit of handing out freed
//! memory at once. It keeps its own books, as the live tests' target does: with no loss, the
//! ledger's must be equal.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};

use super::*;

const TIDS: u32 = 3;

/// What a thread does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Malloc {
        size_bytes: u64,
    },
    /// Of one of the program's blocks, by position.
    Free {
        which: usize,
    },
    /// The first step enters, the next one of the thread returns.
    Realloc {
        which: usize,
        size_bytes: u64,
        fails: bool,
    },
}

/// A realloc between its two halves.
#[derive(Clone, Copy)]
struct Inside {
    old_address: u64,
    /// Bytes, and who obtained it.
    old: (u64, AllocFn),
    size_bytes: u64,
    fails: bool,
}

#[derive(Default)]
struct Program {
    /// Blocks that no call is inside of.
    blocks: BTreeMap<u64, (u64, AllocFn)>,
    inside: BTreeMap<u32, Inside>,
    free_addresses: BTreeSet<u64>,
    next_address: u64,
    allocated: BTreeMap<AllocFn, Amount>,
    freed: BTreeMap<AllocFn, Amount>,
}

impl Program {
    /// The lowest free address, as likely to be one that was freed just now.
    fn obtain(&mut self, size_bytes: u64, function: AllocFn) -> u64 {
        self.next_address += 1;
        let address = self.free_addresses.pop_first().unwrap_or(self.next_address);
        self.blocks.insert(address, (size_bytes, function));
        *self.allocated.entry(function).or_default() += Amount::one(size_bytes);
        address
    }

    fn give_back(&mut self, address: u64, size_bytes: u64, function: AllocFn) {
        self.free_addresses.insert(address);
        *self.freed.entry(function).or_default() += Amount::one(size_bytes);
    }

    fn pick(&mut self, which: usize) -> Option<(u64, (u64, AllocFn))> {
        let position = which.checked_rem(self.blocks.len())?;
        let address = *self.blocks.keys().nth(position)?;
        Some((address, self.blocks.remove(&address)?))
    }

    fn step(&mut self, tid: u32, step: Step, trace: &mut Trace) {
        if let Some(inside) = self.inside.remove(&tid) {
            return self.return_from_realloc(tid, inside, trace);
        }
        match step {
            Step::Malloc { size_bytes } => {
                let address = self.obtain(size_bytes, AllocFn::Malloc);
                let action = Action::Alloc { address, size_bytes, stack: A };
                trace.by(tid, AllocFn::Malloc, action);
            }
            Step::Free { which } => {
                if let Some((address, (size_bytes, function))) = self.pick(which) {
                    trace.by(tid, AllocFn::Free, Action::Free { address });
                    self.give_back(address, size_bytes, function);
                }
            }
            Step::Realloc { which, size_bytes, fails } => {
                if let Some((old_address, old)) = self.pick(which) {
                    let action = Action::ReallocBegin { old_address };
                    trace.by(tid, AllocFn::Realloc, action);
                    let fails = fails && size_bytes > 0;
                    if !fails {
                        // Inside realloc: from here on another thread can be handed the address.
                        self.give_back(old_address, old.0, old.1);
                    }
                    self.inside.insert(tid, Inside { old_address, old, size_bytes, fails });
                }
            }
        }
    }

    fn return_from_realloc(&mut self, tid: u32, inside: Inside, trace: &mut Trace) {
        let Inside { old_address, old, size_bytes, fails } = inside;
        let new_address = if fails {
            self.blocks.insert(old_address, old);
            0
        } else if size_bytes == 0 {
            0
        } else {
            self.obtain(size_bytes, AllocFn::Realloc)
        };
        let action = Action::ReallocEnd { old_address, new_address, size_bytes, stack: A };
        trace.by(tid, AllocFn::Realloc, action);
    }

    fn finish(&mut self, trace: &mut Trace) {
        for tid in 0..TIDS {
            if self.inside.contains_key(&tid) {
                self.step(tid, Step::Malloc { size_bytes: 0 }, trace);
            }
        }
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let size = || prop_oneof![Just(0), 1..1000_u64];
    prop_oneof![
        size().prop_map(|size_bytes| Step::Malloc { size_bytes }),
        any::<usize>().prop_map(|which| Step::Free { which }),
        (any::<usize>(), size(), prop::bool::weighted(0.2))
            .prop_map(|(which, size_bytes, fails)| Step::Realloc { which, size_bytes, fails }),
    ]
}

proptest! {
    #[test]
    fn the_books_equal_those_of_the_program(steps in vec((0..TIDS, any_step()), 1..200)) {
        let mut program = Program::default();
        let mut trace = Trace::with(Limits { live_blocks: 1000, ..LIMITS }, START);
        for (tid, step) in steps {
            program.step(tid, step, &mut trace);
        }
        program.finish(&mut trace);
        for (_, entry) in trace.ledger.sites() {
            let function = entry.site.map(|site| site.function).expect("the table is not full");
            let of = |books: &BTreeMap<AllocFn, Amount>| {
                books.get(&function).copied().unwrap_or_default()
            };
            let stats = entry.account.stats();
            prop_assert_eq!(stats.allocated, of(&program.allocated));
            prop_assert_eq!(stats.freed, of(&program.freed));
        }
        let live: u64 = program.blocks.values().map(|(size_bytes, _)| size_bytes).sum();
        let count = program.blocks.len() as u64;
        prop_assert_eq!(trace.totals().heap.live, amount(live, count));
        prop_assert_eq!(trace.losses(), []);
        prop_assert_eq!(trace.totals().unmatched_frees, 0);
    }
}
