//! A capture of ten million events: how large it is, and how long its reports take; and exports of a
//! hundred thousand distinct stacks.

mod stacks;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::{
    Setup,
    finished::{Finished, run},
    machine::Cpus,
    peers::{Peers, Tool},
    results::{Requirement, Results, Unit},
    target::{Target, Timing},
    tracer::Report,
};

const PAIRS_PER_SECOND: u64 = 300_000;
/// Two events a pair: a little more than ten million.
const SECONDS: u64 = 17;
/// What there must be, or the rest is not the figure that is wanted.
const EVENTS: f64 = 1e7;

const MOST_BYTES_AN_EVENT: f64 = 12.0;
const MOST_REPORT_NS: f64 = 3e9;
const MOST_REPORT_BYTES: f64 = 500e6;
const MOST_EXPORT_NS: f64 = 5e9;

/// Programs of threads.c, by name, kind and threads: the first packs very well, the second hardly.
const PROGRAMS: [(&str, [&str; 2]); 2] =
    [("pairs of equal size", ["pairs", "1"]), ("churn in 2 threads", ["churn", "2"])];

/// Reports of the events.
const REPORTS: [(&str, &[&str]); 3] = [
    ("report", &[]),
    ("report --view peak, from all events", &["--view", "peak"]),
    ("report --format html", &["--format", "html"]),
];

/// Formats of the stacks, and whether it is required to be quick.
const EXPORTS: [(&str, bool); 7] = [
    ("svg", true),
    ("html", true),
    ("pprof", true),
    ("otlp", false),
    ("speedscope", false),
    ("folded", false),
    ("json", false),
];

/// Measures, and adds the rows.
pub fn measure(setup: &Setup, cpus: Cpus, results: &mut Results) -> Result<()> {
    let peers = Peers { setup, cpus };
    for (name, arguments) in PROGRAMS {
        record(&peers, name, &arguments, results)?;
    }
    exports(setup, results)
}

/// A window, its capture, and what is made of it.
fn record(peers: &Peers<'_>, name: &str, arguments: &[&str], results: &mut Results) -> Result<()> {
    let group = format!("Every event of {PAIRS_PER_SECOND} pairs a second for {SECONDS} s: {name}");
    let scratch = TempDir::new()?;
    let capture = scratch.path().join("kept.memtrace");
    let (mut kept, mut times) = (Vec::new(), vec![Vec::new(); REPORTS.len()]);
    for round in 1..=rounds(peers.setup) {
        eprintln!("bench: capture of {name}, round {round}");
        kept.push(trace(peers, arguments, &capture)?);
        for ((_, options), times) in REPORTS.iter().zip(&mut times) {
            times.push(report(peers.setup, &capture, options)?);
        }
        fs::remove_file(&capture)?;
    }
    add_kept(&group, &kept, results);
    let most = Most { wall_ns: Some(MOST_REPORT_NS), peak_bytes: Some(MOST_REPORT_BYTES) };
    for ((what, _), times) in REPORTS.iter().zip(&times) {
        add_times(&group, what, times, most, results);
    }
    Ok(())
}

fn rounds(setup: &Setup) -> u32 {
    if setup.quick { 1 } else { 3 }
}

/// What was traced, and how large the file became.
struct Kept {
    timing: Timing,
    report: Report,
    file_bytes: f64,
}

fn trace(peers: &Peers<'_>, arguments: &[&str], copy: &Path) -> Result<Kept> {
    let mut command = Command::new(peers.setup.targets.join("threads"));
    let mut target = peers.cpus.start(false, || Target::start(command.args(arguments)))?;
    target.pace(100_000_000, PAIRS_PER_SECOND)?;
    let tracer = peers.attach(Tool::Exact, target.pid())?;
    let timing = target.pace(SECONDS * 1_000_000_000, PAIRS_PER_SECOND)?;
    let (report, file_bytes) = tracer.finish_with(|capture| Ok(fs::copy(capture, copy)? as f64))?;
    ensure!(report.completeness.events > 0, "memtrace saw nothing");
    Ok(Kept { timing, report, file_bytes })
}

fn add_kept(group: &str, kept: &[Kept], results: &mut Results) {
    let of = |figure: fn(&Kept) -> f64| kept.iter().map(figure).collect::<Vec<f64>>();
    let events = |it: &Kept| it.report.completeness.events as f64;
    let (none, most) = (Requirement::AllEqual(0.0), Requirement::MedianAtMost(MOST_BYTES_AN_EVENT));
    results.add(
        group,
        "pairs that the target made",
        Unit::PerSecond,
        &of(|it| it.timing.rate()),
        None,
    );
    let ten_million = Some(Requirement::AllAtLeast(EVENTS));
    let seen: Vec<f64> = kept.iter().map(events).collect();
    results.add(group, "events", Unit::Count, &seen, ten_million);
    results.add(group, "events lost", Unit::Count, &of(|it| it.report.lost() as f64), Some(none));
    results.add(group, "the file", Unit::Bytes, &of(|it| it.file_bytes), None);
    let an_event: Vec<f64> = kept.iter().map(|it| it.file_bytes / events(it)).collect();
    results.add(group, "bytes an event", Unit::Decimal, &an_event, Some(most));
    let peaks = of(|it| it.report.rss.own_peak_bytes as f64);
    results.add(group, "memtrace's own peak RSS", Unit::Bytes, &peaks, None);
}

fn report(setup: &Setup, capture: &Path, options: &[&str]) -> Result<Finished> {
    let mut command = Command::new(&setup.memtrace);
    command.arg("report").arg(capture).args(options);
    run(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
}

/// What reports may take.
#[derive(Clone, Copy)]
struct Most {
    wall_ns: Option<f64>,
    peak_bytes: Option<f64>,
}

fn add_times(group: &str, what: &str, took: &[Finished], most: Most, results: &mut Results) {
    let of = |figure: fn(&Finished) -> f64| took.iter().map(figure).collect::<Vec<f64>>();
    let wall = most.wall_ns.map(Requirement::MedianAtMost);
    results.add(group, what, Unit::Ns, &of(|it| it.wall_ns), wall);
    results.add(group, format!("{what}: CPU time"), Unit::Ns, &of(|it| it.cpu_ns), None);
    let peak = most.peak_bytes.map(Requirement::MedianAtMost);
    results.add(group, format!("{what}: peak RSS"), Unit::Bytes, &of(|it| it.peak_bytes), peak);
}

/// Of a capture with very many stacks.
fn exports(setup: &Setup, results: &mut Results) -> Result<()> {
    let scratch = TempDir::new()?;
    let capture = scratch.path().join("stacks.memtrace");
    stacks::write(&capture)?;
    let group = format!("{} distinct stacks of {} frames", stacks::STACKS, stacks::DEPTH);
    for (format, is_quick) in EXPORTS {
        eprintln!("bench: {} stacks as {format}", stacks::STACKS);
        let output = scratch.path().join("export");
        let output_option = output.to_string_lossy();
        let options = ["--format", format, "--by", "stack", "--force", "-o", &output_option];
        let took: Vec<Finished> =
            (0..rounds(setup)).map(|_| report(setup, &capture, &options)).collect::<Result<_>>()?;
        let most = Most { wall_ns: is_quick.then_some(MOST_EXPORT_NS), peak_bytes: None };
        add_times(&group, &format!("as {format}"), &took, most, results);
        let bytes = [fs::metadata(&output)?.len() as f64];
        results.add(&group, format!("as {format}: the file"), Unit::Bytes, &bytes, None);
    }
    Ok(())
}
