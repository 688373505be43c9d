//! How much of what a target did it did while it was watched, and how far that can be off.
//!
//! A target's work is the instructions that it executes in user mode, where they are counted: probes hardly
//! change their number. Else it is the CPU time that probes leave to it, which is as uncertain as what a
//! probe costs, and hardly known where probes take almost all of it.

use std::mem::take;

use crate::model::coverage::WorkBy;

/// Probes are known to cost what they do up to this share.
const PRICE_ERROR: f64 = 0.25;
/// Of a target that seems to have got on less than this, costs are believed no more.
const LEAST_PROGRESS: f64 = 0.04;
/// It may have been less, but to obtain a block and to release it takes so long.
const LEAST_ROUND_NS: f64 = 5.0;
/// Beyond chance, a share of instructions is off by no more: a burst begins and ends some microseconds
/// beside its count, and a call's instructions are counted where its probe is hit.
const INSTRUCTIONS_MARGIN: f64 = 1.05;
/// A counter that stands still for so much CPU time has ended: where a program with other rights was
/// executed, the kernel takes it away.
const STILL_NS: f64 = 5e8;
/// A burst that took less from the target says little, and is put together with the next.
const LEAST_LOSS_NS: f64 = 5e6;
/// With fewer bursts it is not known how they differ.
const FEW_BURSTS: u32 = 3;
/// Then what was not watched is taken to be up to twice as much or half as much, in logarithms.
const UNKNOWN: f64 = std::f64::consts::LN_2;
/// No interval says more than that nothing is known.
const LARGEST: f64 = 5.0;

/// What a target did in a time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    /// Instructions in user mode; 0 where they are not counted.
    pub(super) instructions: f64,
    /// CPU time, tracing included, in nanoseconds.
    pub(super) cpu_ns: f64,
    /// What of that tracing took, by what was counted.
    pub(super) lost_ns: f64,
    /// Calls that obtain memory, as far as they were counted.
    pub(super) calls: f64,
    /// Bytes that they asked for.
    pub(super) bytes: f64,
}

impl Done {
    fn add(&mut self, other: &Self) {
        self.instructions += other.instructions;
        self.cpu_ns += other.cpu_ns;
        self.lost_ns += other.lost_ns;
        self.calls += other.calls;
        self.bytes += other.bytes;
    }

    /// How much of its time was the target's own, in nanoseconds.
    fn own_ns(&self) -> f64 {
        (self.cpu_ns - self.lost_ns).max(self.cpu_ns * LEAST_PROGRESS)
    }

    /// The same if probes cost so many times what they are said to.
    fn own_at_ns(&self, price: f64) -> f64 {
        let left_ns = self.cpu_ns - self.lost_ns * price;
        left_ns.max(self.calls * LEAST_ROUND_NS).clamp(0.0, self.cpu_ns)
    }
}

/// The part of a target's work that was watched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WatchedWork {
    /// From 0 to 1.
    pub share: f64,
    /// With 95 % confidence, what is scaled up by it is this many times too much or too little at most.
    pub margin: f64,
    /// What the work is told by.
    pub by: WorkBy,
}

/// Takes down what a target does, watched and not.
#[derive(Clone, Debug)]
pub(super) struct Work {
    /// All its instructions are known.
    is_counted: bool,
    /// CPU time in which there were none.
    still_ns: f64,
    watched: Done,
    unwatched: Done,
    /// Since the last burst ended.
    stretch: Done,
    /// What of it was watched: the present burst.
    burst: Done,
    by_instructions: Tallies,
    by_cpu_time: Tallies,
}

impl Work {
    pub(super) fn new() -> Self {
        Self {
            is_counted: true,
            still_ns: 0.0,
            watched: Done::default(),
            unwatched: Done::default(),
            stretch: Done::default(),
            burst: Done::default(),
            by_instructions: Tallies::default(),
            by_cpu_time: Tallies::default(),
        }
    }

    /// Instructions are not counted, or are not any more.
    pub(super) fn lose_count(&mut self) {
        self.is_counted = false;
    }

    /// What it did in a time that was watched, or not.
    pub(super) fn add(&mut self, done: &Done, is_watched: bool) {
        self.still_ns = if done.instructions > 0.0 { 0.0 } else { self.still_ns + done.cpu_ns };
        self.is_counted &= self.still_ns < STILL_NS;
        match is_watched {
            true => {
                self.watched.add(done);
                self.burst.add(done);
            }
            false => {
                self.end_burst();
                self.unwatched.add(done);
            }
        }
        self.stretch.add(done);
    }

