//! The governor on targets that are made up: it keeps to the budget, and looks as closely as that
//! allows.

use memtrace_common::sample::Interval;
use proptest::prelude::*;

use super::{governor::LEAD_NS, *};
use crate::model::coverage::WorkBy;

/// A target with one thread.
#[derive(Clone, Copy, Debug)]
struct Target {
    /// So much of a CPU it uses when it is not traced.
    cpus: f64,
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
    /// So much of a CPU others leave to the target.
    machine: f64,
    /// How long the kernel waits before it puts probes in.
    grace_ns: f64,
    /// What traps are told to cost, over what they do.
    told: f64,
    /// Instructions are counted: one for each nanosecond that the target has for itself.
    counts: bool,
    /// Time that the target had for itself.
    own_ns: f64,
    open_ns: f64,
    /// Blocks that it obtained, and those of them that were seen.
    blocks: f64,
    seen_blocks: f64,
    /// Time that the target had for itself meanwhile.
    own_open_ns: f64,
}

impl World {
    fn new(target: Target) -> Self {
        Self {
            target,
            reading: Reading::default(),
            armed: Armed::All,
            interval: Interval::EXACT,
            machine: 1.0,
            grace_ns: 0.0,
            told: 1.0,
            counts: false,
            own_ns: 0.0,
            open_ns: 0.0,
            blocks: 0.0,
            seen_blocks: 0.0,
            own_open_ns: 0.0,
        }
    }

    /// For each nanosecond of its own.
    fn load(&self) -> Load {
        self.load_in(1.0)
    }

    /// As it is counted: a target that hardly runs is taken for one that uses a tenth of a CPU.
    fn counted_load(&self) -> Load {
        self.load_in((self.target.cpus / 0.1).min(1.0))
    }

