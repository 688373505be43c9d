//! The test programs, compiled once as the caller: the live tests run as root, and would leave
//! root's files in `target/`; a virtual machine has no compiler.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use xtask::test_program;

use crate::shell::{root, say, work_dir};

/// One source, one program of the same name.
pub const SOURCES: &str = "tests/programs/c";

/// Compiles everything in [`SOURCES`] into one directory, which it returns.
pub fn compile() -> Result<PathBuf> {
    let target = work_dir("live").join("programs");
    // A program whose source is gone must not be found.
    let _ = fs::remove_dir_all(&target);
    fs::create_dir_all(&target)?;
    say(format_args!("compiling {SOURCES} to {}", target.display()));
    for entry in fs::read_dir(root().join(SOURCES)).context(SOURCES)? {
        let source = entry?.path();
        let name = source.file_stem().context("a source has a name")?;
        test_program::compile(&source, &target.join(name))?;
    }
    Ok(target)
}
