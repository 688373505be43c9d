//! Python's small objects, against the account that the interpreter itself gives of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use memtrace::{
    allocator::pymalloc::{self, Interpreter, PymallocWalk},
    model::{
        mapping::Mapping,
        memory::{PageState, Residency as _},
    },
    sys::{memory::ProcessMemory, pagemap::Pagemap, procfs::ProcFs},
};
use memtrace_tests::{lines::Lines, programs, pythons, running::Running};

/// What the interpreter says, in the words of Objects/obmalloc.c.
#[derive(Debug)]
struct Account {
    arenas: u64,
    in_use_bytes: u64,
    free_blocks_bytes: u64,
    free_pools: u64,
    headers_bytes: u64,
    quantization_bytes: u64,
    alignment_bytes: u64,
}

impl Account {
    fn read(lines: &mut Lines) -> Self {
        let mut text = Vec::new();
        lines.find("account").unwrap();
        while let Some(line) = lines.next_line().filter(|line| line != "end") {
            text.push(line);
        }
        let with = |words: &str| text.iter().find(|line| line.contains(words)).unwrap().clone();
        let number = |text: &str| text.trim().replace(',', "").parse::<u64>().unwrap();
        let right = |words: &str| number(with(words).split_once('=').unwrap().1);
        let left = |words: &str| number(with(words).trim().split_once(' ').unwrap().0);
        Self {
            arenas: right("# arenas allocated current"),
            in_use_bytes: right("# bytes in allocated blocks"),
            free_blocks_bytes: right("# bytes in available blocks"),
            free_pools: left("unused pools *"),
            headers_bytes: right("# bytes lost to pool headers"),
            quantization_bytes: right("# bytes lost to quantization"),
            alignment_bytes: right("# bytes lost to arena alignment"),
        }
    }
}

impl Account {
    fn overhead_bytes(&self) -> u64 {
        self.headers_bytes + self.quantization_bytes + self.alignment_bytes
    }
}

/// A Python that waits after it has given its account.
struct Waiting {
    process: Running,
    account: Option<Account>,
    // Kept open: the program may write to it.
    _lines: Lines,
}

impl Waiting {
    fn start(python: &Path, count: u32, environment: &[(&str, &str)], with_account: bool) -> Self {
        let mut command = Command::new(python);
        command.arg(programs::python("small_objects.py")).arg(count.to_string());
        command.envs(environment.iter().copied()).env("PYTHONDONTWRITEBYTECODE", "1");
        let mut process = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let mut lines = Lines::of(process.child().stdout.take().unwrap());
        let account = with_account.then(|| Account::read(&mut lines));
        if !with_account {
            lines.find("end").unwrap();
        }
        Self { process, account, _lines: lines }
    }

    fn mappings(&self) -> Vec<Mapping> {
        ProcFs::new("/proc").maps(self.process.pid()).unwrap()
    }

    fn walk(&self) -> Option<PymallocWalk> {
        let proc = ProcFs::new("/proc");
        let memory = ProcessMemory::open(&proc, self.process.pid()).unwrap();
        let pagemap = Pagemap::open(&proc, self.process.pid()).unwrap();
        let mappings = self.mappings();
        let walks = Interpreter::all_of(&mappings);
        assert!(!walks.is_empty(), "no Python in {mappings:?}");
        let mut walks: Vec<_> = walks
            .iter()
            .filter_map(|it| pymalloc::walk(&memory, &pagemap, &mappings, it).unwrap())
            .collect();
        assert!(walks.len() < 2, "{walks:?}");
        walks.pop()
    }

    fn resident_bytes(&self, walk: &PymallocWalk) -> u64 {
        let pagemap = Pagemap::open(&ProcFs::new("/proc"), self.process.pid()).unwrap();
        let runs = walk.arenas.iter().flat_map(|it| pagemap.runs(it.start, it.end).unwrap());
        let resident = runs.filter(|run| run.state == PageState::Resident);
        resident.map(|run| run.end - run.start).sum()
    }
}

/// Every Python that tests run on, and older ones of pyenv: their frames are not known, their
/// arenas are.
fn all_pythons() -> Vec<PathBuf> {
    let older = fs::read_dir("/root/.pyenv/versions").into_iter().flatten();
    let older = older.map(|entry| entry.unwrap().path()).filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("3.6.") || name.starts_with("3.7.")
    });
    let known = pythons::pythons().iter().map(|python| python.path().to_owned());
    known.chain(older.map(|path| path.join("bin/python3"))).collect()
}

fn near(walked: u64, said: u64, slack: u64, what: &str, python: &Path) {
    let far = walked.abs_diff(said) > slack;
    assert!(!far, "{}: {what}: walked {walked}, Python says {said}", python.display());
}

#[test]
fn small_objects_are_those_that_every_python_counts() {
    for python in all_pythons() {
        let waiting = Waiting::start(&python, 200_000, &[], true);
        let (walk, said) = (waiting.walk().unwrap(), waiting.account.as_ref().unwrap());
        let heap = &walk.heap;
        assert_eq!(heap.arenas, said.arenas, "{}", python.display());
        // What the program does between its account and the end of its input takes a block or two.
        near(heap.in_use.bytes, said.in_use_bytes, 512, "in use", &python);
        near(heap.free_blocks.bytes, said.free_blocks_bytes, 512, "free blocks", &python);
        let free_pools = heap.free_pools_bytes / heap.pool_bytes;
        assert_eq!(free_pools, said.free_pools, "{}", python.display());
        assert_eq!(heap.overhead_bytes, said.overhead_bytes(), "{}", python.display());
        let all = heap.in_use.bytes + heap.free_blocks.bytes + heap.overhead_bytes;
        assert_eq!(all + heap.free_pools_bytes, heap.arenas * heap.arena_bytes);
    }
}

#[test]
fn resident_bytes_of_arenas_are_accounted_for_to_the_page() {
    for python in all_pythons() {
        let waiting = Waiting::start(&python, 50_000, &[], true);
        let walk = waiting.walk().unwrap();
        let resident = walk.heap.resident;
        assert_eq!(resident.total_bytes(), waiting.resident_bytes(&walk), "{walk:?}");
        assert_eq!(resident.unknown_bytes, 0);
        assert_eq!(resident.in_use_bytes, walk.heap.in_use.bytes);
        assert!(!walk.is_in_malloc);
    }
}

/// Counted page by page: the kernel adds up what it says elsewhere in batches of 64 KiB a CPU.
fn rss_kib(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_walk_does_not_make_the_target_grow() {
    let waiting = Waiting::start(pythons::system().path(), 50_000, &[], true);
    let before = rss_kib(waiting.process.pid());
    waiting.walk().unwrap();
    assert_eq!(rss_kib(waiting.process.pid()), before);
}

#[test]
fn a_python_without_pymalloc_has_no_arenas() {
    let environment = [("PYTHONMALLOC", "malloc")];
    let waiting = Waiting::start(pythons::system().path(), 1000, &environment, false);
    assert_eq!(waiting.walk(), None);
}
