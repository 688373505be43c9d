//! `cargo xtask demo`: programs with a leak, traced by the real memtrace, so that one sees what it
//! says before one needs it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};
use xtask::test_program;

use self::leaker::Leaker;
use crate::{
    artifacts,
    needs::Purpose,
    privilege::{Privilege, Unmet},
    setup,
    shell::{line, root, say, step, which, work_dir},
};

mod group;
mod incident3;
mod leaker;

/// Options of `cargo xtask demo`.
#[derive(Args)]
pub struct Options {
    /// How long each program is traced, in seconds
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Rebuild an incident instead: 3 is a Polars job that heads for the limit of its control group
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(3..=3))]
    incident: Option<u8>,
    /// How often the incident is rebuilt
    #[arg(long, value_name = "N", default_value_t = 1, requires = "incident")]
    runs: u32,
    /// Show this memtrace, and not one that is built for it
    #[arg(long, value_name = "FILE", requires = "incident")]
    memtrace: Option<PathBuf>,
}

/// The leaking Python program.
const PYTHON_SOURCE: &str = "tests/programs/python/leaker.py";

/// How often it is looked whether memtrace has ended.
const POLL: Duration = Duration::from_millis(50);

/// Runs the task.
pub fn main(options: &Options) -> Result<()> {
    let privilege = privilege()?;
    setup::install(&[Purpose::Demo])?;
    if options.incident.is_some() {
        return incident(options, privilege);
    }
    let demo = Demo::prepare(options, privilege)?;
    let mut pictures = vec![demo.trace_c()?];
    if which("python3").is_none() {
        say("there is no python3: the Python program is left out (apt-get install python3)");
    } else if !demo.is_interrupted() {
        pictures.push(demo.trace_python()?);
    }
    demo.say_what_next(&pictures);
    Ok(())
}

/// It makes control groups, and not only starts memtrace.
fn incident(options: &Options, privilege: Privilege) -> Result<()> {
    if privilege != Privilege::Root {
        let what = "an incident takes a control group, which root makes".to_owned();
        return Err(Unmet { what, command: "sudo cargo xtask demo --incident 3".to_owned() }.into());
    }
    let memtrace = match &options.memtrace {
        Some(memtrace) => memtrace.clone(),
        None => step("building memtrace", artifacts::release)?,
    };
    incident3::run(&memtrace, options.runs)
}

/// How to become root, asked before anything is built or started.
fn privilege() -> Result<Privilege, Unmet> {
    let what = "memtrace loads eBPF programs, which needs root".to_owned();
    match Privilege::now() {
        Privilege::None => Err(Unmet { what, command: "sudo cargo xtask demo".to_owned() }),
        privilege => Ok(privilege),
    }
}

/// What both traces need.
struct Demo {
    memtrace: PathBuf,
    directory: PathBuf,
    privilege: Privilege,
    seconds: u64,
    interrupted: Arc<AtomicBool>,
}

impl Demo {
    fn prepare(options: &Options, privilege: Privilege) -> Result<Self> {
        let directory = work_dir("demo");
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let memtrace = step("building memtrace", artifacts::release)?;
        // From here on a signal ends the trace, and the rest is cleaned up in order.
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            flag::register(signal, Arc::clone(&interrupted)).context("cannot handle signals")?;
        }
        let seconds = options.seconds;
        Ok(Self { memtrace, directory, privilege, seconds, interrupted })
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    fn trace_c(&self) -> Result<PathBuf> {
        banner("a server in C: one line leaks; a cache, a log and busy requests do not");
        let source = root().join("tests/programs/c/leaker.c");
        let program = self.directory.join("leaker");
        test_program::compile(&source, &program)?;
        say(format_args!("compiled {} to {}", shown(&source), shown(&program)));
        self.trace("leak-in-c", &mut Command::new(program))
    }

    fn trace_python(&self) -> Result<PathBuf> {
        banner("a model server in Python: its cache evicts models, a registry keeps them");
        let mut command = Command::new("python3");
        command.arg("-u").arg(root().join(PYTHON_SOURCE));
        self.trace("leak-in-python", &mut command)
    }

    /// Starts the target, traces it, ends it; the path of the flamegraph.
    fn trace(&self, name: &str, target: &mut Command) -> Result<PathBuf> {
        let mut target = Leaker::start(target, self.seconds)?;
        let prefix = self.directory.join(name);
        let picture = prefix.with_extension("svg");
        let mut memtrace = self.memtrace(target.pid(), &prefix)?;
        say(format_args!("running {}", line(&memtrace)));
        eprintln!();
        let mut memtrace = memtrace.spawn().context("cannot start memtrace")?;
        let succeeded = self.wait(&mut memtrace, &mut target)?;
        eprintln!();
        ensure!(succeeded, "memtrace failed; it says why above");
        ensure!(picture.exists(), "memtrace wrote no {}", picture.display());
        Ok(picture)
    }

    fn memtrace(&self, pid: u32, prefix: &Path) -> Result<Command> {
        let (pid, duration) = (pid.to_string(), format!("{}s", self.seconds));
        let Some(prefix) = prefix.to_str() else { bail!("{} is not UTF-8", prefix.display()) };
        let args = ["attach", "-p", &pid, "-d", &duration, "-o", prefix, "--force"];
        let what = "memtrace loads eBPF programs, which needs root";
        // `sudo cargo` is not needed, and would leave root's files in `target`.
        Ok(self.privilege.command(what, &[], &self.memtrace, &args)?)
    }

    /// Whether memtrace succeeded. On a signal the target is ended, which ends its trace with a
    /// result; this way nothing has to be sent to a memtrace that runs as root.
    fn wait(&self, memtrace: &mut Child, target: &mut Leaker) -> Result<bool> {
        loop {
            if let Some(status) = memtrace.try_wait()? {
                return Ok(status.success());
            }
            if self.is_interrupted() {
                target.end();
            }
            sleep(POLL);
        }
    }

    fn say_what_next(&self, pictures: &[PathBuf]) {
        banner("what next");
        say("the flamegraphs open in any browser; click to zoom, Ctrl-F to search:");
        pictures.iter().for_each(|picture| say(format_args!("    {}", picture.display())));
        say("how to read them and the reports: docs/reading-a-report.md");
        say("your own process (Ctrl-C ends it with a report):");
        say(format_args!("    sudo {} attach -p PID", shown(&self.memtrace)));
    }
}

fn banner(text: &str) {
    eprintln!();
    say(format_args!("══ {text}"));
}

/// The path from the root of the repository, where there is one.
fn shown(path: &Path) -> std::path::Display<'_> {
    path.strip_prefix(root()).unwrap_or(path).display()
}
