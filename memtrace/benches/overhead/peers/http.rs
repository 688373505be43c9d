//! A service of FastAPI, asked by wrk.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::subject::{Done, Subject, patience};
use crate::process::{Process, Watchdog};

/// How long it may take to come up, under whatever tool.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service on a port of its own.
pub struct Http {
    process: Process,
    port: u16,
}

impl Http {
    /// Starts it, and waits until it serves.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut process = Process::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let _watchdog = Watchdog::over(process.pid(), PATIENCE);
        let mut output = BufReader::new(process.take_stdout()?);
        let mut said = String::new();
        output.read_line(&mut said)?;
        let port = said.trim().strip_prefix("ready ").and_then(|port| port.parse().ok());
        let port = port.with_context(|| format!("the service said {said:?}"))?;
        Ok(Self { process, port })
    }

    fn wrk(&self, duration: Duration) -> Command {
        let mut command = Command::new("wrk");
        let seconds = duration.as_secs_f64().ceil() as u64;
        command.args(["-t1", "-c8", "--latency", "--timeout", "10s"]);
        command.arg(format!("-d{seconds}s"));
        command.arg(format!("http://127.0.0.1:{}/orders/4711", self.port));
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    }
}

impl Subject for Http {
    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn work(&mut self, duration: Duration) -> Result<Done> {
        let mut wrk = Process::start(self.wrk(duration).stdout(Stdio::piped()))?;
        let _watchdog = Watchdog::over(wrk.pid(), patience(duration));
        let output = std::io::read_to_string(wrk.take_stdout()?)?;
        parse(&output).with_context(|| format!("wrk said {output:?}"))
    }

    fn work_on(&mut self) -> Result<Option<Process>> {
        let hour = Duration::from_secs(3600);
        Process::start(self.wrk(hour).stdout(Stdio::null())).map(Some)
    }
}

fn parse(output: &str) -> Option<Done> {
    let value =
        |name: &str| output.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    let rate = value("Requests/sec:")?.parse().ok().filter(|rate| *rate > 0.0)?;
    Some(Done { rate, p99_ns: value("99%").and_then(latency_ns) })
}

/// As wrk writes it: a number and its unit in one word.
fn latency_ns(word: &str) -> Option<f64> {
    let digits = word.trim_end_matches(char::is_alphabetic);
    let unit_ns = match &word[digits.len()..] {
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        _ => return None,
    };
    Some(digits.parse::<f64>().ok()? * unit_ns)
}
