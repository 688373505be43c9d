//! Whether memtrace keeps up, and whether it knows what it has lost when it cannot.

use anyhow::Result;

use crate::{
    Setup,
    kernel_objects::map_bytes,
    machine::Cpus,
    results::{Requirement, Results, Unit},
    target::{Target, Timing, Work},
    tracer::{Report, Tracer},
};

const PAIRS_PER_SECOND: u64 = 300_000;
/// What a paced target may fall short of its rate.
const RATE_SLACK: f64 = 0.99;
/// The smallest ring, which a target at full speed overruns.
const SMALL_RING: &[&str] = &["--ring-size", "64KiB"];

/// What a traced run came to.
struct Outcome {
    timing: Timing,
    report: Report,
    map_bytes: u64,
}

/// Measures, and adds the rows.
pub fn measure(setup: &Setup, cpus: Cpus, results: &mut Results) -> Result<()> {
    let (runs, seconds) = if setup.quick { (1, 2) } else { (3, 10) };
    let group = format!("{PAIRS_PER_SECOND} pairs a second for {seconds} s, every event");
    let outcomes = outcomes(setup, cpus, runs, seconds, &[], PAIRS_PER_SECOND)?;
    let least = Requirement::AllAtLeast(PAIRS_PER_SECOND as f64 * RATE_SLACK);
    add_rate(&group, &outcomes, Some(least), results);
    add_losses(&group, &outcomes, Some(Requirement::AllEqual(0.0)), results);
    add_balance(&group, &outcomes, results);
    add_memory(&group, &outcomes, results);

    let group = format!("As fast as it can for {seconds} s, into a ring of 64 KiB");
    let outcomes = self::outcomes(setup, cpus, runs, seconds, SMALL_RING, 0)?;
    add_rate(&group, &outcomes, None, results);
    add_losses(&group, &outcomes, None, results);
    add_balance(&group, &outcomes, results);
    Ok(())
}

fn outcomes(
    setup: &Setup,
    cpus: Cpus,
    runs: u32,
    seconds: u64,
    arguments: &[&str],
    pairs_per_second: u64,
) -> Result<Vec<Outcome>> {
    (1..=runs)
        .map(|run| {
            eprintln!("bench: rate {pairs_per_second}, run {run} of {runs}");
            let mut target = Target::pairs(&setup.pairs(), cpus)?;
            // The heap has its final size before the window opens: no brk or mmap is among the
            // calls that are compared.
            target.time(1, Work { size_bytes: 1 << 16, depth: 0 })?;
            target.pace(10_000_000, 0)?;
            let tracer = Tracer::attach(&setup.memtrace, target.pid(), arguments)?;
            let timing = target.pace(seconds * 1_000_000_000, pairs_per_second)?;
            let map_bytes = map_bytes(tracer.pid())?;
            Ok(Outcome { timing, report: tracer.finish()?, map_bytes })
        })
        .collect()
}

fn samples(outcomes: &[Outcome], of: impl Fn(&Outcome) -> f64) -> Vec<f64> {
    outcomes.iter().map(of).collect()
}

fn add_rate(
    group: &str,
    outcomes: &[Outcome],
    requirement: Option<Requirement>,
    results: &mut Results,
) {
    let rates = samples(outcomes, |outcome| outcome.timing.rate());
    results.add(group, "pairs that the target made", Unit::PerSecond, &rates, requirement);
}

fn add_losses(
    group: &str,
    outcomes: &[Outcome],
    requirement: Option<Requirement>,
    results: &mut Results,
) {
    let lost = samples(outcomes, |outcome| outcome.report.lost() as f64);
    results.add(group, "events lost", Unit::Count, &lost, requirement);
}

/// What must be zero: the target counts its own calls.
fn add_balance(group: &str, outcomes: &[Outcome], results: &mut Results) {
    let zero = Some(Requirement::AllEqual(0.0));
    let uncounted = samples(outcomes, |Outcome { timing, report, .. }| {
        let difference = |function| report.calls(function).abs_diff(timing.pairs) as f64;
        difference("malloc") + difference("free")
    });
    let name = "difference between calls made and calls counted";
    results.add(group, name, Unit::Count, &uncounted, zero);
    let unaccounted = samples(outcomes, |Outcome { timing, report, .. }| {
        (2 * timing.pairs).abs_diff(report.completeness.events + report.lost()) as f64
    });
    let name = "difference between calls made and events seen plus lost";
    results.add(group, name, Unit::Count, &unaccounted, zero);
}

fn add_memory(group: &str, outcomes: &[Outcome], results: &mut Results) {
    let peaks = samples(outcomes, |outcome| outcome.report.rss.own_peak_bytes as f64);
    results.add(group, "memtrace's own peak RSS", Unit::Bytes, &peaks, None);
    let maps = samples(outcomes, |outcome| outcome.map_bytes as f64);
    results.add(group, "its BPF maps, ring included", Unit::Bytes, &maps, None);
}
