//! A Python program as a target, and the conversation with it (see `programs/python/talk.py`).

use std::{
    io::Write as _,
    process::{ChildStdin, Command, ExitStatus, Stdio},
};

use serde::{Deserialize, de::DeserializeOwned};

use crate::{lines::Lines, programs, pythons::Python, report::Amount, running::Running};

/// A running Python program.
pub struct PythonTarget {
    process: Running,
    input: Option<ChildStdin>,
    output: Lines,
}

/// A line of a program, and what was allocated there that is still alive.
#[derive(Clone, Debug, Deserialize)]
pub struct LineTruth {
    /// As the frame has it: qualified since 3.11.
    pub function: String,
    /// Absolute path of the source.
    pub file: String,
    /// 1-based.
    pub line: u32,
    /// Blocks and the bytes asked of malloc.
    pub survivors: Amount,
}

impl PythonTarget {
    /// Starts a program of `programs/python` on a Python without packages.
    pub fn start(python: &Python, program: &str, arguments: &[&str]) -> Self {
        Self::start_with(python.command(), program, arguments)
    }

    /// Starts it on a Python that is set up by the caller, and waits until it is ready.
    pub fn start_with(mut command: Command, program: &str, arguments: &[&str]) -> Self {
        command.arg(programs::python(program)).args(arguments);
        let mut process = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let input = process.child().stdin.take();
        let mut output = Lines::of(process.child().stdout.take().unwrap());
        assert!(output.find("ready").is_some(), "{command:?} did not start");
        Self { process, input, output }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends a command, and does not wait for the answer.
    pub fn tell(&mut self, command: &str) {
        writeln!(self.input.as_mut().unwrap(), "{command}").unwrap();
    }

    /// Its next answer.
    pub fn answer<T: DeserializeOwned>(&mut self) -> T {
        let line = self.output.next_line().expect("the target ended without a word");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    /// Sends a command, and returns the answer.
    pub fn ask<T: DeserializeOwned>(&mut self, command: &str) -> T {
        self.tell(command);
        self.answer()
    }

    /// Closes its input, upon which it ends, and waits for the end.
    pub fn quit(&mut self) -> ExitStatus {
        self.input = None;
        self.process.wait()
    }
}
