//! `memtrace watch`, and what it says as lines of JSON.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{binary, lines::Lines, running::Running};

/// A watch at work.
pub struct Watch {
    process: Running,
    events: Lines,
    stderr: Lines,
    directory: PathBuf,
    _own: Option<TempDir>,
}

impl Watch {
    /// Starts one and waits until it watches.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_command(Command::new(binary::memtrace()).arg("watch"), arguments, None)
    }

    /// The same with captures in a directory that is there.
    pub fn start_in(directory: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary::memtrace());
        Self::start_command(command.arg("watch"), arguments, Some(directory))
    }

    /// A command that ends in `memtrace watch`.
    pub fn start_command(
        command: &mut Command,
        arguments: &[&str],
        directory: Option<&Path>,
    ) -> Self {
        let own = directory.is_none().then(|| TempDir::new().unwrap());
        let directory = directory.unwrap_or_else(|| own.as_ref().unwrap().path()).to_owned();
        command.arg("--json").arg("-o").arg(&directory).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Running::start(command);
        let events = Lines::of(process.child().stdout.take().unwrap());
        let stderr = Lines::of(process.child().stderr.take().unwrap());
        let mut watch = Self { process, events, stderr, directory, _own: own };
        watch.event("watching");
        watch
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits for the next event of this name.
    pub fn event(&mut self, name: &str) -> Value {
        let wanted = format!("\"event\":\"{name}\"");
        match self.events.find(&wanted) {
            Some(line) => serde_json::from_str(&line).unwrap(),
            None => panic!("it ended before {name:?}: {}", self.stderr.rest()),
        }
    }

    /// Waits for the next capture, and reads its report.
    pub fn capture(&mut self) -> Value {
        let event = self.event("captured");
        let files: Vec<&str> =
            event["files"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        let capture = files.iter().find(|it| it.ends_with(".memtrace")).unwrap();
        report(Path::new(capture))
    }

    /// Waits for the next capture, which may be removed before it is read.
    pub fn capture_event(&mut self) -> Value {
        self.event("captured")
    }

    /// Captures on disk now.
    pub fn captures(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.directory).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|it| it.extension().is_some_and(|it| it == "memtrace")).collect()
    }

    /// Waits until this process is traced: its capture has begun.
    pub fn wait_until_it_traces(&self, pid: u32) {
        let name = format!("-{pid}-");
        crate::wait_until("the process is traced", || {
            self.captures().iter().any(|path| {
                let has_begun = path.metadata().is_ok_and(|it| it.len() > 0);
                has_begun && path.to_string_lossy().contains(&name)
            })
        });
    }

    /// Bytes of all files on disk.
    pub fn disk_bytes(&self) -> u64 {
        let entries = std::fs::read_dir(&self.directory).unwrap();
        entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Ends it like Ctrl-C.
    pub fn interrupt(self) -> (ExitStatus, String) {
        self.process.signal(Signal::INT);
        self.wait()
    }

    /// Waits for its end; what it said on stderr.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let stderr = self.stderr.rest();
        let status = self.process.wait_or(|| stderr.clone());
        (status, stderr)
    }
}

/// The JSON report of a capture.
pub fn report(capture: &Path) -> Value {
    let output = binary::run(&["report", capture.to_str().unwrap(), "--format", "json"]);
    assert!(output.status.success(), "{}", binary::stderr(&output));
    serde_json::from_str(&binary::stdout(&output)).unwrap()
}

/// The function that the report accuses first.
pub fn top_function(report: &Value) -> &str {
    let frame = report["sites"][0]["key_frame"].as_u64().unwrap() as usize;
    let text = &report["sites"][0]["stack"]["frames"][frame];
    text["function"].as_str().unwrap_or_else(|| panic!("{text}"))
}
