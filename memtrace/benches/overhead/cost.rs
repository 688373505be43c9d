//! What a malloc and its free cost the target, by what is armed, in rounds that go through all
//! of it again and again: a machine that slows down slows down everything alike.

use anyhow::{Result, ensure};

use crate::{
    Setup,
    floor::{Floor, Sites},
    machine::Cpus,
    results::{Requirement, Results, Unit},
    target::{Target, Timing, Work},
    tracer::{Tracer, exact, sampled},
};

const GROUP: &str = "Cost of a malloc and its free, to the target";

/// Sizes that glibc serves from its thread cache, its bins and the top of its heap.
const SIZES_BYTES: [u64; 4] = [16, 256, 4096, 65536];
/// The size of the figures in detail.
const SIZE_BYTES: u64 = 256;
/// Frames more for the stack of 20, ...
const USUAL: u64 = 16;
/// ... and for the deep one.
const DEEP: u64 = 30;

/// Of added cost with events over added cost of empty probes.
const MOST_OF_EMPTY: f64 = 1.5;
/// The same with a stack of 20 frames.
const MOST_WITH_STACKS: f64 = 2.5;

/// The same when hardly a call is drawn.
const MOST_OF_EMPTY_SAMPLED: f64 = 1.15;

/// What is armed while the target runs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Variant {
    Bare,
    Empty,
    EmptyFreeAtEntry,
    Sampled,
    Events,
    Stacks,
    UsualStacks,
    DeepStacks,
}

use Variant::{Bare, DeepStacks, Empty, EmptyFreeAtEntry, Events, Sampled, Stacks, UsualStacks};

impl Variant {
    const ALL: [Self; 8] =
        [Bare, Empty, EmptyFreeAtEntry, Sampled, Events, Stacks, UsualStacks, DeepStacks];

    fn name(self) -> &'static str {
        match self {
            Bare => "nothing armed",
            Empty => "empty programs on memtrace's sites",
            EmptyFreeAtEntry => "empty programs, free at its first instruction",
            Sampled => "memtrace --sample-bytes 512KiB",
            Events => "memtrace --no-stacks",
            Stacks => "memtrace, a stack of 4 frames",
            UsualStacks => "memtrace, a stack of 20 frames",
            DeepStacks => "memtrace, a stack of 34 frames",
        }
    }

    fn depth(self) -> u64 {
        match self {
            UsualStacks => USUAL,
            DeepStacks => DEEP,
            Bare | Empty | EmptyFreeAtEntry | Sampled | Events | Stacks => 0,
        }
    }
}

/// Samples of one variant and size, in nanoseconds a pair.
struct Series {
    variant: Variant,
    size_bytes: u64,
    pair_ns: Vec<f64>,
}

/// Measures, and adds the rows.
pub fn measure(setup: &Setup, cpus: Cpus, results: &mut Results) -> Result<()> {
    let (rounds, pairs) = if setup.quick { (5, 20_000) } else { (21, 50_000) };
    let mut series: Vec<Series> = Vec::new();
    for variant in Variant::ALL {
        let of = |size_bytes| Series { variant, size_bytes, pair_ns: Vec::new() };
        series.extend(sizes(variant).iter().copied().map(of));
    }
    let mut target = Target::pairs(&setup.pairs(), cpus)?;
    for round in 1..=rounds {
        eprintln!("bench: cost, round {round} of {rounds}");
        for variant in Variant::ALL {
            let mut of_variant: Vec<_> =
                series.iter_mut().filter(|series| series.variant == variant).collect();
            run(setup, &mut target, variant, pairs, &mut of_variant)?;
        }
    }
    add_rows(&series, results);
    Ok(())
}

fn sizes(variant: Variant) -> &'static [u64] {
    match variant {
        Bare | Empty | Events => &SIZES_BYTES,
        EmptyFreeAtEntry | Sampled | Stacks | UsualStacks | DeepStacks => &[SIZE_BYTES],
    }
}

