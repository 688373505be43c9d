//! Other releases of glibc, and C programs that run on them.

use std::path::{Path, PathBuf};

use xtask::test_program;

pub use xtask::glibcs::Glibc;

/// Every other glibc here, the oldest first. Panics when there is none: `cargo xtask setup` gets
/// them.
pub fn glibcs() -> Vec<Glibc> {
    let found = xtask::glibcs::find(&workspace());
    assert!(!found.is_empty(), "no other glibc is here: `cargo xtask setup` says why");
    found
}

/// Compiles a program of `programs/c` for this glibc into `directory`. What is linked statically
/// needs a glibc that is no older than the system's.
pub fn compile(glibc: &Glibc, name: &str, directory: &Path) -> PathBuf {
    let source = workspace().join(test_program::SOURCES[0]).join(name).with_extension("c");
    let program = directory.join(format!("{name}-{}", glibc.version));
    test_program::compile_with(&glibc.flags(), &source, &program).unwrap();
    program
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}
