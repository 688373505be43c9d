//! `memtrace whatif`: what another allocator or setting would have made of the same calls.

mod facts;
mod libraries;
mod prepare;
mod run;

use std::{
    io::{self, Write},
    path::PathBuf,
    thread,
};

use anyhow::{Context as _, Result, bail};

use self::{
    libraries::Libraries,
    prepare::Prepared,
    run::{Job, Limits},
};
use super::{
    Status,
    output::say,
    report::{
        open::open,
        sink::{Destination, Kind, Sink},
        units,
        working::Working,
    },
};
use crate::{
    capture::{Capture, OfProcess},
    cli::{WhatIfArgs, WhatIfFormat},
    render::{self, text::TextOptions},
    whatif::{
        result::{Outcome, Row, SCHEMA, WhatIf},
        variant::{DEFAULT, Setting, Variant},
    },
};

/// Runs the command.
pub fn run(args: &WhatIfArgs, quiet: bool) -> Result<Status> {
    let libraries = Libraries::new(&args.libraries)?;
    let variants = variants(args, &libraries)?;
    let sink = Sink::open(Destination {
        output: args.output.as_deref(),
        force: args.force,
        kind: if args.format() == WhatIfFormat::Svg { Kind::Document } else { Kind::Readable },
        inputs: &[&args.capture],
    })?;
    let working = Working::new(quiet);
    let result = result(args, &variants, &libraries, &working)?;
    working.finish();
    if !quiet && args.format() != WhatIfFormat::Text {
        result.notes.iter().for_each(|note| say(format_args!("note: {note}")));
    }
    sink.write(|out, text| render(&result, args, text, out))?;
    Ok(Status::Done)
}

fn variants(args: &WhatIfArgs, libraries: &Libraries) -> Result<Vec<Variant>> {
    let mut variants = match args.with.is_empty() {
        true => DEFAULT.iter().filter_map(|text| text.parse().ok()).collect(),
        false => args.with.clone(),
    };
    if args.with.is_empty() {
        let given = args.libraries.iter().filter_map(|(name, _)| name.parse().ok());
        variants.extend(given);
    }
    for variant in &variants {
        if !variant.is_glibc() && !libraries.knows(&variant.allocator) {
            bail!(
                "there is no allocator `{}`: glibc, jemalloc, tcmalloc and mimalloc are known, \
                 others are given with --lib NAME=PATH",
                variant.allocator
            );
        }
    }
    Ok(variants)
}

fn result(
    args: &WhatIfArgs,
    variants: &[Variant],
    libraries: &Libraries,
    working: &Working,
) -> Result<WhatIf> {
    let name = args.capture.display();
    let opened = open(&args.capture, working)?;
    if let Some(cut) = opened.cut {
        bail!(
            "{name} cannot be replayed: {}; a replay needs all of the window",
            cut.sentence(opened.capture.events)
        );
    }
    working.phase("making the program of the replay");
    let (capture, number) = process(&opened.capture, args.process)?;
    let events = OfProcess { events: &opened.events, number };
    let prepared = prepare::prepare(&capture, &events)
        .with_context(|| format!("{name} cannot be replayed"))?;
    let rows = replay(args, variants, libraries, &prepared, working)?;
    let mut result = WhatIf {
        schema: SCHEMA.to_owned(),
        capture: name.to_string(),
        pid: capture.header.target.pid,
        command: capture.header.target.command.clone(),
        window_ns: prepared.end_ns,
        program: prepared.facts,
        target: facts::target(&capture),
        variants: rows.iter().map(|(row, _)| row.clone()).collect(),
        notes: prepared.notes,
        ..WhatIf::default()
    };
    let seen = rows.iter().find_map(|(_, seen)| *seen);
    result.notes.extend(facts::notes(&capture, seen));
    result.conclude();
    Ok(result)
}

/// One process of the capture, and its number.
fn process(capture: &Capture, wanted: Option<u32>) -> Result<(Capture, u8)> {
    let pids: Vec<String> =
        capture.processes.iter().map(|it| it.header.target.pid.to_string()).collect();
    match wanted {
        None if capture.processes.len() > 1 => bail!(
            "several processes were traced, and one is replayed at a time: choose one with \
             --process ({})",
            pids.join(", ")
        ),
        Some(pid) if !capture.processes.is_empty() => {
            let process = capture.process(pid).with_context(|| {
                format!("there is no process {pid} in the capture; it has {}", pids.join(", "))
            })?;
            Ok((capture.of_process(process), process.number))
        }
        Some(pid) if pid != capture.header.target.pid => bail!(
            "there is no process {pid} in the capture: only {} was traced",
            capture.header.target.pid
        ),
        _ => Ok((capture.clone(), 0)),
    }
}

/// Rows in the order of the variants, and what their replays saw of this machine.
fn replay(
    args: &WhatIfArgs,
    variants: &[Variant],
    libraries: &Libraries,
    prepared: &Prepared,
    working: &Working,
) -> Result<Vec<(Row, Option<run::Seen>)>> {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let at_a_time = args.jobs.map_or((cpus / 2).max(1), |jobs| jobs as usize).min(variants.len());
    let max_bytes = match args.max_rss {
        Some(bytes) => bytes,
        None => facts::available_bytes()? / 2 / at_a_time as u64,
    };
    let jobs: Vec<Job> = variants.iter().map(|it| job(it, libraries, &prepared.settings)).collect();
    working.parts("replaying", jobs.len() as u64 * prepared.samples);
    let limits = Limits { max_bytes, at_a_time };
    run::run(&jobs, prepared, limits, |done| working.advance(done))
}

fn job(variant: &Variant, libraries: &Libraries, target: &[Setting]) -> Job {
    let library: Option<PathBuf> = libraries.path(&variant.allocator);
    let missing = match (variant.is_glibc(), &library) {
        (false, None) => Some(Outcome::NotFound { package: libraries.package(&variant.allocator) }),
        _ => None,
    };
    let shown = library.as_ref().map(|path| path.display().to_string());
    Job {
        name: variant.label.clone(),
        how: variant.how(shown.as_deref()),
        tunables: if variant.is_glibc() { variant.tunables(target) } else { String::new() },
        library,
        trim_ns: variant.trim_ns(),
        missing,
    }
}

fn render(
    result: &WhatIf,
    args: &WhatIfArgs,
    text: TextOptions,
    mut out: &mut dyn Write,
) -> io::Result<()> {
    let text = TextOptions { units: units(args.units), ..text };
    match args.format() {
        WhatIfFormat::Text => render::text::whatif::write(result, text, &mut out),
        WhatIfFormat::Json => render::json::write_whatif(result, &mut out),
        WhatIfFormat::Svg => render::timeline::whatif::write(result, &mut out),
    }
}
