//! The test programs, compiled once as the caller: the live tests run as root, and would leave
//! root's files in `target/`; a virtual machine has no compiler.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::shell::{output, root, say, work_dir};

const SOURCES: &str = "tests/programs/c";

/// Compiles everything in [`SOURCES`] into one directory, which it returns.
pub fn compile() -> Result<PathBuf> {
    let target = work_dir("test-programs");
    fs::create_dir_all(&target)?;
    say(format_args!("compiling {SOURCES} to {}", target.display()));
    for entry in fs::read_dir(root().join(SOURCES)).context(SOURCES)? {
        compile_one(&entry?.path(), &target)?;
    }
    Ok(target)
}

fn compile_one(source: &Path, target: &Path) -> Result<()> {
    let compiler = match source.extension().and_then(|it| it.to_str()) {
        Some("c") => "cc",
        Some("cpp") => "c++",
        _ => return Ok(()),
    };
    let program = target.join(source.file_stem().context("a source has a name")?);
    let flags = ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-builtin", "-pthread"];
    output(Command::new(compiler).args(flags).arg("-o").arg(program).arg(source)).map(drop)
}
