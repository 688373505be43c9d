//! sqlite's shell, which is fed the same script again and again.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::subject::{Done, Subject, patience};
use crate::process::{Process, Watchdog};

/// A shell that waits for commands.
pub struct Sqlite {
    process: Process,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    script: PathBuf,
}

impl Sqlite {
    /// Starts it, and runs the script once.
    pub fn start(command: &mut Command, script: &Path) -> Result<Self> {
        let mut process = Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let input = process.take_stdin()?;
        let output = BufReader::new(process.take_stdout()?);
        let mut shell = Self { process, input, output, script: script.to_owned() };
        shell.run_script()?;
        Ok(shell)
    }

    fn run_script(&mut self) -> Result<()> {
        writeln!(self.input, ".read {}\n.print done", self.script.display())
            .context("sqlite3 ended")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(line == "done\n", "sqlite3 said {line:?}");
        Ok(())
    }
}

impl Subject for Sqlite {
    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn work(&mut self, duration: Duration) -> Result<Done> {
        let _watchdog = Watchdog::over(self.pid(), patience(duration));
        let (begun, mut scripts) = (Instant::now(), 0);
        while begun.elapsed() < duration {
            self.run_script()?;
            scripts += 1;
        }
        Ok(Done { rate: f64::from(scripts) / begun.elapsed().as_secs_f64(), p99_ns: None })
    }
}
