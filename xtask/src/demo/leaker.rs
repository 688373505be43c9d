//! A target of the demo, which never outlives it.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::shell::{line, say};

/// What a target lives longer than its trace at most, if nobody is left to end it.
const MARGIN_SECONDS: u64 = 30;

/// A leaking program that runs; it ends when this is dropped. Should xtask itself be killed, the
/// program ends on its own soon after the time that it was given.
pub struct Leaker(Child);

impl Leaker {
    /// Starts `command` with the seconds to run, and waits until it says that it leaks.
    pub fn start(command: &mut Command, seconds: u64) -> Result<Self> {
        command.arg((seconds + MARGIN_SECONDS).to_string());
        // Its own process group: Ctrl-C is for memtrace, which then reports on a living target.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        say(format_args!("starting {}", line(command)));
        let child = command.spawn().with_context(|| format!("cannot start {}", line(command)))?;
        let mut leaker = Self(child);
        let said = leaker.first_line()?;
        if said.is_empty() {
            bail!("{} ended at once", line(command));
        }
        say(said.trim_end());
        Ok(leaker)
    }

    fn first_line(&mut self) -> Result<String> {
        let stdout = self.0.stdout.as_mut().context("its output is a pipe")?;
        let mut said = String::new();
        BufReader::new(stdout).read_line(&mut said)?;
        Ok(said)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Ends it; again does no harm.
    pub fn end(&mut self) {
        // Only a program that has ended already cannot be killed.
        let _ = self.0.kill();
    }
}

impl Drop for Leaker {
    fn drop(&mut self) {
        self.end();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaker_is_started_with_its_time_and_does_not_outlive_its_owner() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo runs; exec sleep \"$1\"", "sh"]);
        let leaker = Leaker::start(&mut command, 3).unwrap();
        assert_eq!(command.get_args().last().unwrap(), "33");
        let process = format!("/proc/{}", leaker.pid());
        assert!(std::fs::exists(&process).unwrap());
        drop(leaker);
        assert!(!std::fs::exists(&process).unwrap());
    }

    #[test]
    fn a_leaker_that_says_nothing_is_an_error() {
        let error = Leaker::start(&mut Command::new("true"), 1).err().unwrap();
        assert!(error.to_string().contains("true 31 ended at once"), "{error}");
    }
}