fn run(
    setup: &Setup,
    target: &mut Target,
    variant: Variant,
    pairs: u64,
    series: &mut [&mut Series],
) -> Result<()> {
    match variant {
        Bare => time_all(target, variant, pairs * 10, series).map(drop),
        Empty | EmptyFreeAtEntry => {
            let at = if variant == Empty { Sites::Chosen } else { Sites::FreeFirst };
            let floor = Floor::arm(target.pid(), at)?;
            time_all(target, variant, pairs, series)?;
            floor.detach();
            Ok(())
        }
        Sampled => traced(setup, &sampled(&setup.memtrace), target, variant, pairs, series),
        Events => {
            let arguments = [&exact(&setup.memtrace)[..], &["--no-stacks"]].concat();
            traced(setup, &arguments, target, variant, pairs, series)
        }
        Stacks | UsualStacks | DeepStacks => {
            traced(setup, &exact(&setup.memtrace), target, variant, pairs, series)
        }
    }
}

fn traced(
    setup: &Setup,
    arguments: &[&str],
    target: &mut Target,
    variant: Variant,
    pairs: u64,
    series: &mut [&mut Series],
) -> Result<()> {
    let tracer = Tracer::attach_as(&setup.memtrace, target.pid(), arguments)?;
    let made = time_all(target, variant, pairs, series)?;
    let report = tracer.finish()?;
    // A tracer that drops events is cheap. Calls that are not drawn are counted all the same.
    let seen = (report.calls("malloc"), report.calls("free"), report.completeness.complete);
    ensure!(
        seen == (made, made, true),
        "memtrace saw (mallocs, frees, all) {seen:?} of {made} pairs; lost: {}",
        report.losses()
    );
    Ok(())
}

/// Times every size once, after a warm-up, and returns how many pairs that was in all.
fn time_all(
    target: &mut Target,
    variant: Variant,
    pairs: u64,
    series: &mut [&mut Series],
) -> Result<u64> {
    let mut made = 0;
    for series in series {
        let work = Work { size_bytes: series.size_bytes, depth: variant.depth() };
        let warm_up = target.time(pairs / 10, work)?;
        let timing: Timing = target.time(pairs, work)?;
        series.pair_ns.push(timing.pair_ns());
        made += warm_up.pairs + timing.pairs;
    }
    Ok(made)
}

fn add_rows(series: &[Series], results: &mut Results) {
    let of = |variant, size_bytes| {
        let found = series.iter().find(|of| of.variant == variant && of.size_bytes == size_bytes);
        found.map_or(&[][..], |of| &of.pair_ns)
    };
    for variant in Variant::ALL {
        let name = format!("{}, {SIZE_BYTES} bytes", variant.name());
        results.add(GROUP, name, Unit::Ns, of(variant, SIZE_BYTES), None);
    }
    for size_bytes in SIZES_BYTES {
        let ratios = ratios(of(Events, size_bytes), of(Empty, size_bytes), of(Bare, size_bytes));
        let name = format!("{} over empty programs, {size_bytes} bytes", Events.name());
        let requirement = Some(Requirement::MedianAtMost(MOST_OF_EMPTY));
        results.add(GROUP, name, Unit::Ratio, &ratios, requirement);
    }
    let sampled = ratios(of(Sampled, SIZE_BYTES), of(Empty, SIZE_BYTES), of(Bare, SIZE_BYTES));
    let name = format!("{} over empty programs", Sampled.name());
    let requirement = Some(Requirement::MedianAtMost(MOST_OF_EMPTY_SAMPLED));
    results.add(GROUP, name, Unit::Ratio, &sampled, requirement);
    let (bare, empty) = (of(Bare, SIZE_BYTES), of(Empty, SIZE_BYTES));
    for variant in [Stacks, UsualStacks, DeepStacks, EmptyFreeAtEntry] {
        let name = format!("{} over empty programs", variant.name());
        let most = Requirement::MedianAtMost(MOST_WITH_STACKS);
        let ratios = ratios(of(variant, SIZE_BYTES), empty, bare);
        results.add(GROUP, name, Unit::Ratio, &ratios, (variant == UsualStacks).then_some(most));
    }
}

/// Round by round: what it adds to the bare pair, over what empty programs add.
fn ratios(pair_ns: &[f64], empty_ns: &[f64], bare_ns: &[f64]) -> Vec<f64> {
    let rounds = pair_ns.iter().zip(empty_ns).zip(bare_ns);
    rounds.map(|((pair, empty), bare)| (pair - bare) / (empty - bare)).collect()
}
