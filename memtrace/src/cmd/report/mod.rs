//! `memtrace report`: from a capture to whatever somebody wants to see of it.

pub(super) mod layout;
mod likeness;
mod measured;
pub(super) mod open;
pub(super) mod sink;
pub(super) mod working;

use std::{
    io::{self, Write},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use self::{
    open::open,
    sink::{Destination, Sink, kind},
    working::Working,
};
use super::{Status, output::say};
use crate::{
    capture::{
        Capture, Events, OfProcess,
        matching::matching,
        select::{Selection, select},
    },
    cli::{By, ReportArgs, ReportFormat, UnitsArg, ViewArg},
    model::size::Units,
    render::{self, flamegraph::FlamegraphOptions, text::TextOptions},
    report::{GroupBy, GrowthView, Report, ReportOptions, View},
};

/// Runs the command.
pub fn run(args: &ReportArgs, quiet: bool) -> Result<Status> {
    check_options(args)?;
    let sink = Sink::open(Destination {
        output: args.output.as_deref(),
        force: args.force,
        kind: kind(args.format()),
        inputs: &[&args.capture],
    })?;
    let working = Working::new(quiet);
    let opened = open(&args.capture, &working)?;
    if let Some(cut) = opened.cut.filter(|_| !quiet) {
        working.pause(|| {
            let sentence = cut.sentence(opened.capture.events);
            say(format_args!("warning: {}: {sentence}", args.capture.display()));
        });
    }
    working.phase("making the report");
    let mut report = report(opened.capture, &opened.events, args)?;
    if let Some(path) = &args.whatif {
        measured::add(&mut report, path)?;
    }
    match sink.is_terminal() {
        true => working.finish(),
        false => working.phase("writing the report"),
    }
    sink.write(|out, text| render(&report, args, text, out))?;
    Ok(Status::Done)
}

/// What goes with some formats only.
fn check_options(args: &ReportArgs) -> Result<()> {
    let turns = matches!(args.format(), ReportFormat::Svg | ReportFormat::Folded);
    if args.inverted && !turns {
        bail!(
            "--inverted goes with --format svg or folded (the html page turns stacks over itself)"
        );
    }
    Ok(())
}

/// The report of a capture that was asked for.
pub(super) fn report<E: Events>(capture: Capture, events: &E, args: &ReportArgs) -> Result<Report>
where
    E::Error: std::error::Error + Send + Sync + 'static,
{
    let is_alone = capture.processes.is_empty();
    let wanted = args.process.filter(|pid| !is_alone || *pid != capture.header.target.pid);
    let Some(pid) = wanted else { return report_of(capture, events, args) };
    let process = capture.process(pid).with_context(|| no_such_process(&capture, pid))?;
    let (alone, number) = (capture.of_process(process), process.number);
    let alone = Capture { processes: Vec::new(), ..alone };
    report_of(alone, &OfProcess { events, number }, args)
}

fn no_such_process(capture: &Capture, pid: u32) -> String {
    let pids: Vec<String> =
        capture.processes.iter().map(|it| it.header.target.pid.to_string()).collect();
    match &pids[..] {
        [] => format!(
            "there is no process {pid} in the capture: only {} was traced",
            capture.header.target.pid
        ),
        pids => format!("there is no process {pid} in the capture; it has {}", pids.join(", ")),
    }
}

fn report_of<E: Events>(capture: Capture, events: &E, args: &ReportArgs) -> Result<Report>
where
    E::Error: std::error::Error + Send + Sync + 'static,
{
    let is_of_growth = matches!(args.view, ViewArg::Grown | ViewArg::ResidentGrown);
    if is_of_growth && capture.header.growth.is_none() {
        bail!(
            "{} is of allocations: the views of growth are of what attach --growth wrote",
            args.capture.display()
        );
    }
    layout::check(&capture, view(args.view), &args.capture)?;
    if view(args.view) == View::Trapped {
        layout::check_whole(args)?;
    }
    let selection = selection(args, &capture);
    let mut capture = match selection.is_everything() {
        true => capture,
        false => select(&capture, events, &selection)
            .with_context(|| format!("cannot report that of {}", args.capture.display()))?,
    };
    if let Some(pattern) = &args.site {
        capture = matching(&capture, pattern).with_context(|| {
            format!("no function, module or line of any stack matches --site {pattern}")
        })?;
    }
    if args.by_process {
        capture.split_by_process();
    }
    let options = ReportOptions {
        min_age_ns: args.min_age.map(nanoseconds),
        group_by: group_by(args.by),
        view: view(args.view),
        growth: growth_view(args.view),
        with_trapped: args.format() == ReportFormat::Json,
        all_that_traps: args.format() == ReportFormat::Html,
    };
    let mut report = Report::of(&capture, options);
    if let Some(blame) = &mut report.blame {
        blame
            .add_neighbours(&capture, events, options.group_by)
            .with_context(|| format!("cannot read the events of {}", args.capture.display()))?;
    }
    Ok(report)
}

fn selection(args: &ReportArgs, capture: &Capture) -> Selection {
    // Nobody can ask a page for what is not in it.
    let for_page = args.format() == ReportFormat::Html && capture.events.is_complete();
    let by_thread = args.by_thread || for_page;
    Selection {
        since_ns: args.since.filter(|since| !since.is_zero()).map(nanoseconds),
        until_ns: args.until.map(nanoseconds),
        threads: args.threads.clone(),
        by_thread,
        min_age_ns: args.min_age.filter(|_| by_thread).map(nanoseconds),
        extras: view(args.view).needs_events(),
    }
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn render(
    report: &Report,
    args: &ReportArgs,
    text: TextOptions,
    mut out: &mut dyn Write,
) -> io::Result<()> {
    let units = units(args.units);
    let flamegraph = FlamegraphOptions { inverted: args.inverted, units };
    let text = TextOptions { top: args.top, units, ..text };
    match args.format() {
        ReportFormat::Text => render::text::write(report, text, &mut out),
        ReportFormat::Json => render::json::write(report, &mut out),
        ReportFormat::Html => render::html::write(report, &mut out),
        ReportFormat::Svg => render::flamegraph::write_with(report, flamegraph, &mut out),
        ReportFormat::Folded if args.inverted => render::folded::write_inverted(report, &mut out),
        ReportFormat::Folded => render::folded::write(report, &mut out),
        ReportFormat::Pprof => render::pprof::write(report, &mut out),
        ReportFormat::Otlp => render::otlp::write(report, &mut out),
        ReportFormat::Speedscope => render::speedscope::write(report, &mut out),
    }
}

pub(super) fn view(view: ViewArg) -> View {
    match view {
        ViewArg::NeverFreed | ViewArg::Grown | ViewArg::ResidentGrown => View::NeverFreed,
        ViewArg::Live => View::Live,
        ViewArg::Allocated => View::Allocated,
        ViewArg::Freed => View::Freed,
        ViewArg::Peak => View::Peak,
        ViewArg::Temporary => View::Temporary,
        ViewArg::Resident => View::Resident,
        ViewArg::Trapped => View::Trapped,
    }
}

/// What of growth a view is of, where growth was followed.
pub(super) fn growth_view(view: ViewArg) -> GrowthView {
    match view {
        ViewArg::ResidentGrown => GrowthView::Resident,
        _ => GrowthView::AddressSpace,
    }
}

pub(super) fn group_by(by: By) -> GroupBy {
    match by {
        By::Line => GroupBy::Line,
        By::Function => GroupBy::Function,
        By::Module => GroupBy::Module,
        By::Stack => GroupBy::Stack,
    }
}

pub(super) fn units(units: UnitsArg) -> Units {
    match units {
        UnitsArg::Auto => Units::Auto,
        UnitsArg::Bytes => Units::Bytes,
        UnitsArg::KiB => Units::KiB,
        UnitsArg::MiB => Units::MiB,
        UnitsArg::GiB => Units::GiB,
    }
}
