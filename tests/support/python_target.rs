//! A Python program as a target, and the conversation with it (see `programs/python/talk.py`).

use std::{
    io::Write as _,
    process::{ChildStdin, Command, ExitStatus, Stdio},
};

use serde::de::DeserializeOwned;

use crate::{lines::Lines, programs, pythons::Python, running::Running};

/// A running Python program.
pub struct PythonTarget {
    process: Running,
    input: Option<ChildStdin>,
    output: Lines,
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

    /// The process id of the child that it has: the program, where it was started by another, or
    /// what it forked.
    pub fn child(&self) -> u32 {
        let pid = self.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let mut children = children.split_whitespace();
        let child = children.next().unwrap_or_else(|| panic!("{pid} has no child"));
        assert_eq!(children.next(), None, "{pid} has more than one child");
        child.parse().unwrap()
    }

    /// Waits until it, or the program that it has become, is ready.
    pub fn wait_until_ready(&mut self) {
        assert!(self.output.find("ready").is_some(), "it ended");
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
