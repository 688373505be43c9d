//! The governor on targets that are made up: it keeps to the budget, and looks as closely as that
//! allows.

use memtrace_common::sample::Interval;
use proptest::prelude::*;

use super::{governor::LEAD_NS, *};

/// A target with one thread that is always busy.
#[derive(Clone, Copy, Debug)]
struct Target {
    /// Allocations in a second of its own time, each with a free.
    per_second: f64,
    trap_ns: f64,
    record_ns: f64,
    size_bytes: f64,
}

/// The world: what is armed, and what it counts.
struct World {
    target: Target,
    reading: Reading,
    armed: Armed,
    interval: Interval,
    /// Time that the target had for itself.
    own_ns: f64,
    open_ns: f64,
}

impl World {
    fn new(target: Target) -> Self {
        Self {
            target,
            reading: Reading::default(),
            armed: Armed::All,
            interval: Interval::EXACT,
            own_ns: 0.0,
            open_ns: 0.0,
        }
    }

    fn load(&self) -> Load {
        let Target { per_second, trap_ns, record_ns, size_bytes } = self.target;
        let each = per_second / 1e9;
        Load {
            acquisitions: each,
            acquire_traps: each * trap_ns * 1.5,
            release_traps: each * trap_ns,
            records: each * record_ns,
            mean_bytes: size_bytes,
        }
    }

    /// Lets time pass with what is armed; `counted` while the window is open.
    fn pass(&mut self, ns: f64, counted: bool) {
        let load = self.load();
        let (acquire, release) = match self.armed {
            Armed::Nothing => (0.0, 0.0),
            Armed::Releases => (0.0, load.release_traps),
            Armed::All => (load.price(self.interval) - load.release_traps, load.release_traps),
        };
        let own = ns / (1.0 + acquire + release);
        self.own_ns += own;
        self.reading.at_ns += ns as u64;
        self.reading.cpu_ns += ns as u64;
        if !counted {
            return;
        }
        let activity = &mut self.reading.activity;
        activity.release_trap_ns += release * own;
        if self.armed == Armed::All {
            self.open_ns += ns;
            let calls = load.acquisitions * own;
            let records = load.price(self.interval) - load.acquire_traps - load.release_traps;
            activity.acquisitions += calls as u64;
            activity.requested_bytes += (calls * load.mean_bytes) as u64;
            activity.acquire_trap_ns += load.acquire_traps * own;
            activity.record_ns += records * own;
            activity.recorded += (records * own / self.target.record_ns) as u64;
        }
    }

    /// Does what a step says; arming and disarming take their time.
    /// When to come back.
    fn obey(&mut self, step: &Step, governor: &mut Governor) -> u64 {
        self.interval = step.setting.interval;
        if step.armed == self.armed {
            return step.next_ns;
        }
        self.armed = self.armed.max(step.armed);
        self.pass(LEAD_NS / 2.0, false);
        self.armed = step.armed;
        governor.settled(self.reading)
    }

    /// Runs for some seconds; how much slower the target was.
    fn run(&mut self, governor: &mut Governor, mut step: Step, seconds: f64) -> (f64, Vec<Change>) {
        let (start_ns, own_ns) = (self.reading.at_ns, self.own_ns);
        let end_ns = start_ns + (seconds * 1e9) as u64;
        let mut changes = Vec::new();
        while self.reading.at_ns < end_ns {
            let next_ns = self.obey(&step, governor);
            let until_ns = next_ns.min(end_ns).max(self.reading.at_ns + 1);
            self.pass((until_ns - self.reading.at_ns) as f64, true);
            step = governor.step(self.reading);
            changes.extend(step.change.clone());
        }
        let took_ns = (self.reading.at_ns - start_ns) as f64;
        (took_ns / (self.own_ns - own_ns) - 1.0, changes)
    }
}

fn rules(max_overhead: f64) -> Rules {
    Rules { max_overhead, choice: Choice::Any, record_ns: 1500.0 }
}

fn begin(world: &World, max_overhead: f64) -> (Governor, Step) {
    Governor::begin(rules(max_overhead), world.load(), world.reading)
}

const PUSHER: Target =
    Target { per_second: 400_000.0, trap_ns: 500.0, record_ns: 1000.0, size_bytes: 400.0 };
const QUIET: Target = Target { per_second: 2_000.0, ..PUSHER };
const TIGHT_LOOP: Target = Target { per_second: 60e6, ..PUSHER };

