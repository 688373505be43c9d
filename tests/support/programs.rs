//! The test programs of `tests/programs/{c,rust}`: one source, one program of the same name. A first line
//! `// cflags: ...` adds options.

use std::{
    collections::hash_map::DefaultHasher,
    env, fs,
    hash::{Hash as _, Hasher as _},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use xtask::test_program::{FLAGS, RUST_FLAGS, SOURCES, compile};

/// A directory of ready-made programs, for machines without a compiler.
const READY_MADE: &str = "MEMTRACE_TEST_PROGRAMS";

/// The path of a program, compiled at first use.
pub fn path(name: &str) -> PathBuf {
    let program = directory().join(name);
    assert!(program.exists(), "there is no test program {}", program.display());
    program
}

/// The path of a Python program.
pub fn python(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/python").join(name)
}

fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| env::var_os(READY_MADE).map_or_else(compile_all, PathBuf::from))
}

/// Compiles all programs into a directory that is named by their content, unless it is there.
fn compile_all() -> PathBuf {
    let sources = sources();
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-programs");
    let directory = parent.join(format!("{:016x}", hash(&sources)));
    if directory.exists() {
        return directory;
    }
    // Compiled elsewhere and renamed: other test binaries may be doing the same.
    let scratch = parent.join(format!("{}.{}", env!("CARGO_PKG_NAME"), std::process::id()));
    fs::create_dir_all(&scratch).unwrap();
    for source in &sources {
        compile(source, &scratch.join(source.file_stem().unwrap())).unwrap();
    }
    if fs::rename(&scratch, &directory).is_err() {
        fs::remove_dir_all(&scratch).unwrap();
    }
    directory
}

fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let entries = SOURCES.map(|directory| fs::read_dir(root.join(directory)).unwrap());
    let mut sources: Vec<_> =
        entries.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    sources.sort();
    sources
}

fn hash(sources: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (FLAGS, RUST_FLAGS).hash(&mut hasher);
    for source in sources {
        source.file_name().hash(&mut hasher);
        fs::read(source).unwrap().hash(&mut hasher);
    }
    hasher.finish()
}
