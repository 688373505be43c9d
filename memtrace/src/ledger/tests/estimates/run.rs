//! What a program does, and what a ledger makes of those of its blocks that are drawn.

use memtrace_common::sample::Interval;

use super::{
    super::{A, B, START},
    mixes::{Mix, Random},
};
use crate::{
    ledger::{Ledger, Limits},
    model::{
        AllocFn,
        event::{Action, Event},
        site::{Amount, Site},
        stack::StackId,
    },
};

/// What is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    Allocated,
    Freed,
    Live,
    /// What one of the two sites has live.
    LiveOfSite,
}

impl Quantity {
    pub const ALL: [Self; 4] = [Self::Allocated, Self::Freed, Self::Live, Self::LiveOfSite];

    fn includes(self, block: &Block) -> bool {
        match self {
            Self::Allocated => true,
            Self::Freed => block.is_freed,
            Self::Live => !block.is_freed,
            Self::LiveOfSite => !block.is_freed && block.stack == A,
        }
    }
}

/// A block that a program asks for.
#[derive(Clone, Copy)]
struct Block {
    bytes: u64,
    stack: StackId,
    interval: Interval,
    is_freed: bool,
    /// The block before it is reallocated to this one.
    is_reallocated: bool,
}

/// Blocks in order.
pub struct Plan {
    mix: Mix,
    expected_samples: f64,
    blocks: Vec<Block>,
}

impl Plan {
    /// As many blocks as it takes for so many samples on average; a third of them is freed again.
    pub fn of(mix: Mix, interval: Interval, expected_samples: f64) -> Self {
        let (mut random, mut samples, mut blocks) = (Random::new(7), 0.0, Vec::new());
        while samples < expected_samples {
            let bytes = mix.size(&mut random);
            samples += interval.probability(bytes);
            let stack = if random.next().is_multiple_of(2) { A } else { B };
            let is_freed = random.next().is_multiple_of(3);
            blocks.push(Block { bytes, stack, interval, is_freed, is_reallocated: false });
        }
        Self { mix, expected_samples, blocks }
    }

    /// Every other block becomes the one after it.
    pub fn reallocating(mut self) -> Self {
        for pair in self.blocks.chunks_exact_mut(2) {
            (pair[0].is_freed, pair[1].is_reallocated) = (true, true);
        }
        self
    }

    /// Every block is looked at in the beginning, and then fewer and fewer are.
    pub fn changing(mut self) -> Self {
        let (all, exponent) = (self.blocks.len(), self.blocks[0].interval.exponent());
        for (at, block) in self.blocks.iter_mut().enumerate() {
            block.interval = match at * 20 / all {
                0 => Interval::EXACT,
                1..10 => Interval::from_exponent(exponent - 2),
                10.. => Interval::from_exponent(exponent),
            };
        }
        self
    }

    pub fn name(&self) -> String {
        format!("{:?} with {} samples", self.mix, self.expected_samples)
    }

    /// All blocks of a quantity.
    pub fn truth(&self, quantity: Quantity) -> Amount {
        let blocks = self.blocks.iter().filter(|block| quantity.includes(block));
        blocks.fold(Amount::default(), |mut sum, block| {
            sum += Amount::one(block.bytes);
            sum
        })
    }

    /// How many samples of equal weight would have the relative error that bytes and blocks have.
    pub fn information(&self, quantity: Quantity) -> (f64, f64) {
        let blocks = || self.blocks.iter().filter(|block| quantity.includes(block));
        let of = |value: fn(&Block) -> f64| {
            let sum: f64 = blocks().map(value).sum();
            let variance: f64 =
                blocks().map(|it| value(it).powi(2) * (it.interval.weight(it.bytes) - 1.0)).sum();
            // What is sure is no information on the rest.
            let unsure: f64 =
                blocks().map(|it| value(it) * (1.0 - it.interval.probability(it.bytes))).sum();
            unsure.min(sum).powi(2) / variance.max(f64::MIN_POSITIVE)
        };
        (of(|block| block.bytes as f64), of(|_| 1.0))
    }
}

/// The books of the blocks that were drawn with one seed.
pub struct Run {
    ledger: Ledger,
    interval: Interval,
}

impl Run {
    pub fn of(plan: &Plan, seed: u64) -> Self {
        let limits = Limits { live_blocks: 4096, live_ranges: 1, sites: 4 };
        let mut ledger = Ledger::new(limits, START);
        let mut random = Random::new(seed.wrapping_mul(1_000_003));
        let mut before = false;
        for (at, block) in (1_u64..).zip(&plan.blocks) {
            let is_drawn = block.interval.is_sampled(block.bytes, random.next());
            let old_address = if block.is_reallocated && before { at - 1 } else { 0 };
            obtain(&mut ledger, at, block, old_address, is_drawn);
            let is_kept_for_realloc =
                plan.blocks.get(at as usize).is_some_and(|next| next.is_reallocated);
            if is_drawn && block.is_freed && !is_kept_for_realloc {
                apply(&mut ledger, at, Interval::EXACT, Action::Free { address: at });
            }
            before = is_drawn;
        }
        let last = plan.blocks.last().map(|block| block.interval);
        Self { ledger, interval: last.unwrap_or_default() }
    }

    /// What the ledger makes of it; a report knows how densely it was looked at when nothing was seen.
    pub fn amount(&self, quantity: Quantity) -> Amount {
        let heap = self.ledger.totals().heap;
        let amount = match quantity {
            Quantity::Allocated => heap.allocated,
            Quantity::Freed => heap.freed,
            Quantity::Live => heap.live,
            Quantity::LiveOfSite => self.live_of(A),
        };
        amount.among_samples(self.interval)
    }

    fn live_of(&self, stack: StackId) -> Amount {
        let is_of = |site: Option<Site>| site.is_some_and(|site| site.stack == stack);
        let known = self.ledger.sites().find(|(_, entry)| is_of(entry.site));
        known.map(|(_, entry)| entry.account.live()).unwrap_or_default()
    }
}

/// A call that obtains a block, as far as it is told of: blocks that are not drawn are not, but
/// what was drawn and is given to realloc is gone.
fn obtain(ledger: &mut Ledger, address: u64, block: &Block, old_address: u64, is_drawn: bool) {
    let Block { bytes: size_bytes, stack, interval, .. } = *block;
    match (old_address, is_drawn) {
        (0, false) => {}
        (0, true) => {
            apply(ledger, address, interval, Action::Alloc { address, size_bytes, stack });
        }
        (_, false) => {
            apply(ledger, address, Interval::EXACT, Action::Free { address: old_address })
        }
        (_, true) => {
            apply(ledger, address, Interval::EXACT, Action::ReallocBegin { old_address });
            let new_address = address;
            let end = Action::ReallocEnd { old_address, new_address, size_bytes, stack };
            apply(ledger, address, interval, end);
        }
    }
}

fn apply(ledger: &mut Ledger, time_ns: u64, interval: Interval, action: Action) {
    let function = AllocFn::Malloc;
    ledger.apply(&Event { interval, ..Event::of(function, 1, time_ns, action) });
}
