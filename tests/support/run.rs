//! `memtrace run` of a command.

use std::{
    ffi::{OsStr, OsString},
    fs::Permissions,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, ExitStatus, Stdio},
    thread::JoinHandle,
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{binary, lines::Lines, report::Report, running::Running};

/// A memtrace that is going to run a command; every call is counted, unless told otherwise.
pub struct Run {
    command: Vec<OsString>,
    options: Vec<String>,
    before: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl Run {
    /// Of a program with arguments.
    pub fn of(program: impl AsRef<OsStr>, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(OsString::from);
        let command = std::iter::once(program.as_ref().to_owned()).chain(arguments).collect();
        Self { command, options: Vec::new(), before: Vec::new(), environment: Vec::new() }
    }

    /// Adds options of memtrace's.
    pub fn options(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|it| (*it).to_owned()));
        self
    }

    /// memtrace is itself run by this command.
    pub fn under(mut self, command: &[&str]) -> Self {
        self.before = command.iter().map(OsString::from).collect();
        self
    }

    /// Adds a variable of the environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), value.as_ref().to_owned()));
        self
    }

    fn words(&self, prefix: &Path) -> Vec<OsString> {
        let mut words = self.before.clone();
        words.extend([binary::memtrace().into(), "run".into()]);
        if !self.options.iter().any(|it| it == "-o") {
            words.extend(["-o".into(), prefix.into()]);
        }
        let is_watched = self.options.iter().any(|it| it == "--when");
        words.extend((!is_watched).then(|| "--json".into()));
        if !is_watched && !self.options.iter().any(|it| it == "--max-overhead") {
            words.extend(["--exact", "--max-overhead", "none"].map(OsString::from));
        }
        words.extend(self.options.iter().map(OsString::from));
        words.push("--".into());
        words.extend(self.command.iter().cloned());
        words
    }

    /// Starts it.
    pub fn start(self) -> Ran {
        let directory = TempDir::new().unwrap();
        let prefix = directory.path().join("out");
        // Also for a memtrace that is not root's.
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        let words = self.words(&prefix);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(self.environment);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Running::start(&mut command);
        let input = process.child().stdin.take();
        let output = Lines::of(process.child().stdout.take().unwrap());
        let mut stderr = process.child().stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Ran { process, input, output, stderr, prefix, _directory: directory }
    }

    /// Runs it to its end, without input.
    pub fn wait(self) -> Finished {
        let mut running = self.start();
        running.input = None;
        running.wait()
    }
}

/// A memtrace and its command at work.
pub struct Ran {
    process: Running,
    input: Option<ChildStdin>,
    /// What the command says.
    pub output: Lines,
    stderr: JoinHandle<String>,
    prefix: PathBuf,
    _directory: TempDir,
}

impl Ran {
    /// The pid of memtrace, or of the command that runs it.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Tells the command something.
    pub fn tell(&mut self, line: &str) {
        self.input.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Sends memtrace a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// The captures of a command that is watched, of which `-o` is the directory.
    pub fn captures(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.prefix).into_iter().flatten();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|it| it.extension().is_some_and(|it| it == "memtrace")).collect()
    }

    /// Whether memtrace has written its report, which with `-d` is before its end.
    pub fn has_report(&self) -> bool {
        let text = std::fs::read_to_string(self.prefix.with_extension("json"));
        text.is_ok_and(|text| serde_json::from_str::<Report>(&text).is_ok())
    }

    /// Waits for memtrace's end, with what it left.
    pub fn wait(mut self) -> Finished {
        let status = self.process.wait();
        let stdout = self.output.rest();
        self.input = None;
        let stderr = self.stderr.join().unwrap();
        let json = std::fs::read_to_string(self.prefix.with_extension("json")).ok();
        Finished { status, stdout, stderr, json }
    }
}

/// What a memtrace and its command left.
#[derive(Debug)]
pub struct Finished {
    /// How memtrace ended.
    pub status: ExitStatus,
    /// What the command said.
    pub stdout: String,
    /// What both said.
    pub stderr: String,
    /// The report, if there is one.
    pub json: Option<String>,
}

impl Finished {
    /// The report.
    pub fn report(&self) -> Report {
        let json = self.json.as_ref().unwrap_or_else(|| panic!("no report:\n{}", self.stderr));
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}\n{json}"))
    }

    /// Asserts that memtrace itself could not do it, and said so with these words.
    pub fn assert_not_started(&self, code: i32, words: &[&str]) {
        assert_eq!(self.status.code(), Some(code), "{}", self.stderr);
        assert_eq!(self.stdout, "", "the command has said something");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in: {}", self.stderr);
        }
        assert!(self.json.is_none());
    }
}
