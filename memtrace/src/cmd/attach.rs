//! `memtrace attach`: from arguments to files and a report on stdout.

use std::{
    io::{self, Write as _},
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    Status,
    output::{OutputFile, is_broken_pipe, text_options},
    progress::Progress,
    trace::{self, Files, Results, with_suffix},
};
use crate::{
    cli::AttachArgs,
    render::text::TextOptions,
    session::{self, Options},
    sys::procfs::ProcFs,
};

/// Runs the command.
pub fn run(args: &AttachArgs, verbose: u8, quiet: bool) -> Result<Status> {
    let prefix = prefix(args)?;
    let files = Files::create(&prefix, &args.trace)?;
    let mut progress = Progress::new(quiet).with_rate(args.trace.pymalloc);
    if let Some(interval) = args.trace.sample_bytes.filter(|_| !quiet) {
        trace::say_interval(interval);
    }
    let sink = files.sink(&args.trace)?;
    let outcome = session::trace(&options(args, verbose), Some(sink), &mut progress)?;
    let results = Results::of(outcome, files, &args.trace, args.json, &mut progress);
    deliver(&results, args, &prefix)?;
    Ok(results.status)
}

fn options(args: &AttachArgs, verbose: u8) -> Options {
    Options {
        more_pids: args.pids.iter().skip(1).map(|pid| nonzero(Some(pid))).collect(),
        ..trace::options(&args.trace, nonzero(args.pids.first()), args.duration, verbose)
    }
}

/// The parser has refused 0, and no pid at all.
fn nonzero(pid: Option<&u32>) -> NonZeroU32 {
    pid.copied().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

/// The prefix of all files. A target that cannot be named is an error here already, so that no file
/// is left behind for it.
fn prefix(args: &AttachArgs) -> Result<PathBuf> {
    if let Some(prefix) = trace::given_prefix(&args.trace) {
        return Ok(prefix);
    }
    let proc = ProcFs::new("/proc");
    for pid in &args.pids {
        proc.process(*pid)?.check_traceable()?;
    }
    Ok(trace::default_prefix(&proc.process(nonzero(args.pids.first()).get())?))
}

/// Prints the report. Where stdout is lost (a terminal that was closed, a full disk) a file beside
/// the flamegraph takes it: the trace cannot be repeated.
fn deliver(results: &Results, args: &AttachArgs, prefix: &Path) -> Result<()> {
    let Err(error) = print(results, args) else { return Ok(()) };
    if is_broken_pipe(&error) {
        return Err(error);
    }
    let suffix = if args.json { ".json" } else { ".txt" };
    let file = OutputFile::create(with_suffix(prefix, suffix), args.trace.force)?;
    let path = file.path().display().to_string();
    let mut text = Vec::new();
    let options = TextOptions { top: args.trace.top, ..TextOptions::default() };
    results.render(args.json, options, &mut text)?;
    file.write(&text)?;
    Err(error.context(format!("the report is in {path}")))
}

fn print(results: &Results, args: &AttachArgs) -> Result<()> {
    let stdout = io::stdout();
    let options = TextOptions { top: args.trace.top, ..text_options(&stdout) };
    let mut out = io::BufWriter::new(stdout.lock());
    results
        .render(args.json, options, &mut out)
        .and_then(|()| out.flush())
        .context("cannot write the report to stdout")
}
