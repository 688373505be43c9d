//! redis-server, kept busy by redis-benchmark over a Unix socket.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::subject::{Done, Subject, patience};
use crate::process::{Process, Watchdog};

/// What is asked: a write, a read, and one that changes what is there in place.
const TESTS: &str = "set,get,hset";
/// To see how fast it answers.
const FEW_REQUESTS: u64 = 1000;

/// A server without a port, whose data stays in memory.
pub struct Redis {
    process: Process,
    directory: TempDir,
}

impl Redis {
    /// Starts it, by a command that lacks only its socket.
    pub fn start(command: &mut Command) -> Result<Self> {
        let directory = TempDir::new()?;
        let socket = directory.path().join("redis.sock");
        command.arg(&socket).current_dir(directory.path());
        let process = Process::start(command.stdin(Stdio::null()).stdout(Stdio::null()))?;
        let begun = Instant::now();
        while !socket.exists() {
            ensure!(begun.elapsed() < Duration::from_secs(20), "redis-server does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { process, directory })
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    fn ask(&self, requests: u64, duration: Duration) -> Result<Done> {
        let mut command = benchmark(&self.socket(), TESTS, "5000");
        command.args(["--csv", "-n", &requests.to_string()]);
        let mut benchmark = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::null()))?;
        let _watchdog = Watchdog::over(benchmark.pid(), patience(duration));
        let output = std::io::read_to_string(benchmark.take_stdout()?)?;
        parse(&output).with_context(|| format!("redis-benchmark said {output:?}"))
    }
}

impl Subject for Redis {
    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn work(&mut self, duration: Duration) -> Result<Done> {
        let tests = TESTS.split(',').count() as f64;
        let few = self.ask(FEW_REQUESTS, duration)?;
        let requests = few.rate * duration.as_secs_f64() / tests;
        self.ask((requests as u64).max(FEW_REQUESTS), duration)
    }

    /// New keys all the time.
    fn work_on(&mut self) -> Result<Option<Process>> {
        let mut command = benchmark(&self.socket(), "set", "1000000000");
        command.args(["-n", "1000000000", "-q"]).stdout(Stdio::null()).stderr(Stdio::null());
        Process::start(&mut command).map(Some)
    }
}

fn benchmark(socket: &Path, tests: &str, keys: &str) -> Command {
    let mut command = Command::new("redis-benchmark");
    command.arg("-s").arg(socket).args(["-t", tests, "-r", keys, "-c", "20", "-d", "200"]);
    command.stdin(Stdio::null());
    command
}

/// From lines of test, requests a second, and latencies in milliseconds: mean, smallest, 50th, 95th
/// and 99th percentile, largest. The tests make equally many requests.
fn parse(output: &str) -> Option<Done> {
    let (mut tests, mut seconds_a_request, mut p99_ms) = (0.0, 0.0, 0.0_f64);
    for line in output.lines().filter(|line| !line.starts_with("\"test\"")) {
        let fields: Vec<&str> = line.split(',').map(|field| field.trim_matches('"')).collect();
        let number = |index: usize| fields.get(index)?.parse::<f64>().ok();
        tests += 1.0;
        seconds_a_request += 1.0 / number(1)?;
        p99_ms = p99_ms.max(number(6)?);
    }
    (tests > 0.0).then(|| Done { rate: tests / seconds_a_request, p99_ns: Some(p99_ms * 1e6) })
}