    fn load_in(&self, share: f64) -> Load {
        let Target { per_second, trap_ns, record_ns, size_bytes, .. } = self.target;
        let each = per_second * share / 1e9;
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
        let there_ns = ns * self.machine;
        let own = (there_ns / (1.0 + acquire + release)).min(ns * self.target.cpus);
        self.own_ns += own;
        self.reading.instructions = self.counts.then_some(self.own_ns as u64);
        self.blocks += load.acquisitions * own;
        self.reading.at_ns += ns as u64;
        self.reading.cpu_ns += (own * (1.0 + acquire + release)) as u64;
        if !counted {
            return;
        }
        let activity = &mut self.reading.activity;
        activity.release_trap_ns += release * own * self.told;
        if self.armed == Armed::All {
            if self.interval != Interval::MAX {
                self.open_ns += ns;
                self.own_open_ns += own;
                self.seen_blocks += load.acquisitions * own;
            }
            let calls = load.acquisitions * own;
            let records = load.price(self.interval) - load.acquire_traps - load.release_traps;
            activity.acquisitions += calls as u64;
            activity.requested_bytes += (calls * load.mean_bytes) as u64;
            activity.acquire_trap_ns += load.acquire_traps * own * self.told;
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
        let comes = step.armed > self.armed;
        if comes {
            self.pass(self.grace_ns, true);
        }
        // Those that come count at once, and those that go do not any more; nothing is drawn.
        self.armed = self.armed.max(step.armed);
        self.interval = Interval::MAX;
        self.pass(LEAD_NS / 2.0, comes);
        self.interval = step.setting.interval;
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
    Rules { max_overhead, choice: Choice::Any, record_ns: 1500.0, cpus: 2.0 }
}

fn begin(world: &World, max_overhead: f64) -> (Governor, Step) {
    Governor::begin(rules(max_overhead), world.counted_load(), world.reading)
}

const PUSHER: Target = Target {
    cpus: 1.0,
    per_second: 400_000.0,
    trap_ns: 500.0,
    record_ns: 1000.0,
    size_bytes: 400.0,
};
const QUIET: Target = Target { per_second: 2_000.0, ..PUSHER };
const TIGHT_LOOP: Target = Target { per_second: 60e6, ..PUSHER };
/// A thousand rounds in a second, which take a hundredth of it.
const SLEEPER: Target = Target { cpus: 0.01, per_second: 100_000.0, ..PUSHER };
/// The same when it has slept too long and makes up for it.
const AWAKENED: Target = Target { cpus: 0.1, ..SLEEPER };
/// One that calls its allocator all the time that it is awake.
const DENSE_SLEEPER: Target = Target { cpus: 0.04, ..TIGHT_LOOP };

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

/// Traps are taken to be dearer than in a loop, which they are not here.
#[test]
fn it_is_known_how_much_slower_a_target_is_in_bursts() {
    for per_second in [150_000.0, 300_000.0, 1e6] {
        let mut world = World::new(Target { per_second, ..PUSHER });
        let (mut governor, step) = begin(&world, 0.1);
        assert!(step.setting.is_at_times(), "{step:?}");
        world.run(&mut governor, step, 30.0);
        let truth = world.own_open_ns / world.own_ns;
        let of_time = world.open_ns / world.reading.at_ns as f64;
        let work = governor.watched_work();
        assert!(truth < 0.9 * of_time, "{truth} {of_time}");
        assert!((0.5 * truth..1.2 * truth).contains(&work.share), "{work:?} {truth}");
    }
}

/// Blocks that it is estimated to have obtained, over those that it has, and by how much that is said to be
/// off at most.
fn estimated(mut world: World, seconds: f64) -> (f64, WatchedWork) {
    world.reading.instructions = world.counts.then_some(0);
    let (mut governor, step) = begin(&world, 0.1);
    assert_eq!(step.setting.presence, Presence::AtTimes);
    world.run(&mut governor, step, seconds);
    let work = governor.watched_work();
    (world.seen_blocks / work.share / world.blocks, work)
}

#[test]
fn instructions_tell_what_was_allocated_whatever_probes_cost() {
    for told in [0.5, 1.0, 2.0] {
        for target in [TIGHT_LOOP, Target { per_second: 1e6, ..PUSHER }, DENSE_SLEEPER] {
            for machine in [1.0, 0.3] {
                let world = World { told, machine, counts: true, ..World::new(target) };
                let (ratio, work) = estimated(world, 30.0);
                assert_eq!(work.by, WorkBy::Instructions);
                assert!((0.99..1.01).contains(&ratio), "{ratio} {target:?} {told} {machine}");
                assert!(work.margin < 1.06, "{work:?}");
            }
        }
    }
}

#[test]
fn without_instructions_the_margin_says_what_is_not_known_of_prices() {
    for off in [0.8, 1.0, 1.2] {
        // Of traps so close to each other, dearer ones are believed by so much.
        for (per_second, dearer) in [(60e6, 1.1), (1e6, 1.32)] {
            for machine in [1.0, 0.3] {
                let target = Target { per_second, ..PUSHER };
                let world = World { told: off / dearer, machine, ..World::new(target) };
                let (ratio, work) = estimated(world, 30.0);
                assert_eq!(work.by, WorkBy::CpuTime);
                assert!(
                    ratio.max(ratio.recip()) < work.margin,
                    "{ratio} {work:?} {target:?} {off}"
                );
            }
        }
    }
}

#[test]
fn a_program_of_two_phases_is_told_within_a_margin_that_says_so() {
    // More work between two calls, and so more of it in a burst.
    for slower in [1.0, 3.0, 10.0] {
        let mut world = World { counts: true, ..World::new(TIGHT_LOOP) };
        world.reading.instructions = Some(0);
        let (mut governor, mut step) = begin(&world, 0.1);
        let other = Target { per_second: TIGHT_LOOP.per_second / slower, ..TIGHT_LOOP };
        for phase in 0..10 {
            world.target = if phase % 2 == 0 { TIGHT_LOOP } else { other };
            world.run(&mut governor, step, 3.0);
            step = governor.step(world.reading);
        }
        let work = governor.watched_work();
        let ratio = world.seen_blocks / work.share / world.blocks;
        assert!(ratio.max(ratio.recip()) < work.margin, "{ratio} {work:?} {slower}");
        assert!(slower > 1.0 || work.margin < 1.06, "{work:?}");
    }
}

#[test]
fn a_count_that_is_lost_or_stands_still_is_not_believed() {
    let work_of = |lose: fn(&mut World)| {
        let mut world = World { counts: true, ..World::new(TIGHT_LOOP) };
        world.reading.instructions = Some(0);
        let (mut governor, step) = begin(&world, 0.1);
        world.run(&mut governor, step, 10.0);
        lose(&mut world);
        governor.step(world.reading);
        governor.watched_work().by
    };
    assert_eq!(work_of(|_| {}), WorkBy::Instructions);
    assert_eq!(work_of(|world| world.reading.instructions = None), WorkBy::CpuTime);
    let never = World { counts: true, own_ns: -1e18, ..World::new(TIGHT_LOOP) };
    assert_eq!(estimated(never, 10.0).1.by, WorkBy::CpuTime);
    let mut world = World { counts: true, ..World::new(TIGHT_LOOP) };
    world.reading.instructions = Some(0);
    let (mut governor, step) = begin(&world, 0.1);
    world.run(&mut governor, step, 10.0);
    world.own_ns = -1e18;
    let step = governor.step(world.reading);
    world.run(&mut governor, step, 2.0);
    assert_eq!(governor.watched_work().by, WorkBy::CpuTime, "it was taken away");
}

#[test]
fn time_that_the_kernel_waits_before_it_puts_probes_in_is_not_paid_for() {
    let covered = |grace_ns| {
        let mut world = World { grace_ns, ..World::new(TIGHT_LOOP) };
        let (mut governor, step) = begin(&world, 0.1);
        let (overhead, _) = world.run(&mut governor, step, 30.0);
        assert!(overhead < 0.1, "{overhead}");
        world.open_ns
    };
    let (at_once, later) = (covered(0.0), covered(500e6));
    assert!(later > 0.8 * at_once, "{later} {at_once}");
}

/// Most garbage is known to be garbage only if its release falls into the burst.
#[test]
fn a_burst_lasts_as_long_for_a_target_that_has_to_share_its_cpu() {
    let burst_ns = |machine| {
        let mut world = World { machine, ..World::new(TIGHT_LOOP) };
        let (mut governor, step) = begin(&world, 0.1);
        world.run(&mut governor, step, 10.0);
        let (open_ns, mut count) = (world.open_ns, 0);
        for _ in 0..2000 {
            let step = governor.step(world.reading);
            count += u32::from(step.armed == Armed::All && world.armed != Armed::All);
            let next_ns = world.obey(&step, &mut governor);
            world.pass((next_ns - world.reading.at_ns) as f64, true);
        }
        (world.open_ns - open_ns) / f64::from(count)
    };
    let (alone, shared) = (burst_ns(1.0), burst_ns(0.3));
    assert!((2.5..4.5).contains(&(shared / alone)), "{shared} {alone}");
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

/// Until the next look, and until the kernel has taken the probes out.
#[test]
fn a_target_that_becomes_busy_at_once_has_its_speed_back_within_50_ms() {
    let mut world = World::new(QUIET);
    let (mut governor, step) = begin(&world, 0.1);
    world.run(&mut governor, step, 1.0);
    world.target = TIGHT_LOOP;
    let step = governor.step(world.reading);
    let own_ns = world.own_ns;
    world.run(&mut governor, step, 0.1);
    let lost_ns = 0.1e9 - (world.own_ns - own_ns);
    assert!(lost_ns < 50e6, "{lost_ns}");
    let step = governor.step(world.reading);
    let (overhead, _) = world.run(&mut governor, step, 1.0);
    assert!(overhead < 0.1, "what was lost at first is made up for: {overhead}");
}

#[test]
fn a_short_peak_is_paid_out_of_savings() {
    let mut world = World::new(QUIET);
    let (mut governor, step) = begin(&world, 0.1);
    world.run(&mut governor, step, 5.0);
    world.target = Target { per_second: 100_000.0, ..PUSHER };
    let step = governor.step(world.reading);
    let (_, changes) = world.run(&mut governor, step, 0.05);
    assert_eq!((changes, governor.setting()), (vec![], Setting::EXACT));
    world.target = QUIET;
    let step = governor.step(world.reading);
    let (_, changes) = world.run(&mut governor, step, 5.0);
    assert_eq!((changes, governor.setting()), (vec![], Setting::EXACT));
}

/// One busy moment, whenever it comes, says nothing of the moments after it.
#[test]
fn a_target_that_sleeps_most_of_the_time_is_seen_exactly_through_each_busy_look() {
    for quiet_seconds in [0.0, 0.02, 0.1, 1.0, 10.0] {
        let mut world = World::new(SLEEPER);
        let (mut governor, mut step) = begin(&world, 0.1);
        for (target, seconds) in [(SLEEPER, quiet_seconds), (AWAKENED, 0.02), (SLEEPER, 10.0)] {
            world.target = target;
            let (_, changes) = world.run(&mut governor, step, seconds);
            let setting = governor.setting();
            assert_eq!((changes, setting), (vec![], Setting::EXACT), "{quiet_seconds}");
            step = governor.step(world.reading);
        }
    }
}

#[test]
fn a_price_that_may_be_bearable_is_tried() {
    let world = World::new(SLEEPER);
    // What is guessed of a record is more than it turns out to be.
    let of = |price| Load { acquisitions: 1e-6, records: price, ..Load::default() };
    let begun = |price| Governor::begin(rules(0.1), of(price), world.reading).1.setting;
    assert_eq!([0.05, 0.075].map(begun), [Setting::EXACT; 2]);
    assert_ne!(begun(0.085), Setting::EXACT);
}

/// What an idle program does once is what somebody attaches for.
#[test]
fn a_burst_that_savings_pay_for_is_seen_whole() {
    let idle = Target { cpus: 0.001, per_second: 1000.0, ..PUSHER };
    for (blocks, seconds) in [(1000.0, 0.3), (1000.0, 0.02), (3000.0, 0.3), (3000.0, 1.0)] {
        for idle_seconds in [0.1, 5.0] {
            let mut world = World::new(idle);
            let (mut governor, step) = begin(&world, 0.1);
            world.run(&mut governor, step, idle_seconds);
            let recorded = world.reading.activity.recorded;
            let cpus = 0.25;
            world.target = Target { cpus, per_second: blocks / seconds / cpus, ..idle };
            let step = governor.step(world.reading);
            let (_, changes) = world.run(&mut governor, step, seconds);
            let seen = world.reading.activity.recorded - recorded;
            assert!(seen as f64 >= blocks * 0.98, "{seen} of {blocks} in {seconds} s: {changes:?}");
            world.target = idle;
            let step = governor.step(world.reading);
            let (_, changes) = world.run(&mut governor, step, 5.0);
            assert_eq!((changes, governor.setting()), (vec![], Setting::EXACT));
        }
    }
}

#[test]
fn what_memtrace_takes_itself_counts_where_the_target_uses_all_cpus() {
    let taken = |cpus| {
        let mut governor = begin(&World::new(QUIET), 0.1).0;
        let now = Reading {
            at_ns: 1_000_000_000,
            cpu_ns: 1_990_000_000,
            own_cpu_ns: 10_000_000,
            ..Reading::default()
        };
        governor =
            Governor::begin(Rules { cpus, ..rules(0.1) }, *governor.load(), Reading::default()).0;
        governor.step(now);
        governor.overhead() * 1.98e9
    };
    assert!((9e6..11e6).contains(&taken(2.0)), "{}", taken(2.0));
    assert!(taken(4.0) < 1.0, "{}", taken(4.0));
}

#[test]
fn what_memtrace_takes_itself_is_no_loss_where_the_target_did_not_wait() {
    let lost_ns = |waited_ns: u64| {
        let begun = Reading { waited_ns: Some(7), ..Reading::default() };
        let mut governor =
            Governor::begin(Rules { cpus: 2.0, ..rules(0.1) }, World::new(QUIET).load(), begun).0;
        governor.step(Reading {
            at_ns: 1_000_000_000,
            cpu_ns: 1_000_000_000,
            own_cpu_ns: 500_000_000,
            waited_ns: Some(7 + waited_ns),
            ..Reading::default()
        });
        let overhead = governor.overhead();
        1e9 * overhead / (1.0 + overhead)
    };
    let near = |ns: f64, wanted: f64| (ns - wanted).abs() < 1e3;
    assert!(near(lost_ns(0), 0.0) && near(lost_ns(30_000_000), 3e7), "{}", lost_ns(30_000_000));
    // For whom else it waited is not known.
    assert!(near(lost_ns(900_000_000), 2.5e8), "{}", lost_ns(900_000_000));
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
            Target { cpus: 1.0, per_second: 10f64.powf(rate), trap_ns, record_ns, size_bytes }
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
