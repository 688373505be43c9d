//! How old the blocks are that hold pages with free bytes on them.

use super::{BlameInput, Players};

/// Blocks that do.
#[derive(Clone, Debug, Default)]
pub struct Pins {
    /// A bit for each of the live blocks.
    bits: Vec<u64>,
}

/// Of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ages {
    /// How many such blocks it has.
    pub pins: u64,
    /// Their median age.
    pub median_ns: Option<u64>,
    /// The age of the oldest.
    pub oldest_ns: Option<u64>,
}

impl Pins {
    /// None of so many yet.
    pub fn new(live: usize) -> Self {
        Self { bits: vec![0; live.div_ceil(64)] }
    }

    /// One of them does, by its index.
    #[inline]
    pub fn add(&mut self, item: u32) {
        if let Some(bits) = self.bits.get_mut(item as usize / 64) {
            *bits |= 1 << (item % 64);
        }
    }

    fn has(&self, item: usize) -> bool {
        self.bits[item / 64] >> (item % 64) & 1 == 1
    }

    /// For each who may hold something.
    pub fn ages(&self, input: &BlameInput<'_>, players: Players) -> Vec<Ages> {
        let mut ages = vec![Vec::new(); players.count()];
        for (_, item) in input.live.iter().enumerate().filter(|(at, _)| self.has(*at)) {
            let player = input.culprits.get(item.site as usize).copied().unwrap_or(item.site);
            ages[player as usize].push(item.age_ns(input.closed_ns));
        }
        ages.into_iter().map(of_ages).collect()
    }
}

fn of_ages(mut ages: Vec<u64>) -> Ages {
    let (pins, middle) = (ages.len() as u64, ages.len() / 2);
    let median_ns = (pins > 0).then(|| *ages.select_nth_unstable(middle).1);
    Ages { pins, median_ns, oldest_ns: ages.into_iter().max() }
}
