//! What a test machine finds when it boots: init, memtrace, the live tests, the test programs and
//! the libraries of all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{cpio::Cpio, read};
use crate::{
    artifacts::Built,
    shell::{output, root, work_dir},
};

/// Mount points and the like.
const DIRECTORIES: [&str; 5] = ["proc", "sys", "dev", "tmp", "programs"];

/// Writes the initramfs that runs the live tests whose name contains `filter`.
pub fn write(initrd: &Path, built: &Built, programs: &Path, filter: &str) -> Result<()> {
    fs::create_dir_all(work_dir("vm"))?;
    let mut files = Files::default();
    files.add("init", read(&compile_init(filter)?)?);
    files.add_program("live", &stripped(&built.live)?)?;
    files.add_program("memtrace", &stripped(&built.memtrace)?)?;
    for entry in fs::read_dir(programs)? {
        let program = entry?.path();
        let name = program.file_name().context("a file has a name")?.to_string_lossy();
        files.add_program(&format!("programs/{name}"), &program)?;
    }
    fs::write(initrd, files.archive()).with_context(|| format!("cannot write {}", initrd.display()))
}

/// Files by their path without the leading slash.
#[derive(Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    fn add(&mut self, path: &str, content: Vec<u8>) {
        self.0.insert(path.trim_start_matches('/').to_owned(), content);
    }

    /// Adds an executable and, at the paths where they are here, its libraries.
    fn add_program(&mut self, path: &str, program: &Path) -> Result<()> {
        self.add(path, read(program)?);
        // A static program makes ldd fail, and has none.
        let ldd = output(Command::new("ldd").arg(program)).unwrap_or_default();
        for library in libraries(&ldd) {
            self.add(library, read(Path::new(library))?);
        }
        Ok(())
    }

    fn archive(&self) -> Vec<u8> {
        let mut cpio = Cpio::default();
        for directory in self.directories() {
            cpio.directory(directory);
        }
        // The kernel opens it for init before init can mount anything.
        cpio.device("dev/console", (5, 1));
        for (path, content) in &self.0 {
            cpio.file(path, content);
        }
        cpio.finish()
    }

    /// Every directory, each after its parent: sorted, a prefix comes first.
    fn directories(&self) -> BTreeSet<&str> {
        let mut directories = BTreeSet::from(DIRECTORIES);
        for path in self.0.keys() {
            directories.extend(path.match_indices('/').map(|(at, _)| &path[..at]));
        }
        directories
    }
}

/// The absolute paths in what ldd says.
fn libraries(ldd: &str) -> impl Iterator<Item = &str> {
    ldd.split_whitespace().filter(|word| word.starts_with('/'))
}

/// init.c as a static program.
fn compile_init(filter: &str) -> Result<PathBuf> {
    let init = work_dir("vm").join("init");
    output(
        Command::new("cc")
            .args(["-static", "-O1", "-Wall", "-Werror"])
            .arg(format!("-DTEST_FILTER=\"{filter}\""))
            .arg("-o")
            .arg(&init)
            .arg(root().join("xtask/src/vm/init.c")),
    )?;
    Ok(init)
}

/// A copy without debug information, which would be most of the initramfs.
fn stripped(program: &Path) -> Result<PathBuf> {
    let copy = work_dir("vm").join(program.file_name().context("a program has a name")?);
    output(Command::new("strip").arg("--strip-debug").arg("-o").arg(&copy).arg(program))?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_taken_from_where_the_loader_finds_them() {
        let ldd = "\tlinux-vdso.so.1 (0x7f)\n\
                   \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f)\n\
                   \t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        let found: Vec<_> = libraries(ldd).collect();
        assert_eq!(found, ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }

    #[test]
    fn every_directory_of_a_file_exists_before_it() {
        let mut files = Files::default();
        files.add("/lib/x86/libc.so.6", vec![]);
        let directories: Vec<_> = files.directories().into_iter().collect();
        assert_eq!(directories, ["dev", "lib", "lib/x86", "proc", "programs", "sys", "tmp"]);
    }
}
