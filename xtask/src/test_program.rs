//! How a test program is compiled: by `cargo xtask test` for all at once, and by the live tests
//! where they run on their own.

use std::{ffi::OsString, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

/// Where the sources are, from the workspace's root: one source, one program of the same name.
pub const SOURCES: [&str; 2] = ["tests/programs/c", "tests/programs/rust"];

/// Options for every C and C++ program: some optimisation, and frame pointers.
pub const FLAGS: [&str; 5] = ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-builtin", "-pthread"];

/// Options for every Rust program: those of a release.
pub const RUST_FLAGS: [&str; 2] = ["--edition=2021", "-O"];

/// The compiler that everything else is built with.
const RUSTC: &str = "rustc";

/// What the first line of a source begins with that needs more options.
const MORE_FLAGS: &str = "// cflags: ";

/// What only compilers for x86-64 understand.
const X86_FLAG: &str = "-m32";

/// Compiles `source` to `program`. Does nothing with headers, nor with programs for another
/// processor.
pub fn compile(source: &Path, program: &Path) -> Result<()> {
    compile_with(&[], source, program)
}

/// As [`compile`], with more options for the C or C++ compiler, such as those of
/// [`Glibc::flags`](crate::glibcs::Glibc::flags).
pub fn compile_with(options: &[OsString], source: &Path, program: &Path) -> Result<()> {
    let Some(compiler) = compiler(source) else { return Ok(()) };
    if compiler == RUSTC {
        return run(Command::new(compiler).args(RUST_FLAGS).arg("-o").arg(program).arg(source));
    }
    let text = fs::read_to_string(source).with_context(|| source.display().to_string())?;
    let flags = more_flags(&text);
    if flags.contains(&X86_FLAG) && cfg!(not(target_arch = "x86_64")) {
        return Ok(());
    }
    let mut command = Command::new(compiler);
    run(command.args(FLAGS).args(flags).args(options).arg("-o").arg(program).arg(source))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn compiler(source: &Path) -> Option<&'static str> {
    match source.extension()?.to_str()? {
        "c" => Some("cc"),
        "cpp" => Some("c++"),
        "rs" => Some(RUSTC),
        _ => None,
    }
}

fn more_flags(text: &str) -> Vec<&str> {
    let first_line = text.lines().next().unwrap_or_default();
    first_line.strip_prefix(MORE_FLAGS).unwrap_or_default().split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_can_ask_for_more_options_in_its_first_line() {
        assert_eq!(more_flags("// cflags: -static -m32\nint x;"), ["-static", "-m32"]);
        assert_eq!(more_flags("// A program.\n// cflags: -static"), [] as [&str; 0]);
    }

    #[test]
    fn headers_are_not_programs() {
        assert_eq!(compiler(Path::new("program.h")), None);
        assert_eq!(compiler(Path::new("leak.cpp")), Some("c++"));
        assert_eq!(compiler(Path::new("leak.rs")), Some("rustc"));
    }
}
