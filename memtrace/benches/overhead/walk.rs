//! What a walked frame costs, in code without frame pointers, against bare probes on the same
//! sites: by the CPU time of a malloc and its free, and by the run time of the one BPF program
//! that walks, which the kernel measures.

use anyhow::{Result, ensure};
use aya::sys::{Stats, enable_stats};

use crate::{
    Setup,
    floor::{Floor, FreeAt},
    machine::Cpus,
    results::{Requirement, Results, Unit, median},
    target::{Target, Work},
    tracer::Tracer,
};

const GROUP: &str = "Walking a stack without frame pointers";

/// Frames that the target is told to put between `main` and its loop.
const DEPTHS: [u64; 5] = [2, 12, 27, 60, 120];
/// The depth of the figures in detail.
const DEPTH: u64 = 27;
const SIZE_BYTES: u64 = 256;

const MOST_A_FRAME: Requirement = Requirement::MedianAtMost(40.0);
const MOST_AN_EVENT: Requirement = Requirement::MedianAtMost(1000.0);

/// What is armed while the target runs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Variant {
    Empty,
    NoStacks,
    FramePointers,
    Tables,
}

use Variant::{Empty, FramePointers, NoStacks, Tables};

impl Variant {
    const ALL: [Self; 4] = [Empty, NoStacks, FramePointers, Tables];

    fn name(self) -> &'static str {
        match self {
            Empty => "empty programs",
            NoStacks => "memtrace --no-stacks",
            FramePointers => "memtrace --frame-pointers",
            Tables => "memtrace",
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Empty | Tables => &[],
            NoStacks => &["--no-stacks"],
            FramePointers => &["--frame-pointers"],
        }
    }

    /// Its program at the entry of malloc.
    fn entry_program(self) -> &'static str {
        if self == Empty { "empty" } else { "enter_size" }
    }
}

/// One measurement.
struct Sample {
    variant: Variant,
    depth: u64,
    /// CPU time of a malloc and its free.
    pair_ns: f64,
    /// Run time of the entry program of malloc; where it ran for nothing else.
    entry_ns: Option<f64>,
}

/// All measurements of one round.
struct Round(Vec<Sample>);

/// Measures, and adds the rows.
pub fn measure(setup: &Setup, cpus: Cpus, results: &mut Results) -> Result<()> {
    let (rounds, pairs) = if setup.quick { (3, 10_000) } else { (15, 30_000) };
    let mut target = Target::pairs(&setup.targets.join("walk"), cpus)?;
    let mut done = Vec::new();
    for round in 1..=rounds {
        eprintln!("bench: walk, round {round} of {rounds}");
        let mut samples = Vec::new();
        for variant in Variant::ALL {
            for depth in DEPTHS {
                samples.push(sample(setup, &mut target, variant, depth, pairs)?);
            }
        }
        done.push(Round(samples));
    }
    add_rows(&done, results);
    Ok(())
}

fn sample(
    setup: &Setup,
    target: &mut Target,
    variant: Variant,
    depth: u64,
    pairs: u64,
) -> Result<Sample> {
    let work = Work { size_bytes: SIZE_BYTES, depth };
    if variant == Empty {
        let floor = Floor::arm(target.pid(), FreeAt::Site)?;
        target.time(pairs / 10, work)?;
        let timing = target.time(pairs, work)?;
        floor.detach();
        return Ok(Sample { variant, depth, pair_ns: timing.pair_ns(), entry_ns: None });
    }
    let tracer = Tracer::attach(&setup.memtrace, target.pid(), variant.arguments())?;
    target.time(pairs / 10, work)?;
    let timing = target.time(pairs, work)?;
    // The kernel's measurement costs something itself: not in the same loop.
    let entry_ns = run_time(&tracer, variant, target, pairs, work)?;
    let report = tracer.finish()?;
    ensure!(report.completeness.complete, "memtrace lost {}", report.losses());
    Ok(Sample { variant, depth, pair_ns: timing.pair_ns(), entry_ns: Some(entry_ns) })
}

/// Mean run time of the entry program over a loop of pairs.
fn run_time(
    tracer: &Tracer,
    variant: Variant,
    target: &mut Target,
    pairs: u64,
    work: Work,
) -> Result<f64> {
    let _measured = enable_stats(Stats::RunTime)?;
    let before = tracer.run_time(variant.entry_program())?;
    target.time(pairs, work)?;
    let after = tracer.run_time(variant.entry_program())?;
    let runs = after.runs - before.runs;
    ensure!(runs == pairs, "{runs} runs of the entry program for {pairs} mallocs");
    Ok((after.ns - before.ns) as f64 / runs as f64)
}

impl Round {
    fn of(&self, variant: Variant, depth: u64) -> Option<&Sample> {
        self.0.iter().find(|sample| sample.variant == variant && sample.depth == depth)
    }

    fn pair_ns(&self, variant: Variant, depth: u64) -> f64 {
        self.of(variant, depth).map_or(f64::NAN, |sample| sample.pair_ns)
    }

    fn entry_ns(&self, variant: Variant, depth: u64) -> f64 {
        self.of(variant, depth).and_then(|sample| sample.entry_ns).unwrap_or(f64::NAN)
    }

    /// Nanoseconds a frame.
    fn slope(&self, value: impl Fn(u64) -> f64) -> f64 {
        let points = DEPTHS.map(|depth| (depth as f64, value(depth)));
        slope(&points)
    }
}

fn add_rows(rounds: &[Round], results: &mut Results) {
    let mut add = |name: String, requirement, value: &dyn Fn(&Round) -> f64| {
        let samples: Vec<f64> = rounds.iter().map(value).collect();
        results.add(GROUP, name, Unit::Ns, &samples, requirement);
    };
    add("a frame, by the CPU time of pairs".to_owned(), Some(MOST_A_FRAME), &|round| {
        round.slope(|depth| round.pair_ns(Tables, depth) - round.pair_ns(Empty, depth))
    });
    add("a frame, by the entry program's run time".to_owned(), Some(MOST_A_FRAME), &|round| {
        round.slope(|depth| round.entry_ns(Tables, depth))
    });
    let name = format!("entry program of malloc, {DEPTH} frames more than main: run time");
    add(name, Some(MOST_AN_EVENT), &|round| round.entry_ns(Tables, DEPTH));
    for variant in [NoStacks, FramePointers] {
        let name = format!("the same of {}", variant.name());
        add(name, None, &|round| round.entry_ns(variant, DEPTH));
    }
    for depth in DEPTHS {
        for variant in [NoStacks, FramePointers, Tables] {
            let name = format!("{}, {depth} frames: a pair, over empty programs", variant.name());
            add(name, None, &|round| round.pair_ns(variant, depth) - round.pair_ns(Empty, depth));
        }
    }
    let empty = rounds.iter().map(|round| round.pair_ns(Empty, DEPTH)).collect::<Vec<_>>();
    results.add(GROUP, format!("{}: a pair", Empty.name()), Unit::Ns, &empty, None);
}

/// The median of the slopes of all pairs of points (Theil-Sen): one disturbed point moves it
/// little.
fn slope(points: &[(f64, f64)]) -> f64 {
    let mut slopes: Vec<f64> = points
        .iter()
        .enumerate()
        .flat_map(|(index, one)| points[..index].iter().map(move |other| (one, other)))
        .map(|(one, other)| (one.1 - other.1) / (one.0 - other.0))
        .collect();
    slopes.sort_by(f64::total_cmp);
    median(&slopes)
}