    fn end_burst(&mut self) {
        if self.burst.lost_ns < LEAST_LOSS_NS {
            return;
        }
        let (burst, stretch) = (take(&mut self.burst), take(&mut self.stretch));
        self.by_instructions.add(&burst, burst.instructions, stretch.instructions);
        self.by_cpu_time.add(&burst, burst.own_ns(), stretch.own_ns());
    }

    /// How much of it was watched.
    pub(super) fn watched(&self) -> WatchedWork {
        let mut ended = self.clone();
        ended.end_burst();
        let counted = if self.is_counted { ended.by_instructions() } else { None };
        counted.unwrap_or_else(|| ended.by_cpu_time())
    }

    /// `None` where a counter stood still.
    fn by_instructions(&self) -> Option<WatchedWork> {
        let Self { watched, unwatched, stretch, .. } = self;
        let all = watched.instructions + unwatched.instructions;
        let share = watched.instructions / all;
        let told = self.by_instructions.told(share, all, stretch.instructions);
        let by = WorkBy::Instructions;
        (watched.instructions > 0.0).then(|| told.work(share, INSTRUCTIONS_MARGIN.ln(), by))
    }

    fn by_cpu_time(&self) -> WatchedWork {
        let part = |own_ns: &dyn Fn(&Done) -> f64| {
            let watched_ns = own_ns(&self.watched).max(1.0);
            watched_ns / (watched_ns + own_ns(&self.unwatched))
        };
        let share = part(&Done::own_ns);
        let at = |price: f64| (part(&|done| done.own_at_ns(price)) / share).ln().abs();
        let by_price = at(1.0 - PRICE_ERROR).max(at(1.0 + PRICE_ERROR));
        let all_ns = self.watched.own_ns() + self.unwatched.own_ns();
        let told = self.by_cpu_time.told(share, all_ns, self.stretch.own_ns());
        told.work(share, by_price, WorkBy::CpuTime)
    }
}

/// What bursts tell of how far a share can be off, in logarithms.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// By chance, with 95 % confidence.
    chance: f64,
    /// How many times more bytes there are if bursts are put together in the other way.
    drift: f64,
    /// The same of calls.
    drift_of_calls: f64,
}

impl Told {
    /// In the middle of both ways.
    fn work(self, share: f64, measure: f64, by: WorkBy) -> WatchedWork {
        let half = self.drift / 2.0;
        let apart = half.abs().max((self.drift_of_calls - half).abs());
        let off = measure.hypot(self.chance) + apart;
        let share = (share / half.exp()).min(1.0);
        WatchedWork { share, margin: off.min(LARGEST).exp(), by }
    }
}

/// What bursts have told, of calls and of bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Tallies {
    calls: Tally,
    bytes: Tally,
}

impl Tallies {
    fn add(&mut self, burst: &Done, work: f64, stretch: f64) {
        self.calls.add(burst.calls, work, stretch);
        self.bytes.add(burst.bytes, work, stretch);
    }

    fn told(&self, share: f64, all: f64, rest: f64) -> Told {
        Told {
            chance: self.calls.chance(share).max(self.bytes.chance(share)),
            drift: self.bytes.drift(all, rest),
            drift_of_calls: self.calls.drift(all, rest),
        }
    }
}

/// What was seen in bursts of some work each, as sums.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    bursts: u32,
    seen: f64,
    work: f64,
    seen_squares: f64,
    work_squares: f64,
    products: f64,
    /// What was seen in each for some work, times the work from the burst before to the end of it.
    projected: f64,
    /// What was seen for some work in the last.
    last_rate: f64,
}

impl Tally {
    /// A burst, and the work from the end of the last one to its end.
    fn add(&mut self, seen: f64, work: f64, stretch: f64) {
        if work <= 0.0 {
            return;
        }
        self.bursts += 1;
        self.seen += seen;
        self.work += work;
        self.seen_squares += seen * seen;
        self.work_squares += work * work;
        self.products += seen * work;
        self.last_rate = seen / work;
        self.projected += self.last_rate * stretch;
    }

