//! A suite unpacked into a directory, and its Python made to run from there.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use xtask::{
    glibcs::Glibc,
    pythons::{PYTHONS, ROOTS},
};

use super::{Suite, archive::Archive};
use crate::shell::{output, root as workspace, work_dir};

/// Raised when what is done here changes: roots that others made are then made again.
const RECIPE: u32 = 1;

/// To compile C programs against its glibc, and what wheels need.
const PACKAGES: [&str; 2] = ["libc6-dev", "libstdc++6"];

/// Whether the root is there, whole, and where it was made.
pub fn is_complete(suite: &Suite) -> bool {
    fs::read_to_string(stamp(suite)).is_ok_and(|found| found == mark(suite))
}

/// Makes the root anew.
pub fn make(suite: &Suite) -> Result<()> {
    let root = directory(suite);
    remove(&root)?;
    let scratch = work_dir("tmp").join(format!("apt-{}", suite.name));
    remove(&scratch)?;
    let archive = Archive::open(suite.name, &scratch)?;
    unpack(&archive.download(&[&PACKAGES[..], &[suite.python]].concat())?, &root)?;
    remove(&scratch)?;
    point_links_inside(&root, &root)?;
    make_runnable(suite, &root)?;
    fs::write(stamp(suite), mark(suite))?;
    Ok(())
}

fn directory(suite: &Suite) -> PathBuf {
    workspace().join(ROOTS).join(suite.name)
}

fn stamp(suite: &Suite) -> PathBuf {
    directory(suite).join("complete")
}

/// The path is in it because it is in the Python's ELF header.
fn mark(suite: &Suite) -> String {
    format!("{RECIPE} {} {}\n", suite.python, directory(suite).display())
}

/// Removes a directory that need not be there.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Unpacks packages into a directory.
pub(super) fn unpack(packages: &[PathBuf], root: &Path) -> Result<()> {
    fs::create_dir_all(root)?;
    for package in packages {
        output(Command::new("dpkg-deb").arg("-x").arg(package).arg(root))?;
    }
    // Since Debian 13 all of it lies in usr, and the package of these links is not among ours.
    for name in ["lib", "lib64"] {
        if !root.join(name).exists() && root.join("usr").join(name).exists() {
            symlink(Path::new("usr").join(name), root.join(name))?;
        }
    }
    Ok(())
}

/// Links to absolute paths lead out of the root: they are made to lead to what is inside.
pub(super) fn point_links_inside(directory: &Path, root: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            point_links_inside(&path, root)?;
        } else if kind.is_symlink() {
            point_inside(&path, root)?;
        }
    }
    Ok(())
}

fn point_inside(link: &Path, root: &Path) -> io::Result<()> {
    let target = fs::read_link(link)?;
    let Ok(inner) = target.strip_prefix("/") else { return Ok(()) };
    if target.starts_with(root) {
        return Ok(());
    }
    fs::remove_file(link)?;
    symlink(root.join(inner), link)
}

/// The Python names its own dynamic linker and libraries, so that it is run like any other
/// program, and `/proc/PID/exe` is a Python and not a dynamic linker. Its own library it finds by
/// its place.
fn make_runnable(suite: &Suite, root: &Path) -> Result<()> {
    let glibc = Glibc::at(root).context("it holds no glibc")?;
    let python = root.join("usr/bin").join(suite.python);
    output(
        Command::new("patchelf")
            .args(["--set-interpreter".as_ref(), glibc.interpreter.as_os_str()])
            .args([OsStr::new("--force-rpath"), "--set-rpath".as_ref(), &glibc.rpath()])
            .arg(&python),
    )?;
    let prefix = output(Command::new(&python).args(["-c", "import sys, ssl; print(sys.prefix)"]))?;
    let expected = root.join("usr");
    ensure!(Path::new(prefix.trim()) == expected, "it took the library of {}", prefix.trim());
    let links = workspace().join(PYTHONS);
    fs::create_dir_all(&links)?;
    let link = links.join(format!("{}-{}", suite.python, suite.name));
    let _ = fs::remove_file(&link);
    symlink(&python, link).context("cannot link to it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_into_the_root_and_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        symlink("/usr/lib/libm.so.6", root.join("usr/lib/libm.so")).unwrap();
        symlink("libz.so.1.2", root.join("usr/lib/libz.so.1")).unwrap();
        for _ in 0..2 {
            point_links_inside(root, root).unwrap();
            let target = |name: &str| fs::read_link(root.join("usr/lib").join(name)).unwrap();
            assert_eq!(target("libm.so"), root.join("usr/lib/libm.so.6"));
            assert_eq!(target("libz.so.1"), Path::new("libz.so.1.2"));
        }
    }
}
