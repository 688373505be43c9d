//! musl's heap, against a program that counts its own blocks.

use std::{
    env::consts::ARCH,
    ffi::OsString,
    io::Write as _,
    path::Path,
    process::{ChildStdin, Command, Stdio},
};

use memtrace::{
    allocator::musl::{self, MuslError, MuslWalk},
    model::{
        census::Extent,
        memory::{PageState, Residency as _},
    },
    sys::{memory::ProcessMemory, pagemap::Pagemap, procfs::ProcFs},
};
use memtrace_tests::{lines::Lines, running::Running};
use tempfile::TempDir;
use xtask::test_program::compile_with;

/// What the program says it holds.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
struct Truth {
    blocks: u64,
    bytes: u64,
}

struct Blocks {
    process: Running,
    input: ChildStdin,
    lines: Lines,
    // Its file.
    _directory: TempDir,
}

impl Blocks {
    /// Starts the program, linked as these options say.
    fn start(options: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let program = directory.path().join("blocks");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/musl/blocks.c");
        let specs = format!("-specs=/usr/lib/{ARCH}-linux-musl/musl-gcc.specs");
        let options = options.iter().copied().chain([specs.as_str()]);
        compile_with(&options.map(OsString::from).collect::<Vec<_>>(), &source, &program).unwrap();
        let mut command = Command::new(program);
        let mut process = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let input = process.child().stdin.take().unwrap();
        let lines = Lines::of(process.child().stdout.take().unwrap());
        Self { process, input, lines, _directory: directory }
    }

    fn truth(&mut self) -> Truth {
        serde_json::from_str(&self.lines.next_line().unwrap()).unwrap()
    }

    fn next(&mut self) -> Truth {
        self.input.write_all(b"go\n").unwrap();
        self.truth()
    }

    fn walk_as(&self, version: Option<&str>) -> Result<MuslWalk, MuslError> {
        let (proc, pid) = (ProcFs::new("/proc"), self.process.pid());
        let (memory, pagemap) =
            (ProcessMemory::open(&proc, pid).unwrap(), Pagemap::open(&proc, pid).unwrap());
        let mappings = proc.maps(pid).unwrap();
        let is_libc = |name: &str| name.contains("musl") && name.contains("libc");
        let libc = mappings.iter().find(|it| is_libc(&it.name) || it.name.contains("ld-musl"));
        musl::walk(&memory, &pagemap, &mappings, libc.unwrap_or(&mappings[0]), version)
    }

    fn walk(&self) -> MuslWalk {
        self.walk_as(None).unwrap()
    }

    /// Resident bytes of its own, not of files, where a walk was.
    fn resident_bytes(&self, walk: &MuslWalk) -> u64 {
        let pagemap = Pagemap::open(&ProcFs::new("/proc"), self.process.pid()).unwrap();
        let own = |it: &Extent| {
            let runs = pagemap.runs(it.start & !0xfff, it.end.next_multiple_of(4096)).unwrap();
            let own =
                runs.iter().filter(|run| run.state == PageState::Resident && !run.file_backed);
            own.map(|run| run.end.min(it.end) - run.start.max(it.start)).sum::<u64>()
        };
        walk.extents.iter().map(own).sum()
    }
}

fn blocks_are_counted(options: &[&str]) {
    let mut program = Blocks::start(options);
    program.truth();
    let before = program.walk().heap.in_use;
    for _ in 0..3 {
        let truth = program.next();
        let walk = program.walk();
        let in_use = walk.heap.in_use;
        assert_eq!(in_use.count - before.count, truth.blocks, "{walk:?}");
        // A block's slot is at most a quarter larger, or it is rounded up to pages.
        let bytes = in_use.bytes - before.bytes;
        assert!((truth.bytes..truth.bytes * 3 / 2 + 1).contains(&bytes), "{bytes} {truth:?}");
        assert_eq!(walk.heap.resident.total_bytes(), program.resident_bytes(&walk));
        let overlap = walk.extents.windows(2).find(|pair| pair[0].end > pair[1].start);
        assert_eq!(overlap, None);
    }
}

#[test]
fn blocks_in_musls_heap_are_those_that_the_program_holds() {
    blocks_are_counted(&[]);
}

#[test]
fn a_static_program_holds_its_own_musl() {
    blocks_are_counted(&["-static"]);
}

#[test]
fn what_is_freed_between_blocks_is_trapped() {
    let mut program = Blocks::start(&[]);
    program.truth();
    program.next();
    let full = program.walk().heap.resident;
    program.next();
    let holes = program.walk().heap.resident;
    assert!(holes.in_use_bytes < full.in_use_bytes / 2, "{holes:?} {full:?}");
    assert!(holes.trapped_bytes > full.trapped_bytes * 2, "{holes:?} {full:?}");
}

#[test]
fn an_old_musl_is_refused_by_its_version() {
    let mut program = Blocks::start(&[]);
    program.truth();
    let refused = program.walk_as(Some("1.1.24")).unwrap_err();
    assert_eq!(refused, MuslError::OldMalloc("1.1.24".to_owned()));
}

/// Counted page by page: the kernel adds up what it says elsewhere in batches of 64 KiB a CPU.
fn rss_kib(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_walk_of_musls_heap_does_not_make_it_grow() {
    let mut program = Blocks::start(&[]);
    program.truth();
    program.next();
    program.next();
    let before = rss_kib(program.process.pid());
    program.walk();
    assert_eq!(rss_kib(program.process.pid()), before);
}
