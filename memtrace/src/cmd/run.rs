//! `memtrace run`: starts a command, traces it from its first allocation, and ends as it does.

use std::{
    io::{self, Write as _},
    num::NonZeroU32,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use anyhow::{Context as _, Result};

use super::{
    Status,
    output::{OutputFile, is_broken_pipe, say, text_options},
    progress::Progress,
    trace::{self, Files, Results, with_suffix},
    watch::WatchedCommand,
};
use crate::{
    cli::RunArgs,
    render::text::TextOptions,
    session::{self, Options},
    sys::{
        available::Available,
        launch::{self, Held, Launch, LaunchError, User},
        procfs::ProcFs,
        relay::Relay,
    },
};

/// As for env(1), nice(1) and shells.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
/// A signal's number is added to this, as shells do.
const BY_SIGNAL: i32 = 128;

/// Runs the command.
pub fn run(args: &RunArgs, verbose: u8, quiet: bool) -> Result<Status> {
    if let Some(need_bytes) = args.need {
        Available::now()?.check(need_bytes)?;
    }
    let watched = args.watch().map(|it| WatchedCommand::prepare(it, quiet)).transpose()?;
    let relay = Relay::begin().context("cannot take signals for the command")?;
    let mut command = match launch::start(&ProcFs::new("/proc"), &launch(args, &relay)?) {
        Ok(command) => command,
        Err(error) => return not_started(error),
    };
    if let Some(watched) = watched {
        return watch(watched, command, relay);
    }
    relay.hand_on_to(command.pid()).context(NOT_STARTED)?;
    let traced = trace(args, &mut command, verbose, quiet).context(NOT_STARTED)?;
    let written = deliver(&traced, args, quiet);
    let status = command.wait().context("cannot wait for the command")?;
    Ok(combined(exit_code(status), &traced, written))
}

/// With conditions: traces only when one of them is met.
fn watch(watched: WatchedCommand, mut command: Held, relay: Relay) -> Result<Status> {
    let preserved = WatchedCommand::preserve();
    relay.hand_on_to(command.pid()).context(NOT_STARTED)?;
    watched.run(&mut command, &preserved).context(NOT_STARTED)?;
    let status = command.wait().context("cannot wait for the command")?;
    Ok(Status::Command(exit_code(status)))
}

const NOT_STARTED: &str = "the command was not started";

fn launch(args: &RunArgs, relay: &Relay) -> Result<Launch> {
    let (program, arguments) = args.command.split_first().context("there is no command")?;
    Ok(Launch {
        program: program.clone(),
        arguments: arguments.to_vec(),
        user: args.user.as_deref().map(User::find).transpose()?,
        held_back: relay.held_back(),
    })
}

fn not_started(error: LaunchError) -> Result<Status> {
    let code = match &error {
        LaunchError::NotFound { .. } => NOT_FOUND,
        LaunchError::NotExecutable { .. } => NOT_EXECUTABLE,
        LaunchError::Ended(status) => exit_code(*status),
        _ => return Err(error.into()),
    };
    say(format_args!("error: {error}"));
    Ok(Status::Command(code))
}

/// What came of a trace, and where it is written.
struct Traced {
    results: Results,
    prefix: PathBuf,
}

fn trace(args: &RunArgs, command: &mut Held, verbose: u8, quiet: bool) -> Result<Traced> {
    let prefix = prefix(args, command.pid())?;
    let files = Files::create(&prefix, &args.trace)?;
    let mut progress = Progress::new(quiet).of_command().with_rate(args.trace.pymalloc);
    if let Some(interval) = args.trace.sample_bytes.filter(|_| !quiet) {
        trace::say_interval(interval);
    }
    let sink = files.sink(&args.trace)?;
    let options = options(args, command.pid(), verbose);
    let outcome = session::trace_command(command, &options, Some(sink), &mut progress)?;
    Ok(Traced {
        results: Results::of(outcome, files, &args.trace, args.json, &mut progress),
        prefix,
    })
}

fn options(args: &RunArgs, pid: u32, verbose: u8) -> Options {
    let pid = NonZeroU32::new(pid).unwrap_or(NonZeroU32::MIN);
    Options { from_start: true, ..trace::options(&args.trace, pid, args.duration, verbose) }
}

fn prefix(args: &RunArgs, pid: u32) -> Result<PathBuf> {
    match trace::given_prefix(&args.trace) {
        Some(prefix) => Ok(prefix),
        None => Ok(trace::default_prefix(&ProcFs::new("/proc").process(pid)?)),
    }
}

/// stdout is the command's: the report goes to stderr, or as JSON to a file.
fn deliver(traced: &Traced, args: &RunArgs, quiet: bool) -> Result<()> {
    match args.json {
        true => write_json(traced, args),
        false if quiet => Ok(()),
        false => print(traced, args),
    }
}

fn write_json(traced: &Traced, args: &RunArgs) -> Result<()> {
    let file = OutputFile::create(json_path(&traced.prefix), args.trace.force)?;
    let mut text = Vec::new();
    traced.results.render(true, TextOptions::default(), &mut text)?;
    file.write(&text)
}

fn json_path(prefix: &Path) -> PathBuf {
    with_suffix(prefix, ".json")
}

fn print(traced: &Traced, args: &RunArgs) -> Result<()> {
    let stderr = io::stderr();
    let options = TextOptions { top: args.trace.top, ..text_options(&stderr) };
    let mut out = io::BufWriter::new(stderr.lock());
    let printed = traced.results.render(false, options, &mut out).and_then(|()| out.flush());
    printed.context("cannot write the report to stderr")
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| BY_SIGNAL + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// The command's status, unless that hides that a part of the result is missing.
fn combined(code: u8, traced: &Traced, written: Result<()>) -> Status {
    let is_written = match &written {
        Err(error) if !is_broken_pipe(error) => {
            say(format_args!("error: {error:#}"));
            false
        }
        _ => traced.results.status == Status::Done,
    };
    match code {
        0 if !is_written => Status::Incomplete,
        code => Status::Command(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_ends_as_a_shell_would_say_it_did() {
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_code(ExitStatus::from_raw(libc::SIGTERM)), 143);
        assert_eq!(exit_code(ExitStatus::from_raw(libc::SIGSEGV | 0x80)), 139);
    }
}
