//! Estimates against the truth, over many seeded runs: whether they are right on average, and whether
//! the truth is in their intervals as often as those say.

pub mod mixes;
mod run;

use std::ops::RangeInclusive;

use memtrace_common::sample::Interval;

use self::{
    mixes::Mix,
    run::{Plan, Quantity, Run},
};
use crate::model::site::Amount;

/// Seeded runs of each case.
const RUNS: u64 = 1200;

/// From so many samples' worth of information on, intervals are to be neither too narrow nor too
/// wide.
const ENOUGH: f64 = 20.0;

/// How often the truth is to be in a 95 % interval.
const COVERAGE: RangeInclusive<f64> = 0.93..=0.97;

/// The mean distance of samples.
const INTERVAL: u8 = 14;

/// One number of all runs.
struct Sampled {
    what: String,
    truth: u64,
    /// How many samples of equal weight tell as much as those that are expected.
    information: f64,
    estimates: Vec<f64>,
    covered: u64,
}

impl Sampled {
    fn new(what: String, truth: u64, information: f64) -> Self {
        Self { what, truth, information, estimates: Vec::new(), covered: 0 }
    }

    fn coverage(&self) -> f64 {
        self.covered as f64 / self.estimates.len() as f64
    }

    /// The mean is within four standard errors of the truth.
    fn is_unbiased(&self) -> bool {
        let runs = self.estimates.len() as f64;
        let mean = self.estimates.iter().sum::<f64>() / runs;
        let squares = self.estimates.iter().map(|it| (it - mean).powi(2)).sum::<f64>();
        let error = (squares / (runs - 1.0) / runs).sqrt();
        // Estimates are whole numbers.
        (mean - self.truth as f64).abs() <= 4.0 * error + 0.5
    }

    fn assert_good(&self) {
        let Self { what, information, .. } = self;
        let coverage = self.coverage();
        assert!(self.is_unbiased(), "{what}: {} and {:?}", self.truth, &self.estimates[..5]);
        assert!(coverage >= *COVERAGE.start(), "{what}: {coverage} with {information}");
        let is_enough = *information >= ENOUGH;
        assert!(!is_enough || coverage <= *COVERAGE.end(), "{what}: {coverage} is too wide");
    }
}

/// Bytes and blocks of each quantity over all runs of a plan.
fn sampled(plan: &Plan) -> Vec<Sampled> {
    let mut all = Vec::new();
    for quantity in Quantity::ALL {
        let (truth, information) = (plan.truth(quantity), plan.information(quantity));
        let what = |of: &str| format!("{of} {quantity:?} of {}", plan.name());
        all.push(Sampled::new(what("bytes"), truth.bytes, information.0));
        all.push(Sampled::new(what("blocks"), truth.count, information.1));
    }
    for seed in 1..=RUNS {
        let run = Run::of(plan, seed);
        for (quantity, pair) in Quantity::ALL.into_iter().zip(all.chunks_mut(2)) {
            add(pair, run.amount(quantity));
        }
    }
    all
}

fn add(pair: &mut [Sampled], amount: Amount) {
    let bounds = [amount.bytes_bounds(), amount.count_bounds()];
    for ((of, estimate), bounds) in pair.iter_mut().zip([amount.bytes, amount.count]).zip(bounds) {
        of.estimates.push(estimate as f64);
        of.covered += u64::from(bounds.contains(of.truth));
        assert!(bounds.low <= estimate && estimate <= bounds.high, "{}", of.what);
    }
}

fn check(mix: Mix, expected_samples: f64) {
    let plan = Plan::of(mix, Interval::from_exponent(INTERVAL), expected_samples);
    sampled(&plan).iter().for_each(Sampled::assert_good);
}

#[test]
fn blocks_of_one_size_are_estimated_right() {
    [1.0, 5.0, 30.0, 300.0].into_iter().for_each(|samples| check(Mix::OneSize, samples));
}

#[test]
fn small_blocks_of_many_sizes_are_estimated_right() {
    [1.0, 5.0, 30.0, 300.0].into_iter().for_each(|samples| check(Mix::Small, samples));
}

#[test]
fn sizes_with_a_heavy_tail_are_estimated_right() {
    [5.0, 30.0, 300.0].into_iter().for_each(|samples| check(Mix::HeavyTail, samples));
}

#[test]
fn small_blocks_among_large_ones_are_estimated_right() {
    [30.0, 300.0].into_iter().for_each(|samples| check(Mix::Mixed, samples));
}

#[test]
fn what_is_reallocated_is_estimated_right() {
    let plan = Plan::of(Mix::Small, Interval::from_exponent(INTERVAL), 100.0).reallocating();
    sampled(&plan).iter().for_each(Sampled::assert_good);
}

#[test]
fn an_interval_that_changes_makes_no_estimate_wrong() {
    let plan = Plan::of(Mix::Small, Interval::from_exponent(INTERVAL), 100.0).changing();
    sampled(&plan).iter().for_each(Sampled::assert_good);
}

#[test]
fn weights_that_are_off_by_a_twentieth_are_noticed() {
    let plan = Plan::of(Mix::Small, Interval::from_exponent(INTERVAL), 300.0);
    for mut of in sampled(&plan) {
        of.estimates.iter_mut().for_each(|estimate| *estimate *= 1.05);
        assert!(!of.is_unbiased(), "{}", of.what);
        of.estimates.iter_mut().for_each(|estimate| *estimate *= 0.95 / 1.05);
        assert!(!of.is_unbiased(), "{}", of.what);
    }
}
