//! Other programs, started so that none of them outlives the benchmark or holds it up.

use std::{
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

/// A running program; killed on drop.
pub struct Process(Child);

impl Process {
    /// Starts a program that is killed when the benchmark ends, however that ends.
    pub fn start(command: &mut Command) -> Result<Self> {
        die_with_parent(command);
        command.spawn().map(Self).with_context(|| format!("cannot start {command:?}"))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// What it reads, where that is a pipe.
    pub fn take_stdin(&mut self) -> Result<ChildStdin> {
        self.0.stdin.take().context("stdin is a pipe")
    }

    /// Its output, where that is a pipe.
    pub fn take_stdout(&mut self) -> Result<ChildStdout> {
        self.0.stdout.take().context("stdout is a pipe")
    }

    /// The same of what it says about itself.
    pub fn take_stderr(&mut self) -> Result<ChildStderr> {
        self.0.stderr.take().context("stderr is a pipe")
    }

    /// Whether it has not ended.
    pub fn is_alive(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Waits for its end. An error if that takes too long.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            if begun.elapsed() > patience {
                bail!("it did not end within {} s", patience.as_secs());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to end as Ctrl-C does.
    pub fn interrupt(&self) -> Result<()> {
        Ok(kill_process(raw_pid(self.pid())?, Signal::INT)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes what a command starts end when this process does.
pub fn die_with_parent(command: &mut Command) {
    let set = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: between fork and exec, it makes one system call and touches no memory of others.
    unsafe { command.pre_exec(set) };
}

/// Kills a process that keeps somebody waiting for too long, who then reads the end of its output;
/// until it is dropped.
pub struct Watchdog(Option<Sender<()>>, Option<thread::JoinHandle<()>>);

impl Watchdog {
    /// Over a child of ours, which nobody has waited for.
    pub fn over(pid: u32, patience: Duration) -> Self {
        let (sender, receiver) = channel();
        let watch = thread::spawn(move || {
            if receiver.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                eprintln!("bench: process {pid} took more than {} s: killed", patience.as_secs());
                let _ = raw_pid(pid).and_then(|pid| Ok(kill_process(pid, Signal::KILL)?));
            }
        });
        Self(Some(sender), Some(watch))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.0.take());
        let _ = self.1.take().map(thread::JoinHandle::join);
    }
}

/// The first file of a name in PATH, or where only root has it in there.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let directories = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    directories.map(|directory| directory.join(name)).find(|file| file.is_file())
}

fn raw_pid(pid: u32) -> Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).context("no pid")
}
