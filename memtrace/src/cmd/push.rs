//! `memtrace push`: a capture's profile to the engine that a fleet has.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, bail};

use super::{
    Status,
    output::say,
    report::{self, open::open, working::Working},
};
use crate::{
    cli::{By, PushArgs, PushFormat, ReportArgs, ReportFormat, UnitsArg},
    model::size,
    push::{Endpoint, Label, PushError, Sending, message, send},
    report::Report,
};

/// Runs the command.
pub fn run(args: &PushArgs, quiet: bool) -> Result<Status> {
    let endpoint = match args.format {
        PushFormat::Pprof => Endpoint::pprof(&args.to),
        PushFormat::Otlp => Endpoint::otlp(&args.to),
    };
    let endpoint = endpoint.context("--to")?;
    let labels = labels(args)?;
    let sending = Sending { headers: headers(args)?, timeout: args.timeout, retries: args.retries };
    let report = report_of(args, quiet)?;
    let service = args.name.as_deref().unwrap_or(&report.target.command);
    let message =
        message(&report, &endpoint, service, &labels).context("cannot write the profile")?;
    let pausing = |error: &PushError, pause: Duration| {
        if !quiet {
            let pause = size::duration_ns(pause.as_nanos() as u64);
            say(format_args!("{error}; trying again in {pause}"));
        }
    };
    let receipt = send(&message, &sending, pausing)?;
    if !quiet {
        say(format_args!(
            "{} of {service} sent to {} ({})",
            size::bytes(receipt.sent_bytes),
            args.to.split('?').next().unwrap_or_default(),
            receipt.status
        ));
    }
    Ok(Status::Done)
}

fn report_of(args: &PushArgs, quiet: bool) -> Result<Report> {
    let working = Working::new(quiet);
    let opened = open(&args.capture, &working)?;
    if let Some(cut) = opened.cut.filter(|_| !quiet) {
        let sentence = cut.sentence(opened.capture.events);
        say(format_args!("warning: {}: {sentence}", args.capture.display()));
    }
    working.phase("making the report");
    let report = report::report(opened.capture, &opened.events, &as_report(args));
    working.finish();
    report
}

/// The report that is sent.
fn as_report(args: &PushArgs) -> ReportArgs {
    ReportArgs {
        whatif: None,
        capture: args.capture.clone(),
        format: ReportFormat::Pprof,
        json: false,
        output: None,
        force: false,
        view: args.view,
        by: By::Stack,
        inverted: false,
        by_thread: args.by_thread,
        by_process: false,
        units: UnitsArg::Auto,
        top: 0,
        min_age: args.min_age,
        since: None,
        until: None,
        threads: Vec::new(),
        process: args.process,
        site: None,
    }
}

/// Prometheus's names, which Pyroscope wants, too; attributes of resources also have dots.
fn labels(args: &PushArgs) -> Result<Vec<Label>> {
    let dots = args.format == PushFormat::Otlp;
    let is_right = |name: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '_' || (dots && c == '.');
        !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(inner)
    };
    if let Some((name, _)) = args.labels.iter().find(|(name, _)| !is_right(name)) {
        bail!("--label {name}: a name has letters, digits and _ only, and begins with no digit");
    }
    Ok(args.labels.iter().map(|(name, value)| Label::new(name, value)).collect())
}

/// A value that is a secret is better off in a file than on a command line, which all can read.
fn headers(args: &PushArgs) -> Result<Vec<(String, String)>> {
    let header = |(name, value): &(String, String)| {
        let Some(path) = value.strip_prefix('@') else { return Ok((name.clone(), value.clone())) };
        let read = fs::read_to_string(path);
        let read = read.with_context(|| format!("--header {name}: cannot read {path}"))?;
        Ok((name.clone(), read.trim_end().to_owned()))
    };
    args.headers.iter().map(header).collect()
}
