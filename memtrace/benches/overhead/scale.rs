//! What memtrace takes for itself, whether it keeps up, and whether more threads cost more.

use std::{process::Command, time::Instant};

use anyhow::Result;

use crate::{
    Setup,
    machine::Cpus,
    peers::{Peers, Tool, Watch},
    results::{Requirement, Results, Unit},
    target::{Target, Timing},
    tracer::Report,
    usage::{cpu_seconds, peak_bytes},
};

const THREADS: &str = "CPU time of a pair in 8 threads over that in 1";

const PAIRS_PER_SECOND: u64 = 300_000;
const MOST_CPU_PERCENT: f64 = 5.0;
/// What its ring must take without a loss.
const MANY_PAIRS_PER_SECOND: u64 = 1_000_000;
const MOST_OF_ONE_THREAD: f64 = 1.2;

/// The modes that are looked at.
const MODES: [Tool; 3] = [Tool::Default, Tool::Sampled, Tool::Exact];

/// memtrace at work, seen from outside.
struct Watched {
    timing: Timing,
    /// Of one CPU, over the time of the work.
    cpu_percent: f64,
    peak_bytes: f64,
    report: Report,
}

/// Measures, and adds the rows.
pub fn measure(setup: &Setup, cpus: Cpus, results: &mut Results) -> Result<()> {
    let peers = Peers { setup, cpus };
    let modes: Vec<Tool> =
        MODES.into_iter().filter(|tool| is_there(*tool, &peers, results)).collect();
    for tool in &modes {
        own(&peers, *tool, PAIRS_PER_SECOND, results)?;
        own(&peers, *tool, MANY_PAIRS_PER_SECOND, results)?;
    }
    let tools: Vec<Tool> = [Tool::Bare, Tool::Floor].into_iter().chain(modes).collect();
    threads(&peers, &tools, results)
}

fn is_there(tool: Tool, peers: &Peers<'_>, results: &mut Results) -> bool {
    let missing = tool.missing(peers);
    if let Some(why) = &missing {
        results.skip(format!("{}: {why}", tool.name()));
    }
    missing.is_none()
}

/// memtrace's own cost and losses at a rate.
fn own(peers: &Peers<'_>, tool: Tool, rate: u64, results: &mut Results) -> Result<()> {
    let (runs, seconds) = if peers.setup.quick { (1, 5) } else { (3, 10) };
    eprintln!("bench: {} at {rate} pairs a second", tool.name());
    let watched: Vec<Watched> =
        (0..runs).map(|_| watch(peers, tool, rate, seconds)).collect::<Result<_>>()?;
    let of = |figure: fn(&Watched) -> f64| watched.iter().map(figure).collect::<Vec<f64>>();
    let group = format!("{rate} pairs a second for {seconds} s: {}", tool.name());
    let (is_default, is_many) = (tool == Tool::Default, rate == MANY_PAIRS_PER_SECOND);
    let cpu = (is_default && !is_many).then_some(Requirement::MedianAtMost(MOST_CPU_PERCENT));
    let lost = is_default.then_some(Requirement::AllEqual(0.0));
    results.add(
        &group,
        "pairs that the target made",
        Unit::PerSecond,
        &of(|it| it.timing.rate()),
        None,
    );
    results.add(
        &group,
        "memtrace's CPU time, of one CPU",
        Unit::Percent,
        &of(|it| it.cpu_percent),
        cpu,
    );
    results.add(&group, "memtrace's peak RSS", Unit::Bytes, &of(|it| it.peak_bytes), None);
    results.add(
        &group,
        "events seen",
        Unit::Count,
        &of(|it| it.report.completeness.events as f64),
        None,
    );
    results.add(&group, "events lost", Unit::Count, &of(|it| it.report.lost() as f64), lost);
    Ok(())
}

fn watch(peers: &Peers<'_>, tool: Tool, rate: u64, seconds: u64) -> Result<Watched> {
    let mut target = Target::pairs(&peers.setup.pairs(), peers.cpus)?;
    target.pace(100_000_000, rate)?;
    let tracer = peers.attach(tool, target.pid())?;
    let (before, begun) = (cpu_seconds(tracer.pid())?, Instant::now());
    let timing = target.pace(seconds * 1_000_000_000, rate)?;
    let took = cpu_seconds(tracer.pid())? - before;
    let cpu_percent = 100.0 * took / begun.elapsed().as_secs_f64();
    let peak_bytes = peak_bytes(tracer.pid())?;
    Ok(Watched { timing, cpu_percent, peak_bytes, report: tracer.finish()? })
}

/// In rounds: a pair in one thread, then in eight.
fn threads(peers: &Peers<'_>, tools: &[Tool], results: &mut Results) -> Result<()> {
    let rounds = if peers.setup.quick { 3 } else { 9 };
    let start = |count: &str| {
        let mut command = Command::new(peers.setup.targets.join("threads"));
        peers.cpus.start(true, || Target::start(command.args(["pairs", count])))
    };
    let (mut one, mut eight) = (start("1")?, start("8")?);
    let mut ratios = vec![Vec::new(); tools.len()];
    for round in 1..=rounds {
        eprintln!("bench: threads, round {round} of {rounds}");
        for (tool, ratios) in tools.iter().zip(&mut ratios) {
            let one_ns = pair_ns(peers, *tool, &mut one)?;
            ratios.push(pair_ns(peers, *tool, &mut eight)? / one_ns);
        }
    }
    for (tool, ratios) in tools.iter().zip(&ratios) {
        let most = Requirement::MedianAtMost(MOST_OF_ONE_THREAD);
        let most = (*tool != Tool::Bare).then_some(most);
        results.add(THREADS, tool.name(), Unit::Ratio, ratios, most);
    }
    Ok(())
}

/// CPU time, all threads together: how many CPUs they share does not matter.
fn pair_ns(peers: &Peers<'_>, tool: Tool, target: &mut Target) -> Result<f64> {
    let watch = Watch::begin(peers, tool, target.pid())?;
    target.pace(100_000_000, 0)?;
    let timing = target.pace(1_000_000_000, 0)?;
    watch.end()?;
    Ok(timing.pair_ns())
}
