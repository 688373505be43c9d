//! `memtrace attach` on a target.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread::JoinHandle,
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{binary, lines::Lines, report::Report, running::Running};

/// A memtrace that is going to be started; reports as JSON unless told otherwise.
pub struct Attach {
    pid: u32,
    arguments: Vec<String>,
    json: bool,
    output: Option<PathBuf>,
    binary: PathBuf,
    user: Option<u32>,
}

impl Attach {
    /// To a process.
    pub fn to(pid: u32) -> Self {
        let binary = binary::memtrace();
        Self { pid, arguments: Vec::new(), json: true, output: None, binary, user: None }
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Reports as text.
    pub fn text(mut self) -> Self {
        self.json = false;
        self
    }

    /// Writes to this prefix and not to a temporary directory.
    pub fn output(mut self, prefix: &Path) -> Self {
        self.output = Some(prefix.to_owned());
        self
    }

    /// Runs another copy of the binary, as another user.
    pub fn as_user(mut self, binary: &Path, user: u32) -> Self {
        (self.binary, self.user) = (binary.to_owned(), Some(user));
        self
    }

    /// Runs it by this program, which starts memtrace with the arguments that it is given.
    pub fn by(mut self, launcher: &Path) -> Self {
        launcher.clone_into(&mut self.binary);
        self
    }

    fn command(&self, prefix: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("attach").args(["-p", &self.pid.to_string()]).arg("-o").arg(prefix);
        command.args(self.json.then_some("--json")).args(&self.arguments);
        if !self.arguments.iter().any(|it| it == "--max-overhead") {
            // Most tests count every call.
            command.args(["--max-overhead", "none"]);
        }
        if let Some(user) = self.user {
            use std::os::unix::process::CommandExt as _;
            command.uid(user).gid(user);
        }
        command
    }

    /// Starts it and does not wait for anything.
    pub fn start(self) -> Tracing {
        let directory = TempDir::new().unwrap();
        let prefix = self.output.clone().unwrap_or_else(|| directory.path().join("out"));
        let mut command = self.command(&prefix);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Running::start(&mut command);
        let mut stdout = process.child().stdout.take().unwrap();
        let stderr = Lines::of(process.child().stderr.take().unwrap());
        let stdout = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).unwrap();
            String::from_utf8(bytes).expect("a report is UTF-8")
        });
        Tracing { process, stdout, stderr, prefix, _directory: directory }
    }

    /// Starts it and waits until all probes are armed.
    pub fn armed(self) -> Tracing {
        let mut tracing = self.start();
        tracing.wait_until_armed();
        tracing
    }

    /// Runs it to its own end.
    pub fn run(self) -> Finished {
        self.start().wait()
    }
}

/// A memtrace at work.
pub struct Tracing {
    process: Running,
    stdout: JoinHandle<String>,
    stderr: Lines,
    prefix: PathBuf,
    _directory: TempDir,
}

impl Tracing {
    /// The pid of memtrace.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits for the message that says so.
    pub fn wait_until_armed(&mut self) {
        self.wait_until_it_says("tracing");
    }

    /// Waits for a message; what `-v` adds counts.
    pub fn wait_until_it_says(&mut self, text: &str) {
        let said = self.stderr.find(text);
        assert!(said.is_some(), "memtrace ended without {text:?}:\n{}", self.stderr.rest());
    }

    /// Waits until it says on stderr that it follows these processes, in any order.
    pub fn wait_until_it_follows(&mut self, pids: &[u32]) {
        let mut missing = pids.to_vec();
        while !missing.is_empty() {
            let Some(line) = self.stderr.find("following ") else {
                panic!("memtrace ended and did not follow {missing:?}");
            };
            let said = |pid: &u32| line.contains(&format!("following {pid} "));
            missing.retain(|pid| !said(pid));
        }
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Ends it like Ctrl-C, and returns its result.
    pub fn interrupt(self) -> Finished {
        self.signal(Signal::INT);
        self.wait()
    }

    /// Ends it by SIGKILL.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.process.wait();
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Finished {
        let stderr = &mut self.stderr;
        // Its end closes the pipe, so this waits, with a time limit.
        let stderr = stderr.rest();
        let status = self.process.wait_or(|| stderr.clone());
        let stdout = self.stdout.join().unwrap();
        let svg = std::fs::read_to_string(self.prefix.with_extension("svg")).ok();
        Finished { status, stdout, stderr, svg }
    }
}

/// What a memtrace left.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// The report.
    pub stdout: String,
    /// Messages.
    pub stderr: String,
    /// The flamegraph, if it was written.
    pub svg: Option<String>,
}

impl Finished {
    /// The JSON report of a successful run.
    pub fn report(&self) -> Report {
        assert_eq!(self.status.code(), Some(0), "{}\n{}", self.stderr, self.stdout);
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.stdout, self.stderr))
    }

    /// Asserts that it could not do it, said so in one sentence with these words, and printed no
    /// result.
    pub fn assert_refused(&self, words: &[&str]) {
        assert_eq!(self.status.code(), Some(2), "{}", self.stderr);
        assert_eq!(self.stdout, "", "a refusal has no result");
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        let lower = self.stderr.to_lowercase();
        for word in words {
            assert!(lower.contains(&word.to_lowercase()), "no {word:?} in: {}", self.stderr);
        }
    }
}
