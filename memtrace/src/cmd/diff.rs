//! `memtrace diff`: what grew from one capture to another.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::{Context as _, Result};

use super::{
    Status,
    output::{is_broken_pipe, say},
    report::{
        group_by, growth_view, layout, nanoseconds,
        open::open,
        sink::{Destination, Kind, Sink},
        units, view,
        working::Working,
    },
};
use crate::{
    capture::select::{Selection, select},
    cli::{DiffArgs, DiffFormat},
    diff::{Diff, DiffOptions, Named},
    render::{self, text::TextOptions},
    report::{Report, ReportOptions},
};

/// Runs the command.
pub fn run(args: &DiffArgs, quiet: bool) -> Result<Status> {
    let sink = Sink::open(Destination {
        output: args.output.as_deref(),
        force: args.force,
        kind: kind(args.format()),
        inputs: &[&args.before, &args.after],
    })?;
    let diff = diff(args, quiet)?;
    // The text has them.
    if !quiet && args.format() != DiffFormat::Text {
        diff.warnings.iter().for_each(|warning| say(format_args!("warning: {warning}")));
    }
    let written = sink.write(|out, text| render(&diff, args, text, out));
    // A reader that goes away does not make growth acceptable.
    written.or_else(|error| if is_broken_pipe(&error) { Ok(()) } else { Err(error) })?;
    Ok(match args.fail_above {
        Some(limit) if is_above(&diff, limit) => {
            say_what_grew(&diff, limit, args);
            Status::AboveLimit
        }
        _ => Status::Done,
    })
}

fn kind(format: DiffFormat) -> Kind {
    match format {
        DiffFormat::Text | DiffFormat::Json | DiffFormat::Folded => Kind::Readable,
        DiffFormat::Html | DiffFormat::Svg => Kind::Document,
    }
}

fn diff(args: &DiffArgs, quiet: bool) -> Result<Diff> {
    let before = report(&args.before, args, quiet)?;
    let after = report(&args.after, args, quiet)?;
    let [before_name, after_name] =
        [&args.before, &args.after].map(|path| path.display().to_string());
    Ok(Diff::of(
        Named { name: &before_name, report: &before },
        Named { name: &after_name, report: &after },
        DiffOptions { group_by: group_by(args.by), lines: args.lines },
    ))
}

fn report(path: &Path, args: &DiffArgs, quiet: bool) -> Result<Report> {
    let working = Working::new(quiet);
    let opened = open(path, &working)?;
    if let Some(cut) = opened.cut.filter(|_| !quiet) {
        let sentence = cut.sentence(opened.capture.events);
        working.pause(|| say(format_args!("warning: {}: {sentence}", path.display())));
    }
    let view = view(args.view);
    layout::check(&opened.capture, view, path)?;
    let selection = Selection { extras: view.needs_events(), ..Selection::default() };
    let capture = match selection.is_everything() {
        true => opened.capture,
        false => select(&opened.capture, &opened.events, &selection)
            .with_context(|| format!("cannot compare that of {}", path.display()))?,
    };
    let min_age_ns = args.min_age.map(nanoseconds);
    let (group_by, growth) = (group_by(args.by), growth_view(args.view));
    Ok(Report::of(
        &capture,
        ReportOptions { min_age_ns, group_by, view, growth, ..Default::default() },
    ))
}

fn render(
    diff: &Diff,
    args: &DiffArgs,
    text: TextOptions,
    mut out: &mut dyn Write,
) -> io::Result<()> {
    let units = units(args.units);
    let text = TextOptions { top: args.top, units, ..text };
    match args.format() {
        DiffFormat::Text => render::text::diff::write(diff, text, &mut out),
        DiffFormat::Json => render::json::write_diff(diff, &mut out),
        DiffFormat::Html => render::diff::html::write(diff, units, &mut out),
        DiffFormat::Svg => render::diff::flamegraph::write(diff, units, &mut out),
        DiffFormat::Folded => render::diff::folded::write(diff, &mut out),
    }
}

fn is_above(diff: &Diff, limit_bytes: u64) -> bool {
    u64::try_from(diff.total.growth_bytes).is_ok_and(|growth| growth > limit_bytes)
}

/// Said also when little is to be said: it is why the command fails.
fn say_what_grew(diff: &Diff, limit_bytes: u64, args: &DiffArgs) {
    let units = units(args.units);
    let headline = render::diff::headline(diff, units);
    let most = diff.groups.first().map(|group| {
        let growth = units.signed_bytes(group.change.growth_bytes);
        format!("; {} the most ({growth})", render::diff::place(group))
    });
    let limit = units.bytes(limit_bytes);
    let most = most.unwrap_or_default();
    say(format_args!("{headline}, more than --fail-above {limit}{most}"));
}
