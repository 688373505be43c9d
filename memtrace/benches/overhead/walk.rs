//! What a walked frame costs, in code without frame pointers, against bare probes on the same
//! sites: by the CPU time of a malloc and its free, and by the run time of the one BPF program
//! that walks, which the kernel measures.

use anyhow::{Result, ensure};
use aya::sys::{Stats, enable_stats};

use crate::{
    Setup,
    floor::{Floor, Sites},
    kernel_objects::run_time,
    machine::Cpus,
    results::{Requirement, Results, Unit, median},
    target::{Target, Work},
    tracer::Tracer,
};

const GROUP: &str = "Walking a stack without frame pointers, over empty programs on the same sites";

/// Frames of the stack.
const FRAMES: [u64; 5] = [8, 12, 27, 60, 120];
/// Those that are there without recursion: the loop, the outermost of the recursive function, main,
/// two of libc and _start.
const FRAMES_AT_LEAST: u64 = 6;
/// Of the figures in detail.
const DETAIL: u64 = 27;
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

    /// Its program at the entry of malloc, and how often that runs in a pair.
    fn entry_program(self) -> (&'static str, u64) {
        if self == Empty { ("empty", 2) } else { ("enter", 1) }
    }
}

/// One measurement; times are in nanoseconds.
struct Sample {
    variant: Variant,
    frames: u64,
    /// CPU time of a malloc and its free.
    pair_ns: f64,
    /// Mean run time of the entry program of malloc, the kernel's measurement of it included.
    entry_ns: f64,
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
            for frames in FRAMES {
                samples.push(sample(setup, &mut target, variant, frames, pairs)?);
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
    frames: u64,
    pairs: u64,
) -> Result<Sample> {
    let work = Work { size_bytes: SIZE_BYTES, depth: frames - FRAMES_AT_LEAST };
    let pid = target.pid();
    let mut measure = |holder| {
        target.time(pairs / 10, work)?;
        let pair_ns = target.time(pairs, work)?.pair_ns();
        // The kernel's measurement costs something itself: not in the same loop.
        let entry_ns = entry_run_time(holder, variant, target, pairs, work)?;
        Ok(Sample { variant, frames, pair_ns, entry_ns })
    };
    if variant == Empty {
        let floor = Floor::arm(pid, Sites::Chosen)?;
        let sample = measure(std::process::id());
        floor.detach();
        return sample;
    }
    let tracer = Tracer::attach(&setup.memtrace, pid, variant.arguments())?;
    let sample = measure(tracer.pid());
    let report = tracer.finish()?;
    ensure!(report.completeness.complete, "memtrace lost {}", report.losses());
    ensure!(
        variant != Tables || report.has_stack_of(frames, 2 * pairs),
        "the target's stack does not have {frames} frames"
    );
    sample
}

/// Mean run time of the entry program, which process `holder` has loaded, over a loop of pairs.
fn entry_run_time(
    holder: u32,
    variant: Variant,
    target: &mut Target,
    pairs: u64,
    work: Work,
) -> Result<f64> {
    let (program, runs_a_pair) = variant.entry_program();
    let _measured = enable_stats(Stats::RunTime)?;
    let before = run_time(holder, program)?;
    target.time(pairs, work)?;
    let after = run_time(holder, program)?;
    let runs = after.runs - before.runs;
    ensure!(runs == pairs * runs_a_pair, "{program} ran {runs} times for {pairs} pairs");
    Ok((after.ns - before.ns) as f64 / runs as f64)
}

impl Round {
    fn of(&self, variant: Variant, frames: u64, value: fn(&Sample) -> f64) -> f64 {
        let mut samples = self.0.iter();
        let found = samples.find(|sample| sample.variant == variant && sample.frames == frames);
        found.map_or(f64::NAN, value)
    }

    /// A pair over one with empty programs.
    fn pair_ns(&self, variant: Variant, frames: u64) -> f64 {
        let of = |variant| self.of(variant, frames, |sample| sample.pair_ns);
        of(variant) - of(Empty)
    }

    /// The entry program of malloc over an empty one.
    fn entry_ns(&self, variant: Variant, frames: u64) -> f64 {
        let of = |variant| self.of(variant, frames, |sample| sample.entry_ns);
        of(variant) - of(Empty)
    }
}

fn add_rows(rounds: &[Round], results: &mut Results) {
    let mut add = |name: String, requirement, value: &dyn Fn(&Round) -> f64| {
        let samples: Vec<f64> = rounds.iter().map(value).collect();
        results.add(GROUP, name, Unit::Ns, &samples, requirement);
    };
    add("a frame, by the CPU time of pairs".to_owned(), Some(MOST_A_FRAME), &|round| {
        slope(FRAMES.map(|frames| (frames as f64, round.pair_ns(Tables, frames))))
    });
    add("a frame, by the run time of malloc's entry".to_owned(), Some(MOST_A_FRAME), &|round| {
        slope(FRAMES.map(|frames| (frames as f64, round.entry_ns(Tables, frames))))
    });
    for variant in [Tables, FramePointers, NoStacks] {
        let name = format!("{}, {DETAIL} frames: malloc's entry, run time", variant.name());
        let requirement = (variant == Tables).then_some(MOST_AN_EVENT);
        add(name, requirement, &|round| round.entry_ns(variant, DETAIL));
    }
    for frames in FRAMES {
        for variant in [Tables, FramePointers, NoStacks] {
            let name = format!("{}, {frames} frames: malloc and free, CPU time", variant.name());
            add(name, None, &|round| round.pair_ns(variant, frames));
        }
    }
}

/// The median of the slopes of all pairs of points (Theil-Sen): one disturbed point moves it
/// little.
pub fn slope<const N: usize>(points: [(f64, f64); N]) -> f64 {
    let mut slopes: Vec<f64> = points
        .iter()
        .enumerate()
        .flat_map(|(index, one)| points[..index].iter().map(move |other| (one, other)))
        .map(|(one, other)| (one.1 - other.1) / (one.0 - other.0))
        .collect();
    slopes.sort_by(f64::total_cmp);
    median(&slopes)
}
