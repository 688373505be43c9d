//! The interpreters of this machine, and processes of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{
    model::mapping::Mapping,
    runtime::python::detect::{Search, search},
    sys::{memory::ProcessMemory, procfs::ProcFs},
};

/// Every CPython from 3.8 on that is installed in one of the usual places; at least two.
pub(super) fn pythons() -> BTreeSet<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let versions = fs::read_dir(home.join(".pyenv/versions")).into_iter().flatten().flatten();
    let directories = versions.map(|version| version.path().join("bin"));
    let directories = directories.chain(["/usr/bin".into(), "/usr/local/bin".into()]);
    let found: BTreeSet<PathBuf> = directories
        .flat_map(|directory| (8..=14).map(move |minor| directory.join(format!("python3.{minor}"))))
        .filter_map(|path| path.canonicalize().ok())
        .collect();
    assert!(found.len() >= 2, "these tests need two versions of Python, here are {found:?}");
    found
}

/// A process; killed when it goes.
pub(super) struct Interpreter(Child);

/// Function, file, line; innermost first.
pub(super) type Lines = Vec<(String, String, u32)>;

impl Interpreter {
    pub(super) fn start(python: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(python);
        command.args(["-I", "-X", "utf8"]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// The lines of its output up to `READY`.
    pub(super) fn output(&mut self) -> Vec<String> {
        let output = BufReader::new(self.0.stdout.take().unwrap());
        let lines = output.lines().map(Result::unwrap);
        let lines: Vec<_> = lines.take_while(|line| line != "READY").collect();
        lines
    }

    /// What `program.py` says of its threads, by `pthread_self()`.
    pub(super) fn threads(&mut self) -> BTreeMap<u64, Lines> {
        let mut threads = BTreeMap::new();
        let mut current = 0;
        for line in self.output() {
            let (kind, rest) = line.split_once(' ').unwrap();
            if kind == "THREAD" {
                current = rest.parse().unwrap();
                threads.insert(current, Vec::new());
                continue;
            }
            let [function, file, line] = rest.split('\t').collect::<Vec<_>>().try_into().unwrap();
            let frame = (function.to_owned(), file.to_owned(), line.parse().unwrap());
            threads.get_mut(&current).unwrap().push(frame);
        }
        threads
    }

    pub(super) fn memory(&self) -> ProcessMemory {
        ProcessMemory::open(&ProcFs::new("/proc"), self.pid()).unwrap()
    }

    pub(super) fn search(&self) -> Search {
        let proc = ProcFs::new("/proc");
        let maps = proc.maps(self.pid()).unwrap();
        let open = |mapping: &Mapping| {
            proc.open_mapped_file(self.pid(), mapping).map_err(std::io::Error::other)
        };
        search(&maps, open, &self.memory())
    }
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}
