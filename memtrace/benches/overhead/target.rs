//! The C target and the conversation with it (see pairs.c).

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{machine::Cpus, process::Process};

/// A process that says `ready` and then waits for lines; killed on drop.
pub struct Target {
    process: Process,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What a run of pairs took.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Pairs that were made.
    pub pairs: u64,
    /// CPU time of the target's thread, kernel time included. What other processes take from the
    /// machine is not in it.
    pub cpu_ns: u64,
    /// Elapsed time.
    pub wall_ns: u64,
}

/// A shape of work.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Size of each block.
    pub size_bytes: u64,
    /// Frames between `main` and the caller of malloc.
    pub depth: u64,
}

impl Timing {
    /// CPU time of a pair.
    pub fn pair_ns(self) -> f64 {
        self.cpu_ns as f64 / self.pairs as f64
    }

    /// Pairs a second.
    pub fn rate(self) -> f64 {
        self.pairs as f64 / self.wall_ns as f64 * 1e9
    }
}

impl Target {
    /// Starts pairs.c on the target's CPU.
    pub fn pairs(program: &Path, cpus: Cpus) -> Result<Self> {
        let target = Self::start(&mut Command::new(program))?;
        cpus.pin_target(target.pid())?;
        Ok(target)
    }

    /// Starts a program that says `ready`.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut process = Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let input = process.take_stdin()?;
        let output = BufReader::new(process.take_stdout()?);
        let mut target = Self { process, input, output };
        let line = target.line()?;
        ensure!(line == "ready", "{command:?} said {line:?} and not that it is ready");
        Ok(target)
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Pairs as fast as it can.
    pub fn time(&mut self, pairs: u64, work: Work) -> Result<Timing> {
        self.ask(&format!("time {pairs} {} {}", work.size_bytes, work.depth))
    }

    /// Takes blocks that stay.
    pub fn hold(&mut self, blocks: u64, size_bytes: u64) -> Result<Timing> {
        self.ask(&format!("hold {blocks} {size_bytes}"))
    }

    /// Pairs at a rate (0: as fast as it can) for a while.
    pub fn pace(&mut self, duration_ns: u64, pairs_per_second: u64) -> Result<Timing> {
        self.ask(&format!("pace {duration_ns} {pairs_per_second}"))
    }

    /// The same without waiting for it to be over; nothing can be asked afterwards.
    pub fn begin_pace(&mut self, duration_ns: u64, pairs_per_second: u64) -> Result<()> {
        self.tell(&format!("pace {duration_ns} {pairs_per_second}"))
    }

    /// What a program of the tests answers to a command.
    pub fn answer(&mut self, line: &str) -> Result<Value> {
        self.tell(line)?;
        let answer = self.line()?;
        serde_json::from_str(&answer).with_context(|| format!("the target answered {answer:?}"))
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.input, "{line}").context("the target ended")
    }

    fn ask(&mut self, line: &str) -> Result<Timing> {
        self.tell(line)?;
        let answer = self.line()?;
        let numbers: Vec<u64> = answer.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let &[pairs, cpu_ns, wall_ns] = &numbers[..] else {
            anyhow::bail!("the target answered {answer:?}");
        };
        Ok(Timing { pairs, cpu_ns, wall_ns })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "the target ended without a word");
        Ok(line.trim_end().to_owned())
    }
}
