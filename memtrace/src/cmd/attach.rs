//! `memtrace attach`: from arguments to files and a report on stdout.

use std::{
    env,
    io::{self, Write as _},
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use memtrace_common::sample::Interval;

use super::{
    Status,
    output::{OutputFile, is_broken_pipe, say, text_options},
    progress::Progress,
};
use crate::{
    capture::Capture,
    cli::{AttachArgs, By, Events, PythonArg},
    model::size::bytes,
    render::{self, text::TextOptions},
    report::{GrowthView, Report, ReportOptions},
    session::{
        self, Choice, GroupBy, Limit, Observer as _, Options, PythonFrames, Recorder, Sampling,
        Sink, StackMode,
    },
    sys::procfs::ProcFs,
};

/// What is written of a capture at once, between its flushes.
const FILE_BUFFER_BYTES: usize = 256 << 10;

/// One of so many (as a power of two) bytes that come into use is a sample: one page of 128. What
/// 100 MiB came of is known to 14 %, and a sample costs as much as some pages.
const GROWTH_INTERVAL: u8 = 19;

/// Runs the command.
pub fn run(args: &AttachArgs, verbose: u8, quiet: bool) -> Result<Status> {
    let prefix = prefix(args)?;
    let file = OutputFile::create(with_suffix(&prefix, ".memtrace"), args.force)?;
    let files = create_pictures(&prefix, args.force)?;
    let resident = match args.growth {
        true => Some(OutputFile::create(with_suffix(&prefix, "-resident.svg"), args.force)?),
        false => None,
    };
    let mut progress = Progress::new(quiet).with_rate(args.pymalloc);
    if let Some(interval) = args.sample_bytes.filter(|_| !quiet) {
        say_interval(interval);
    }
    let sink = Sink {
        out: Box::new(io::BufWriter::with_capacity(FILE_BUFFER_BYTES, file.writer()?)),
        events: args.events == Events::On,
        max_bytes: args.max_size,
    };
    let ending = session::trace(&options(args, verbose), Some(sink), &mut progress)?;
    progress.naming(ending.site_count());
    let (mut capture, recorder) = ending.into_capture();
    let whole = args.by_process.then(|| capture.clone());
    if args.by_process {
        capture.split_by_process();
    }
    let options = ReportOptions { group_by: group_by(args.by), ..ReportOptions::default() };
    let mut report = Report::of(&capture, options);
    let of_pages = resident.map(|file| {
        (Report::of(&capture, ReportOptions { growth: GrowthView::Resident, ..options }), file)
    });
    progress.clear();
    let mut status = keep_capture(&mut report, whole.unwrap_or(capture), recorder, file);
    if write_pictures(&mut report, files) == Status::Incomplete {
        status = Status::Incomplete;
    }
    if let Some((mut of_pages, file)) = of_pages {
        if !write_picture(&mut of_pages, render::flamegraph::write, file) {
            status = Status::Incomplete;
        }
        report.files.append(&mut of_pages.files);
        deliver(&report, Some(&of_pages), args, &prefix)?;
        return Ok(status);
    }
    deliver(&report, None, args, &prefix)?;
    Ok(status)
}

fn options(args: &AttachArgs, verbose: u8) -> Options {
    Options {
        pid: nonzero(args.pids.first()),
        more_pids: args.pids.iter().skip(1).map(|pid| nonzero(Some(pid))).collect(),
        follow_forks: args.follow_forks,
        duration: args.duration,
        ring_bytes: ring_bytes(args),
        max_live: args.max_live,
        stacks: match args {
            AttachArgs { no_stacks: true, .. } => StackMode::Off,
            AttachArgs { frame_pointers: true, .. } => StackMode::FramePointers,
            _ => StackMode::Tables,
        },
        pymalloc: args.pymalloc,
        python: match args.python {
            PythonArg::Merged => PythonFrames::Merged,
            PythonArg::Only => PythonFrames::Only,
            PythonArg::None => PythonFrames::None,
        },
        debug_dirs: args.debug_dirs.clone(),
        allocator_symbols: args.allocator_symbols.clone(),
        debug_log: verbose >= 2,
        ignore_hazards: args.ignore_hazards,
        reset_peak: args.reset_peak,
        walk: !args.no_walk,
        growth: args.growth.then(|| Interval::from_exponent(GROWTH_INTERVAL)),
        perf_event_links: args.perf_event_links,
        sampling: sampling(args),
        limit: Limit { max_overhead: args.max_overhead.0, choice: choice(args) },
        min_age_ns: args.min_age.as_nanos() as u64,
        command_line: command_line(),
    }
}

/// Twice this of memtrace's own memory: the ring is mapped so that its end is followed by its
/// beginning.
fn ring_bytes(args: &AttachArgs) -> u32 {
    let is_of_everything = matches!(sampling(args), Sampling::Exact) && !args.growth;
    args.ring_size.unwrap_or(if is_of_everything { 16 << 20 } else { 8 << 20 })
}

/// The parser has refused 0, and no pid at all.
fn nonzero(pid: Option<&u32>) -> NonZeroU32 {
    pid.copied().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

/// The interval is not always the one that was asked for.
fn say_interval(interval: Interval) {
    match interval {
        Interval::EXACT => say(format_args!("looking at every allocation")),
        interval => say(format_args!(
            "looking at one allocation for every {} allocated, on average",
            bytes(interval.mean_bytes())
        )),
    }
}

/// What was asked for stays; else all may be chosen.
fn choice(args: &AttachArgs) -> Choice {
    match (args.exact, args.sample_bytes) {
        (true, _) => Choice::Only(Interval::EXACT),
        (false, Some(interval)) => Choice::Only(interval),
        (false, None) => Choice::Any,
    }
}

/// Nothing is drawn until it is known how densely samples may be.
fn sampling(args: &AttachArgs) -> Sampling {
    match (args.max_overhead.0, args.sample_bytes) {
        (Some(_), _) => Sampling::Variable { interval: Interval::MAX, blocks: args.max_live },
        (None, None | Some(Interval::EXACT)) => Sampling::Exact,
        (None, Some(interval)) => Sampling::Variable { interval, blocks: args.max_live },
    }
}

fn command_line() -> Vec<String> {
    env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

fn group_by(by: By) -> GroupBy {
    match by {
        By::Line => GroupBy::Line,
        By::Function => GroupBy::Function,
        By::Module => GroupBy::Module,
        By::Stack => GroupBy::Stack,
    }
}

/// The prefix of all files, by default `memtrace-COMMAND-PID-TIME`. A target that cannot
/// be named is an error here already, so that no file is left behind for it.
fn prefix(args: &AttachArgs) -> Result<PathBuf> {
    if let Some(prefix) = &args.output {
        return Ok(prefix.clone());
    }
    let proc = ProcFs::new("/proc");
    for pid in &args.pids {
        proc.process(*pid)?.check_traceable()?;
    }
    let process = proc.process(nonzero(args.pids.first()).get())?;
    let command: String = process
        .command
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
        .collect();
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    Ok(PathBuf::from(format!("memtrace-{command}-{}-{time}", process.pid)))
}

fn with_suffix(prefix: &Path, suffix: &str) -> PathBuf {
    let mut path = prefix.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

/// Writes the rest of the capture. What there is of one that could not be written is kept: it can be
/// read up to there.
fn keep_capture(
    report: &mut Report,
    capture: Capture,
    recorder: Option<Recorder>,
    file: OutputFile,
) -> Status {
    // Without it there is none, which is a note in the report.
    let Some(recorder) = recorder else { return Status::Incomplete };
    let path = file.path().display().to_string();
    let written = recorder.finish(capture).with_context(|| format!("cannot write {path}"));
    let kept = file.keep();
    match written.and(kept) {
        Ok(()) => {
            report.files.push(path);
            Status::Done
        }
        Err(error) => {
            say(format_args!(
                "error: {error:#}; the capture can be read up to there, and the report follows"
            ));
            Status::Incomplete
        }
    }
}

/// What draws a picture of a report.
type Draw = fn(&Report, &mut Vec<u8>) -> io::Result<()>;

/// Every picture: what its file's name ends in, and what draws it.
const PICTURES: [(&str, Draw); 2] =
    [(".svg", render::flamegraph::write), ("-timeline.svg", render::timeline::write)];

/// A file for each of [`PICTURES`].
fn create_pictures(prefix: &Path, overwrite: bool) -> Result<Vec<OutputFile>> {
    let create =
        |(suffix, _): &(&str, Draw)| OutputFile::create(with_suffix(prefix, suffix), overwrite);
    PICTURES.iter().map(create).collect()
}

fn write_pictures(report: &mut Report, files: Vec<OutputFile>) -> Status {
    let mut status = Status::Done;
    for ((_, draw), file) in PICTURES.into_iter().zip(files) {
        if !write_picture(report, draw, file) {
            status = Status::Incomplete;
        }
    }
    status
}

/// A picture that cannot be written must not cost the report: that is said, and all else goes on.
fn write_picture(report: &mut Report, draw: Draw, file: OutputFile) -> bool {
    let path = file.path().display().to_string();
    let mut svg = Vec::new();
    let written = draw(report, &mut svg)
        .with_context(|| format!("cannot draw {path}"))
        .and_then(|()| file.write(&svg));
    match written {
        Ok(()) => report.files.push(path),
        Err(ref error) => say(format_args!("error: {error:#}; the report follows without it")),
    }
    written.is_ok()
}

/// Prints the report. Where stdout is lost (a terminal that was closed, a full disk) a file beside
/// the flamegraph takes it: the trace cannot be repeated.
fn deliver(
    report: &Report,
    of_pages: Option<&Report>,
    args: &AttachArgs,
    prefix: &Path,
) -> Result<()> {
    let Err(error) = print(report, of_pages, args) else { return Ok(()) };
    if is_broken_pipe(&error) {
        return Err(error);
    }
    let suffix = if args.json { ".json" } else { ".txt" };
    let file = OutputFile::create(with_suffix(prefix, suffix), args.force)?;
    let path = file.path().display().to_string();
    let mut text = Vec::new();
    let options = TextOptions { top: args.top, ..TextOptions::default() };
    render(report, of_pages, args, options, &mut text)?;
    file.write(&text)?;
    Err(error.context(format!("the report is in {path}")))
}

fn print(report: &Report, of_pages: Option<&Report>, args: &AttachArgs) -> Result<()> {
    let stdout = io::stdout();
    let options = TextOptions { top: args.top, ..text_options(&stdout) };
    let mut out = io::BufWriter::new(stdout.lock());
    render(report, of_pages, args, options, &mut out)
        .and_then(|()| out.flush())
        .context("cannot write the report to stdout")
}

fn render(
    report: &Report,
    of_pages: Option<&Report>,
    args: &AttachArgs,
    options: TextOptions,
    out: &mut impl io::Write,
) -> io::Result<()> {
    if args.json {
        render::json::write(report, out)
    } else {
        render::text::write_both(report, of_pages, options, out)
    }
}
