//! Programs that are looked at in short bursts, and the walk of whose heap finds nearly all addresses
//! in use: how many of the blocks that were seen to be obtained count as live, and how many are.

use super::{
    super::{Ledger, Limits},
    A, B, START,
    estimates::mixes::Random,
};
use crate::model::{
    AllocFn,
    event::{Action, Event},
};

const WINDOW_NS: u64 = 30_000_000_000;
const BURST_NS: u64 = 25_000_000;
const EVERY_NS: u64 = 500_000_000;
/// Addresses that are used again and again.
const ADDRESSES: u64 = 300;
const RUNS: u64 = 12;

/// What a program does at each address: a block lives for a while, and after another while the next
/// one is there. Times are exponential.
#[derive(Clone, Copy, Debug)]
struct Program {
    life_ns: f64,
    idle_ns: f64,
    /// The part of blocks that is never freed.
    kept: f64,
}

/// A block from birth to end.
#[derive(Clone, Copy)]
struct Life {
    address: u64,
    born_ns: u64,
    freed_ns: u64,
}

impl Program {
    fn lives(self, random: &mut Random) -> Vec<Life> {
        let mut after = |mean_ns: f64| (-mean_ns * random.unit().ln()) as u64;
        let mut lives = Vec::new();
        let mut addresses = 16 * ADDRESSES;
        for first in (16..=addresses).step_by(16) {
            let (mut address, mut now_ns) = (first, after(self.idle_ns + self.life_ns));
            while now_ns < WINDOW_NS {
                let is_kept = (after(1e9) as f64) < -1e9 * (1.0 - self.kept).ln();
                let freed_ns = if is_kept { u64::MAX } else { now_ns + after(self.life_ns).max(1) };
                lives.push(Life { address, born_ns: now_ns, freed_ns });
                if is_kept {
                    // The program goes on elsewhere.
                    addresses += 16;
                    address = addresses;
                    now_ns += after(self.life_ns);
                } else {
                    now_ns = freed_ns;
                }
                now_ns = now_ns.saturating_add(1 + after(self.idle_ns));
            }
        }
        lives
    }
}

fn is_seen(time_ns: u64) -> bool {
    time_ns % EVERY_NS < BURST_NS
}

fn event(time_ns: u64, action: Action) -> Event {
    Event::of(AllocFn::Malloc, 1, time_ns, action)
}

/// What a ledger makes of the bursts, with what a walk of the heap tells at the end.
fn ledger_of(lives: &[Life]) -> Ledger {
    let mut events = Vec::new();
    for life in lives {
        let Life { address, born_ns, freed_ns } = *life;
        let stack = if freed_ns == u64::MAX { B } else { A };
        events.push((born_ns, Action::Alloc { address, size_bytes: 8, stack }));
        events.push((freed_ns, Action::Free { address }));
    }
    events.retain(|(time_ns, _)| *time_ns < WINDOW_NS && is_seen(*time_ns));
    events.sort_by_key(|(time_ns, _)| *time_ns);
    let limits = Limits { live_blocks: 100_000, live_ranges: 10, sites: 10 };
    let mut ledger = Ledger::new(limits, START);
    let mut events = events.into_iter().peekable();
    for burst_ns in (0..WINDOW_NS).step_by(EVERY_NS as usize) {
        ledger.releases_are_seen_from(burst_ns);
        while let Some((time_ns, action)) =
            events.next_if(|(time_ns, _)| *time_ns < burst_ns + BURST_NS)
        {
            ledger.apply(&event(time_ns, action));
        }
        ledger.releases_are_unseen_from(burst_ns + BURST_NS);
    }
    let mut in_use = std::collections::HashSet::new();
    let is_alive = |life: &&Life| life.freed_ns >= WINDOW_NS;
    in_use.extend(lives.iter().filter(is_alive).map(|life| life.address));
    for block in ledger.suspects(usize::MAX).blocks {
        if !in_use.contains(&block.address.get()) {
            ledger.free_unseen(&block, WINDOW_NS);
        }
    }
    ledger
}

/// Blocks of a site, over some runs.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// Seen to be obtained, and alive.
    alive: u64,
    /// What counts as live by what the heap says.
    by_heap: u64,
    /// And with those that were probably freed.
    estimated: u64,
}

/// Of the site whose blocks are freed, and of that whose blocks are kept.
fn counts(program: Program) -> [Counts; 2] {
    let mut counts = [Counts::default(); 2];
    for seed in 1..=RUNS {
        let lives = program.lives(&mut Random::new(seed));
        let alive = |life: &&Life| is_seen(life.born_ns) && life.freed_ns >= WINDOW_NS;
        for life in lives.iter().filter(alive) {
            counts[usize::from(life.freed_ns == u64::MAX)].alive += 1;
        }
        let mut ledger = ledger_of(&lives);
        let live = |ledger: &Ledger, stack| {
            let site =
                ledger.sites().find(|(_, entry)| entry.site.is_some_and(|it| it.stack == stack));
            site.map_or(0, |(_, entry)| entry.account.live().count)
        };
        let sites = [A, B];
        for (counts, stack) in counts.iter_mut().zip(sites) {
            counts.by_heap += live(&ledger, stack);
        }
        for block in ledger.probably_freed(WINDOW_NS, 1.0) {
            ledger.free_unseen(&block, WINDOW_NS);
        }
        for (counts, stack) in counts.iter_mut().zip(sites) {
            counts.estimated += live(&ledger, stack);
        }
    }
    counts
}

/// Most of what only seems to be alive is told from what is, and nothing that is kept is given up.
fn assert_told_apart(life_s: f64, idle_s: f64, kept: f64) {
    let program = Program { life_ns: life_s * 1e9, idle_ns: idle_s * 1e9, kept };
    let [freed, kept] = counts(program);
    assert_eq!((kept.by_heap, kept.estimated), (kept.alive, kept.alive), "{program:?}");
    let Counts { alive, by_heap, estimated } = freed;
    let seemed = by_heap - alive;
    assert!(alive < 300 && seemed > 300, "{program:?} is no test: {freed:?}");
    assert!(estimated < alive + seemed / 3, "{program:?}: {freed:?}");
    assert!(estimated > alive / 2, "{program:?}: {freed:?}");
}

#[test]
fn where_nothing_is_kept_addresses_in_use_are_not_taken_for_live_blocks() {
    for (life_s, idle_s) in [(0.05, 0.05), (0.3, 0.1), (0.3, 1.0), (2.0, 0.5)] {
        assert_told_apart(life_s, idle_s, 0.0);
    }
}

#[test]
fn addresses_that_kept_blocks_took_are_not_taken_for_live_blocks_of_others() {
    for (life_s, idle_s) in [(0.05, 0.05), (0.3, 0.1), (2.0, 0.5)] {
        for kept in [0.001, 0.01, 0.05] {
            assert_told_apart(life_s, idle_s, kept);
        }
    }
}

/// Hardly any address is seen twice.
#[test]
fn what_little_is_known_of_gives_up_nothing() {
    let [freed, kept] = counts(Program { life_ns: 20e9, idle_ns: 1e9, kept: 0.2 });
    assert!(freed.alive > 20 && freed.estimated >= freed.alive, "{freed:?}");
    assert_eq!(kept.estimated, kept.alive);
}