    /// How far what was seen for some work can be off by chance, because bursts differ: a ratio estimate
    /// (Cochran, Sampling Techniques, 1977, chapter 6). In logarithms, with 95 % confidence.
    fn chance(&self, share: f64) -> f64 {
        let unseen = 1.0 - share;
        if self.bursts < FEW_BURSTS {
            return UNKNOWN * unseen;
        }
        if self.seen <= 0.0 {
            return 0.0;
        }
        let (bursts, rate) = (f64::from(self.bursts), self.seen / self.work);
        let squares =
            self.seen_squares - 2.0 * rate * self.products + rate * rate * self.work_squares;
        let variance = squares.max(0.0) * bursts / (bursts - 1.0) / (self.seen * self.seen);
        student(bursts - 1.0) * (variance * unseen).sqrt()
    }

    /// There are two ways to go from bursts to all: each burst counts by its own work, or by that since the
    /// burst before. How many times more it is in the other, as a logarithm. They differ where a target does
    /// more for each call at some times than at others: less work fits into a burst of calls. If such
    /// times are shorter than bursts the one is right, if they are longer the other.
    fn drift(&self, all: f64, rest: f64) -> f64 {
        if self.bursts < FEW_BURSTS {
            return 0.0;
        }
        let together = self.seen / self.work * all;
        let apart = self.projected + self.last_rate * rest;
        let drift = (apart / together).ln();
        if drift.is_finite() { drift } else { 0.0 }
    }
}

/// About the 97.5 % quantile of Student's distribution, from two degrees of freedom on.
fn student(freedom: f64) -> f64 {
    1.96 + 2.37 / freedom + 4.6 / (freedom * freedom)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bursts of some work with some calls each, and as much work from one to the next.
    fn told(bursts: &[(f64, f64)], work_each: f64) -> (WatchedWork, f64) {
        let mut work = Work::new();
        let done = |instructions, calls| Done {
            instructions,
            calls,
            bytes: calls * 100.0,
            cpu_ns: 2e7,
            lost_ns: if calls > 0.0 { 1e7 } else { 0.0 },
        };
        for (watched, calls) in bursts {
            work.add(&done(work_each - watched, 0.0), false);
            work.add(&done(*watched, *calls), true);
        }
        let seen: f64 = bursts.iter().map(|(_, calls)| calls).sum();
        (work.watched(), seen / work.watched().share)
    }

    #[test]
    fn bursts_that_are_alike_tell_what_there_was_and_others_what_is_not_known() {
        let (work, calls) = told(&[(100.0, 7.0); 20], 1000.0);
        assert!((work.share - 0.1).abs() < 1e-9 && work.margin < 1.051, "{work:?}");
        assert!((calls - 1400.0).abs() < 1e-6, "{calls}");
        let differ: Vec<_> = (0..20).map(|at| (100.0, 1.0 + f64::from(at % 2) * 12.0)).collect();
        let (work, calls) = told(&differ, 1000.0);
        // By chance half of 20 are busy: 10 ± 4.7, of which most was not seen.
        assert!((1.4..1.7).contains(&work.margin) && (calls - 1400.0).abs() < 1e-6, "{work:?}");
        let few = told(&[(100.0, 7.0); 2], 1000.0).0;
        assert!((1.8..2.0).contains(&few.margin), "{few:?}");
        let mut last = vec![(100.0, 7.0); 20];
        last.push((1.0, 0.0));
        let (work, _) = told(&last, 1000.0);
        assert!(work.margin < 1.051, "an end says nothing of what was before it: {work:?}");
        let all = told(&[(1000.0, 7.0); 2], 1000.0).0;
        assert!(all.share == 1.0 && all.margin < 1.051, "{all:?}");
    }

    #[test]
    fn bursts_into_which_less_work_fits_leave_it_open_how_long_such_times_are() {
        let differ: Vec<_> =
            (0..40).map(|at| if at % 2 == 0 { (10.0, 100.0) } else { (90.0, 9.0) }).collect();
        let (work, calls) = told(&differ, 1000.0);
        // 10 calls for each unit of work half of the time, and 0.1 in the other; or as in all of it.
        for truth in [20.0 * (10_000.0 + 100.0), 40_000.0 * 109.0 / 100.0] {
            let off = (calls / truth).max(truth / calls);
            assert!(off < work.margin, "{calls} {truth} {work:?}");
        }
        assert!(work.margin < 6.0, "{work:?}");
    }

    #[test]
    fn the_97_5_percent_quantile_of_students_distribution_is_about_that_of_tables() {
        for (freedom, quantile) in [(2.0, 4.303), (4.0, 2.776), (9.0, 2.262), (30.0, 2.042)] {
            let off = student(freedom) / quantile - 1.0;
            assert!(off.abs() < 0.03, "{freedom}: {off}");
        }
    }
}
