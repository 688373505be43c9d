//! Where the CPythons are that memtrace is tested on: the system's, pyenv's, and those of other
//! Debian suites, which `cargo xtask setup` unpacks below `target/`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

/// Unpacked suites of Debian, from the workspace's root: `ROOTS/SUITE` is like a `/`.
pub const ROOTS: &str = "target/roots";

/// Packages of PyPI, from the workspace's root: `WHEELS/NAME-3.MINOR` goes into `PYTHONPATH`.
pub const WHEELS: &str = "target/wheels";

/// Links to the Pythons of [`ROOTS`], from the workspace's root: `PYTHONS/python3.MINOR-SUITE`.
pub const PYTHONS: &str = "target/pythons";

/// The minor versions of CPython 3 that memtrace knows.
const MINORS: std::ops::RangeInclusive<u32> = 8..=14;

/// What an interpreter says of itself.
const ABOUT: &str = "import json, sys, sysconfig; print(json.dumps({\
    'version': sys.version_info[:3], \
    'shared': bool(sysconfig.get_config_var('Py_ENABLE_SHARED')), \
    'executable': sys.executable}))";

/// Where a Python comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `/usr/bin/python3`.
    System,
    /// Built from source by pyenv.
    Pyenv,
    /// Another suite of Debian, below [`ROOTS`].
    Suite,
}

/// A CPython that runs here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    /// The executable itself, no link: what `/proc/PID/exe` leads to.
    pub path: PathBuf,
    /// Major, minor, micro.
    pub version: (u32, u32, u32),
    /// Where it comes from.
    pub origin: Origin,
    /// Configured with a `libpython`. Debian's executables do not use theirs.
    pub shared: bool,
}

#[derive(Deserialize)]
struct About {
    version: (u32, u32, u32),
    shared: bool,
    executable: PathBuf,
}

impl Python {
    fn at(path: &Path, origin: Origin) -> Option<Self> {
        let output = Command::new(path).args(["-I", "-c", ABOUT]).output().ok()?;
        let about: About = serde_json::from_slice(&output.stdout).ok()?;
        let path = about.executable.canonicalize().ok()?;
        let known = about.version.0 == 3 && MINORS.contains(&about.version.1);
        known.then_some(Self { path, version: about.version, origin, shared: about.shared })
    }

    /// Where [`WHEELS`] has `package` for this version.
    pub fn wheels(&self, workspace: &Path, package: &str) -> PathBuf {
        workspace.join(WHEELS).join(format!("{package}-3.{}", self.version.1))
    }
}

/// Every CPython here whose version memtrace knows, each once, by origin and version.
pub fn find(workspace: &Path) -> Vec<Python> {
    let system = [PathBuf::from("/usr/bin/python3")].into_iter();
    let mut found: Vec<_> = { system }
        .map(|path| (path, Origin::System))
        .chain(pyenv().into_iter().map(|path| (path, Origin::Pyenv)))
        .chain(entries(&workspace.join(PYTHONS)).into_iter().map(|path| (path, Origin::Suite)))
        .filter_map(|(path, origin)| Python::at(&path, origin))
        .collect();
    found.sort_by(|a, b| (a.origin, a.version, &a.path).cmp(&(b.origin, b.version, &b.path)));
    found.dedup_by(|a, b| a.path == b.path);
    found
}

fn pyenv() -> Vec<PathBuf> {
    let root = env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(env::home_dir()?.join(".pyenv")));
    let versions = root.map(|root| entries(&root.join("versions"))).unwrap_or_default();
    versions.into_iter().map(|version| version.join("bin/python3")).collect()
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_python_is_not_found() {
        assert_eq!(Python::at(Path::new("/bin/true"), Origin::System), None);
        assert_eq!(Python::at(Path::new("/no/such/python"), Origin::System), None);
    }

    #[test]
    fn wheels_are_told_apart_by_minor_version() {
        let path = PathBuf::from("/usr/bin/python3.11");
        let python = Python { path, version: (3, 11, 2), origin: Origin::System, shared: false };
        let wheels = python.wheels(Path::new("/w"), "numpy");
        assert_eq!(wheels, Path::new("/w/target/wheels/numpy-3.11"));
    }
}
