//! The test programs, compiled once as the caller: the live tests run as root, and would leave
//! root's files in `target/`; a virtual machine has no compiler.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::shell::{output, root, say, work_dir};

/// One source, one program of the same name.
const SOURCES: &str = "tests/programs/c";

/// Options for every program, as in `tests/support/programs.rs`.
const FLAGS: [&str; 5] = ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-builtin", "-pthread"];

/// Compiles everything in [`SOURCES`] into one directory, which it returns.
pub fn compile() -> Result<PathBuf> {
    let target = work_dir("live").join("programs");
    // A program whose source is gone must not be found.
    let _ = fs::remove_dir_all(&target);
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
    let text = fs::read_to_string(source)?;
    let own_flags = own_flags(&text);
    // Only x86-64 compilers make 32-bit x86 programs.
    if own_flags.contains(&"-m32") && cfg!(not(target_arch = "x86_64")) {
        return Ok(());
    }
    let program = target.join(source.file_stem().context("a source has a name")?);
    let mut compile = Command::new(compiler);
    compile.args(FLAGS).args(own_flags).arg("-o").arg(program).arg(source);
    output(&mut compile).map(drop)
}

/// The options that a program asks for in its first line: `// cflags: ...`.
fn own_flags(source: &str) -> Vec<&str> {
    let first_line = source.lines().next().unwrap_or_default();
    let flags = first_line.strip_prefix("// cflags: ").unwrap_or_default();
    flags.split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_asks_for_options_in_its_first_line_only() {
        assert_eq!(own_flags("// cflags: -static -m32\nint x;"), ["-static", "-m32"]);
        assert!(own_flags("int x;\n// cflags: -static").is_empty());
        assert!(own_flags("").is_empty());
    }

    #[test]
    fn a_program_is_named_as_its_source_and_a_header_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (sources, target) = (dir.path().join("sources"), dir.path().join("target"));
        fs::create_dir_all(&sources).unwrap();
        fs::create_dir_all(&target).unwrap();
        for (name, text) in [("leak.c", "int main(void) { return 0; }\n"), ("leak.h", "")] {
            fs::write(sources.join(name), text).unwrap();
            compile_one(&sources.join(name), &target).unwrap();
        }
        let names: Vec<_> =
            fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["leak"]);
    }

    #[test]
    fn a_program_that_does_not_compile_is_an_error_with_the_compilers_words() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("broken.c");
        fs::write(&source, "int main(void) { return undeclared; }\n").unwrap();
        let error = compile_one(&source, dir.path()).unwrap_err();
        assert!(error.to_string().contains("undeclared"), "{error}");
    }
}
