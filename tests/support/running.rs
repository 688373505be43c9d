//! A child process that does not outlive its test.

use std::{
    io::ErrorKind,
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::TIMEOUT;

/// A child process; killed on drop.
pub struct Running(Child);

impl Running {
    /// Starts a command.
    pub fn start(command: &mut Command) -> Self {
        let begun = Instant::now();
        loop {
            match command.spawn() {
                Ok(child) => return Self(child),
                // A program that was just copied: a child that another test forked meanwhile has it open for
                // writing until it executes its own.
                Err(error)
                    if error.kind() == ErrorKind::ExecutableFileBusy
                        && begun.elapsed() < TIMEOUT =>
                {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(error) => panic!("cannot start {command:?}: {error}"),
            }
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Sends a signal; to a child that has ended (but was not waited for) without effect.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid() as i32).unwrap();
        kill_process(pid, signal).unwrap_or_else(|error| panic!("cannot signal {pid:?}: {error}"));
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.wait_or(String::new)
    }

    /// Waits for its end; `context` is added to the panic when it does not come.
    pub fn wait_or(&mut self, context: impl Fn() -> String) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < TIMEOUT, "{} did not end. {}", self.pid(), context());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
