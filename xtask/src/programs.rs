//! The test programs, compiled once as the caller: the live tests run as root, and would leave
//! root's files in `target/`; a virtual machine has no compiler.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use xtask::test_program::{self, SOURCES};

use crate::shell::{root, say, work_dir};

/// Compiles everything in [`SOURCES`] into one directory, which it returns.
pub fn compile() -> Result<PathBuf> {
    let target = work_dir("live").join("programs");
    // A program whose source is gone must not be found.
    let _ = fs::remove_dir_all(&target);
    fs::create_dir_all(&target)?;
    say(format_args!("compiling {} to {}", SOURCES.join(" and "), target.display()));
    for directory in SOURCES {
        for entry in fs::read_dir(root().join(directory)).context(directory)? {
            let source = entry?.path();
            let name = source.file_stem().context("a source has a name")?;
            test_program::compile(&source, &target.join(name))?;
        }
    }
    Ok(target)
}
