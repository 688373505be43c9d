//! What others read memtrace's exports by.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::pythons::{Python, system};

/// pprof, which asks no other program or server for symbols. Panics when it is not there.
pub fn pprof(arguments: &[&str], profile: &Path) -> String {
    let path = xtask::readers::pprof(&workspace());
    assert!(path.is_file(), "{} is not here: `cargo xtask setup` says why", path.display());
    let mut command = Command::new(path);
    // It keeps its settings and copies of profiles in the home directory.
    command.env("HOME", profile.parent().unwrap()).env("PPROF_TMPDIR", profile.parent().unwrap());
    output(command.args(arguments).arg(profile))
}

/// What a Python script prints, which can import `package`.
pub fn python(package: &str, script: &str, arguments: &[&Path]) -> String {
    let system: &Python = system();
    let mut command = system.command_with_package(package);
    output(command.args(["-c", script]).args(arguments))
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}