#[test]
fn a_quiet_target_is_seen_exactly_and_stays_so() {
    let mut world = World::new(QUIET);
    let (mut governor, step) = begin(&world, 0.1);
    assert_eq!(step.setting, Setting::EXACT);
    let (overhead, changes) = world.run(&mut governor, step, 30.0);
    assert!(overhead < 0.02 && changes.is_empty(), "{overhead} {changes:?}");
}

#[test]
fn a_tight_loop_is_seen_in_bursts_that_cost_no_more_than_the_budget() {
    let mut world = World::new(TIGHT_LOOP);
    let (mut governor, step) = begin(&world, 0.1);
    assert_eq!(step.setting.presence, Presence::AtTimes);
    let (overhead, changes) = world.run(&mut governor, step, 30.0);
    assert!((0.03..0.1).contains(&overhead) && changes.is_empty(), "{overhead} {changes:?}");
    let covered = world.open_ns / 30e9;
    assert!((0.02..0.1).contains(&covered), "{covered}");
}

#[test]
fn a_budget_that_allows_for_nothing_ends_in_nothing() {
    let mut world = World::new(TIGHT_LOOP);
    let (mut governor, step) = begin(&world, 0.0005);
    let (overhead, changes) = world.run(&mut governor, step, 200.0);
    assert_eq!(changes.iter().map(|it| it.to.presence).collect::<Vec<_>>(), [Presence::Never]);
    assert!(overhead < 0.003, "{overhead}");
    assert_eq!(world.armed, Armed::Nothing);
}

#[test]
fn a_target_that_becomes_busy_and_quiet_again_is_followed_without_flapping() {
    let mut world = World::new(QUIET);
    let (mut governor, step) = begin(&world, 0.1);
    world.run(&mut governor, step, 5.0);
    world.target = PUSHER;
    let step = governor.step(world.reading);
    let (_, coarser) = world.run(&mut governor, step, 2.0);
    assert_eq!(governor.setting().presence, Presence::AtTimes, "{coarser:?}");
    let step = governor.step(world.reading);
    let (overhead, none) = world.run(&mut governor, step, 20.0);
    assert!(overhead <= 0.1 && none.is_empty(), "{overhead} {none:?}");
    world.target = QUIET;
    let step = governor.step(world.reading);
    let (_, finer) = world.run(&mut governor, step, 30.0);
    assert_eq!(governor.setting(), Setting::EXACT, "{finer:?}");
    assert!(coarser.len() + finer.len() <= 8, "{coarser:?} {finer:?}");
}

#[test]
fn a_target_that_hardly_runs_may_be_slowed_down_by_more() {
    let reading = Reading { at_ns: 1_000_000_000, cpu_ns: 10_000_000, ..Reading::default() };
    assert_eq!(reading.used_since_ns(&Reading::default()), 1e8);
    let busy = Reading { cpu_ns: 900_000_000, ..reading };
    assert_eq!(busy.used_since_ns(&Reading::default()), 9e8);
}

#[test]
fn what_was_asked_for_exactly_is_never_sampled() {
    let world = World::new(PUSHER);
    let rules = Rules { choice: Choice::Only(Interval::EXACT), ..rules(0.1) };
    let (governor, step) = Governor::begin(rules, world.load(), world.reading);
    assert_eq!(step.setting.presence, Presence::AtTimes);
    assert!(governor.setting().interval.is_exact());
}

proptest! {
    /// Whatever the target does, and also when it changes: after two seconds, the budget is kept.
    #[test]
    fn the_budget_is_kept(
        rates in proptest::collection::vec(1.0f64..8.0, 1..4),
        trap_ns in 100.0f64..20_000.0,
        record_ns in 200.0f64..8_000.0,
        size_bytes in 8.0f64..100_000.0,
        max_overhead in 0.02f64..0.3,
    ) {
        let target = |rate: f64| {
            Target { per_second: 10f64.powf(rate), trap_ns, record_ns, size_bytes }
        };
        let mut world = World::new(target(rates[0]));
        let (mut governor, mut step) = begin(&world, max_overhead);
        for rate in &rates {
            world.target = target(*rate);
            world.run(&mut governor, step, 2.0);
            step = governor.step(world.reading);
            let (overhead, changes) = world.run(&mut governor, step, 30.0);
            prop_assert!(overhead <= max_overhead, "{overhead} {governor:?}");
            prop_assert!(changes.len() <= 4, "{changes:?}");
            step = governor.step(world.reading);
        }
    }
}
