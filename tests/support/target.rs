//! A test program as a target, and the conversation with it (see `programs/c/program.h`).

use std::{
    io::Write as _,
    process::{ChildStdin, Command, ExitStatus, Stdio},
};

use rustix::process::Signal;
use serde::Deserialize;

use crate::{lines::Lines, programs, running::Running, truth::Truth};

/// What a program says when it is ready.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Ready {
    /// Address of the function that serves `malloc`.
    pub malloc: u64,
    /// Of `free`.
    pub free: u64,
    /// Of `realloc`.
    pub realloc: u64,
}

/// A running test program.
pub struct Target {
    process: Running,
    input: Option<ChildStdin>,
    output: Lines,
    /// What it said when it was ready.
    pub ready: Ready,
}

impl Target {
    /// Starts a program of `programs/c` and waits until it is ready.
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        Self::start_command(Command::new(programs::path(program)).args(arguments))
    }

    /// Starts any command that ends in a test program, and waits until that is ready.
    pub fn start_command(command: &mut Command) -> Self {
        let mut process = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let input = process.child().stdin.take();
        let mut output = Lines::of(process.child().stdout.take().unwrap());
        let line = output.find("ready ").unwrap_or_else(|| panic!("{command:?} did not start"));
        let ready = serde_json::from_str(line.trim_start_matches("ready ")).unwrap();
        Self { process, input, output, ready }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Tells it to go on.
    pub fn go(&mut self) {
        self.input.as_mut().unwrap().write_all(b"go\n").unwrap();
    }

    /// Its next line.
    pub fn line(&mut self) -> String {
        self.output.next_line().expect("the target ended without a word")
    }

    /// Tells it to go on, and returns what it says it did.
    pub fn run(&mut self) -> Truth {
        self.go();
        self.truth()
    }

    /// What it says it did.
    pub fn truth(&mut self) -> Truth {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Closes its input, upon which a waiting program ends, and waits for the end.
    pub fn quit(&mut self) -> ExitStatus {
        self.input = None;
        self.process.wait()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }
}

/// A program that does its work without being told when: it runs until it is dropped.
pub struct Background {
    process: Running,
    // Kept open: the program may write to it.
    _output: Lines,
}

impl Background {
    /// Starts a command and waits for a line with this text.
    pub fn start(command: &mut Command, text: &str) -> Self {
        let mut process = Running::start(command.stdout(Stdio::piped()));
        let mut output = Lines::of(process.child().stdout.take().unwrap());
        assert!(output.find(text).is_some(), "{command:?} did not start");
        Self { process, _output: output }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }
}
