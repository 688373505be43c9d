//! From a capture to the program that all replays make.

use std::{
    fs::File,
    io::{BufWriter, Seek as _},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::{
    capture::{Capture, Events},
    model::{layout::HeapLayout, size},
    whatif::{
        Compiler, Sampling, Seeded, Survey,
        program::{Op, ProgramWriter},
        result::ProgramFacts,
        seed,
        variant::{Setting, is_dynamic, settings_of},
    },
};

/// Memory is measured so often, by calls; and as often, by time.
const SAMPLES: u64 = 150;

/// A share of the events that may be missing: the blocks that they are about are few, and either
/// stay or were never there.
const MAX_LEFT_OUT: f64 = 0.02;

/// glibc's arenas for a CPU (`NARENAS_FROM_NCORES`, malloc/arena.c).
const ARENAS_OF_A_CPU: u64 = 8;

/// All that replays need.
pub struct Prepared {
    /// The program.
    pub program: File,
    /// What it is made of.
    pub facts: ProgramFacts,
    /// How often it measures.
    pub samples: u64,
    /// How late it is at its end, since the window was opened.
    pub end_ns: u64,
    /// What of the target's settings is not glibc's default.
    pub settings: Vec<Setting>,
    /// What a reader must know.
    pub notes: Vec<String>,
}

/// Makes the program.
///
/// # Errors
/// When the capture is not fit for it, or cannot be read.
pub fn prepare<E: Events>(capture: &Capture, events: &E) -> Result<Prepared>
where
    E::Error: std::error::Error + Send + Sync + 'static,
{
    refuse(capture)?;
    let mut survey = Survey::default();
    events.replay(&mut |event| survey.visit(event))?;
    refuse_surveyed(&survey)?;
    let end_ns = end_ns(capture, &survey);
    let layout = capture.layouts.before.as_deref();
    let sampling = sampling(capture, &survey, end_ns);
    let memfd = memfd_create("memtrace-replay", MemfdFlags::CLOEXEC)
        .context("there is no room for the program of the replay")?;
    let mut writer = ProgramWriter::new(BufWriter::new(File::from(memfd)));
    let (mut failed, mut samples) = (None, 0);
    let mut sink = |op: Op| {
        samples += u64::from(matches!(op, Op::Sample { .. }));
        if let Err(error) = writer.push(op) {
            failed.get_or_insert(error);
        }
    };
    let pid = capture.header.target.pid;
    let mut compiler = Compiler::new(capture.header.opened_ns, pid, &survey, sampling, &mut sink);
    let seeded = begin(&mut compiler, layout, capture, &survey);
    events.replay(&mut |event| compiler.visit(event))?;
    let calls = compiler.calls();
    let (blocks, oddities) = compiler.finish(end_ns);
    if let Some(error) = failed {
        return Err(error).context("there is no room for the program of the replay");
    }
    let mut program = writer.finish()?.into_inner().map_err(|error| error.into_error())?;
    let facts = ProgramFacts {
        calls,
        program_bytes: program.stream_position()?,
        seeded_chunks: seeded.chunks,
        seeded_bytes: seeded.in_use_bytes,
        seeded_free_bytes: seeded.free_bytes,
        live_bytes: blocks.amount().1,
        unknown_blocks: oddities.unknown_blocks,
        implied_frees: oddities.implied_frees,
        mappings: survey.mappings.count,
        mapped_bytes: survey.mappings.bytes,
    };
    program.rewind()?;
    let notes = notes(capture, &survey, &facts, layout);
    Ok(Prepared { program, facts, samples, end_ns, settings: settings(capture), notes })
}

fn refuse(capture: &Capture) -> Result<()> {
    let again = "trace again with attach --exact --max-overhead none";
    ensure!(
        capture.header.growth.is_none(),
        "it is of growth and not of calls; {again}, without --growth"
    );
    let kept = capture.events;
    ensure!(kept.kept > 0, "it has no events; {again}, without --events off");
    ensure!(
        kept.left_out as f64 <= MAX_LEFT_OUT * kept.kept as f64,
        "{} of its events were left out; {again} and a larger --max-size",
        size::count(kept.left_out)
    );
    let is_sampled =
        capture.header.sample_bytes.is_some() || capture.ending.sample_interval_bytes.is_some();
    ensure!(!is_sampled, "it is of samples, and a replay needs every call; {again}");
    ensure!(
        capture.ending.coverage.is_full(),
        "its probes were not there all the time, and a replay needs every call; {again}"
    );
    Ok(())
}

fn refuse_surveyed(survey: &Survey) -> Result<()> {
    if survey.samples > 0 {
        bail!(
            "{} of its events are samples, and a replay needs every call; trace again with \
             attach --exact --max-overhead none",
            size::count(survey.samples)
        );
    }
    ensure!(survey.calls > 0, "nothing in it was allocated or freed");
    Ok(())
}

/// When the window was closed; where that is not known, the last event.
fn end_ns(capture: &Capture, survey: &Survey) -> u64 {
    let end = capture.ending.closed_ns.max(survey.last_ns);
    end.saturating_sub(capture.header.opened_ns)
}

fn sampling(capture: &Capture, survey: &Survey, end_ns: u64) -> Sampling {
    let steps = (0..=SAMPLES)
        .map(|step| (u128::from(end_ns) * u128::from(step) / u128::from(SAMPLES)) as u64);
    let walked = capture.timeline.samples.iter().filter(|it| it.heap_resident_bytes.is_some());
    let mut times: Vec<u64> = steps.chain(walked.map(|it| it.at_ns)).collect();
    times.push(capture.walks.at_ns);
    times.sort_unstable();
    times.dedup();
    Sampling { times, every_calls: survey.calls.div_ceil(SAMPLES).max(1) }
}

/// Rebuilds the heap, where it is known.
fn begin(
    compiler: &mut Compiler<'_>,
    layout: Option<&HeapLayout>,
    capture: &Capture,
    survey: &Survey,
) -> Seeded {
    let Some(layout) = layout else { return Seeded::default() };
    let parameters = capture.walks.before.as_ref().and_then(|it| it.glibc.first());
    let raised = parameters
        .map(|heap| heap.parameters)
        .filter(is_dynamic)
        .map(|parameters| parameters.mmap_threshold_bytes);
    let seeded = seed(compiler, layout, survey, raised);
    compiler.begin_at(u64::try_from(layout.at_ns).unwrap_or(0));
    seeded
}

/// Also the number of arenas, which follows that of CPUs.
fn settings(capture: &Capture) -> Vec<Setting> {
    let census = capture.walks.before.as_ref().or(capture.walks.after.as_ref());
    let heap = census.and_then(|census| census.glibc.first());
    let mut settings = heap.map_or_else(Vec::new, |heap| settings_of(&heap.parameters));
    let here = std::thread::available_parallelism().map_or(0, usize::from) as u64;
    let there = capture.header.host.cpus;
    let is_set = settings.iter().any(|it| matches!(it, Setting::ArenaMax(_)));
    if !is_set && there > 0 && there != here {
        settings.push(Setting::ArenaMax(there * ARENAS_OF_A_CPU));
    }
    settings
}

fn notes(
    capture: &Capture,
    survey: &Survey,
    facts: &ProgramFacts,
    layout: Option<&HeapLayout>,
) -> Vec<String> {
    let mut notes = Vec::new();
    if layout.is_none() {
        notes.push(match facts.unknown_blocks {
            0 => "The replay begins with an empty heap.".to_owned(),
            count => format!(
                "The replay begins with an empty heap, because the capture has no layout of the \
                 heap at its start (a window that begins with the program needs none): {} frees of \
                 blocks that are not known are left out.",
                size::count(count)
            ),
        });
    } else if facts.unknown_blocks > 0 {
        notes.push(format!(
            "{} frees of blocks that are not known are left out.",
            size::count(facts.unknown_blocks)
        ));
    }
    if survey.of_others > 0 {
        notes.push(format!(
            "{} calls of other allocators of the process, or of mappings, are left out.",
            size::count(survey.of_others)
        ));
    }
    if survey.mappings.count > 0 {
        notes.push(format!(
            "{} mappings of the program ({}) are not replayed: they are the same under every \
             allocator, and what of them is resident is in the RSS that is not the heap.",
            size::count(survey.mappings.count),
            size::bytes(survey.mappings.bytes)
        ));
    }
    if capture.events.left_out > 0 {
        notes.push(format!(
            "{} of {} events are missing in the capture: what they did is not replayed.",
            size::count(capture.events.left_out),
            size::count(capture.events.kept + capture.events.left_out)
        ));
    }
    if survey.execs > 0 {
        notes.push("The process executed another program: what that did is replayed.".to_owned());
    }
    let losses: u64 = capture.ending.losses.iter().map(|loss| loss.count).sum();
    if !capture.ending.completeness.complete && losses > 0 {
        notes.push(format!(
            "{} losses while it was traced: the replay lacks these calls.",
            size::count(losses)
        ));
    }
    notes
}
