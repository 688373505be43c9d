//! The programs whose stacks are looked at, and how each is run.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::Setup;

/// Longer than any window: what has not ended by then is killed.
const THROWING_SECONDS: u64 = 12;
const REDIS_TESTS: &str = "set,get,incr,lpush,rpush,lpop,sadd,hset,zadd,lrange_100,mset";

/// A program to look at.
pub struct Program {
    /// For people.
    pub name: String,
    /// How it is run.
    pub start: Start,
}

/// How a program is run, or why it is not.
pub enum Start {
    /// Runs until it is killed; says `ready` first.
    UntilKilled(PathBuf, Vec<String>),
    /// Says `ready`, later two numbers that must be equal, and ends by itself.
    ToItsEnd(PathBuf, Vec<String>),
    /// The compiler proper, which has a long way to go.
    Compiler(PathBuf, PathBuf),
    /// redis-server, kept busy by redis-benchmark over a Unix socket.
    Redis,
    /// It is not there.
    Missing(String),
}

/// A running program; killed on drop.
pub struct Running {
    process: Child,
    /// What makes it busy.
    load: Option<Child>,
    output: Option<BufReader<ChildStdout>>,
    counts_itself: bool,
    directory: TempDir,
}

/// The file that a Python of a virtual environment runs.
pub fn interpreter(python: &Path) -> String {
    python.canonicalize().unwrap_or_else(|_| python.to_owned()).display().to_string()
}

/// All of them.
pub fn all(setup: &Setup) -> Vec<Program> {
    let built = |name: &str| setup.targets.join(name);
    let script = |interpreter: &Path, name: &str| {
        Start::UntilKilled(interpreter.to_owned(), vec![built(name).display().to_string()])
    };
    let mut programs = vec![Program {
        name: "redis-server under load".to_owned(),
        start: if found("redis-server") && found("redis-benchmark") {
            Start::Redis
        } else {
            Start::Missing("no redis-server or redis-benchmark in PATH".to_owned())
        },
    }];
    programs.extend(setup.python.iter().map(|python| Program {
        name: format!("numpy in {}", interpreter(python)),
        start: script(python, "work.py"),
    }));
    let compiler = match &setup.cc1plus {
        Some(cc1plus) => Start::Compiler(cc1plus.clone(), built("headers.ii")),
        None => Start::Missing("no C++ compiler of GCC".to_owned()),
    };
    let perl = match found("perl") {
        true => script(Path::new("perl"), "work.pl"),
        false => Start::Missing("no perl in PATH".to_owned()),
    };
    let throws = Start::ToItsEnd(built("throws"), vec![THROWING_SECONDS.to_string()]);
    let rust = Start::UntilKilled(built("collections"), Vec::new());
    programs.extend(
        [
            ("cc1plus -O2", compiler),
            ("perl", perl),
            ("a Rust release binary", rust),
            ("a C++ program that throws", throws),
        ]
        .map(|(name, start)| Program { name: name.to_owned(), start }),
    );
    programs
}

impl Program {
    /// Starts it, and waits until it works.
    pub fn run(&self) -> Result<Running> {
        match &self.start {
            Start::UntilKilled(program, arguments) => {
                Running::start(Command::new(program).args(arguments))?.wait_until_ready()
            }
            Start::ToItsEnd(program, arguments) => {
                let running = Running::start(Command::new(program).args(arguments))?;
                let mut running = running.wait_until_ready()?;
                running.counts_itself = true;
                Ok(running)
            }
            Start::Compiler(cc1plus, source) => Running::start(
                Command::new(cc1plus)
                    .args(["-quiet", "-O2", "-fpreprocessed", "-o", "/dev/null"])
                    .arg(source),
            ),
            Start::Redis => redis(),
            Start::Missing(why) => anyhow::bail!("{why}"),
        }
    }
}

impl Running {
    fn start(command: &mut Command) -> Result<Self> {
        let directory = TempDir::new()?;
        let mut process = command
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let output = process.stdout.take().map(BufReader::new);
        Ok(Self { process, load: None, output, counts_itself: false, directory })
    }

    fn wait_until_ready(mut self) -> Result<Self> {
        let mut line = String::new();
        let output = self.output.as_mut().context("its output is a pipe")?;
        output.read_line(&mut line)?;
        ensure!(line == "ready\n", "it said {line:?} and not that it is ready");
        // Past what happens only at the start.
        thread::sleep(Duration::from_millis(300));
        Ok(self)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// After the window: it must have survived it.
    pub fn finish(&mut self) -> Result<()> {
        if self.counts_itself {
            let mut said = String::new();
            self.output.as_mut().context("its output is a pipe")?.read_to_string(&mut said)?;
            let status = self.process.wait()?;
            let numbers: Vec<&str> = said.split_whitespace().collect();
            let equal = matches!(numbers[..], [one, other] if one == other && one != "0");
            ensure!(status.success() && equal, "it was disturbed: {status}, it said {said:?}");
        } else if let Some(status) = self.process.try_wait()? {
            ensure!(status.success(), "it did not survive being traced: {status}");
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for process in self.load.iter_mut().chain([&mut self.process]) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Nothing listens on the network, and nothing is saved.
fn redis() -> Result<Running> {
    const SERVER: [&str; 6] = ["--port", "0", "--save", "", "--unixsocket", "redis.sock"];
    let mut running = Running::start(Command::new("redis-server").args(SERVER))?;
    let socket = running.directory.path().join("redis.sock");
    let begun = Instant::now();
    while !socket.exists() {
        ensure!(begun.elapsed() < Duration::from_secs(5), "redis-server does not listen");
        thread::sleep(Duration::from_millis(20));
    }
    // Its output must go somewhere for as long as it runs.
    if let Some(mut output) = running.output.take() {
        thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    }
    let mut load = Command::new("redis-benchmark");
    load.arg("-s").arg(&socket).args(["-t", REDIS_TESTS, "-l", "-q", "-c", "20"]);
    load.args(["-n", "20000", "-r", "5000", "-d", "200"]);
    load.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    running.load = Some(load.spawn().context("cannot start redis-benchmark")?);
    thread::sleep(Duration::from_millis(300));
    Ok(running)
}

fn found(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else { return false };
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
