//! The memtrace binary under test.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rustix::fs::{Advice, fadvise};

/// Its path: `MEMTRACE_BIN`, or the one that was built beside the test.
pub fn memtrace() -> PathBuf {
    let path = env::var_os("MEMTRACE_BIN").map_or_else(beside_the_test, PathBuf::from);
    assert!(
        path.is_file(),
        "{} is not there: `cargo build -p memtrace` makes it, `cargo xtask test` does all of it",
        path.display()
    );
    path
}

/// The same, with all of it in memory, charged to others than a control group that it is to run in: of a
/// debug build a watch locks as much as of its heap.
pub fn memtrace_in_memory() -> PathBuf {
    let path = memtrace();
    fs::read(&path).unwrap();
    path
}

/// A copy in this directory of which nothing is in memory: who runs it reads it from the disk, at the cost of
/// the control group that it runs in.
pub fn memtrace_on_disk_only(directory: &Path) -> PathBuf {
    let path = directory.join("memtrace");
    fs::copy(memtrace(), &path).unwrap();
    let file = File::open(&path).unwrap();
    file.sync_all().unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    path
}

/// `target/<profile>/deps/<test>` → `target/<profile>/memtrace`.
fn beside_the_test() -> PathBuf {
    let test = env::current_exe().unwrap();
    test.parent().and_then(|deps| deps.parent()).unwrap().join("memtrace")
}

/// Runs memtrace to its end.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(memtrace()).args(arguments).output().unwrap()
}

/// What a finished command printed to stdout.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a finished command printed to stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
