//! Packages of PyPI for the tests, each in a directory that goes into `PYTHONPATH`: numpy for every
//! Python; for the system's memray and py-spy, for the comparison with them, what exchanges stacks or
//! loops, what has an allocator of its own, and what reads captures and exports.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use xtask::{
    pythons::{self, Python},
    readers,
};

use crate::shell::{output, root as workspace, say, succeeds};

/// For every Python.
const EVERYWHERE: &str = "numpy";

/// For the system's Python: tools to compare with, greenlets, an event loop in C, a library with an
/// allocator of its own, and what unpacks captures.
const OF_SYSTEM: [&str; 6] = ["memray", "py-spy", "gevent", "uvloop", "polars", "zstandard"];

/// What wheels are built for; every glibc since 2.28 runs them.
const PLATFORMS: [&str; 4] =
    ["manylinux2014", "manylinux_2_17", "manylinux_2_27", "manylinux_2_28"];

/// Downloads what is missing. What there is no wheel of is said, and the rest is downloaded.
pub fn install() -> Result<()> {
    let pythons = pythons::find(&workspace());
    let system = pythons.iter().filter(|it| it.origin == pythons::Origin::System);
    let wanted = pythons.iter().map(|python| (python, EVERYWHERE));
    let of_system = [&OF_SYSTEM[..], &readers::PACKAGES[..]].concat();
    let of_system = system.flat_map(|python| of_system.iter().map(move |it| (python, *it)));
    let wanted = wanted.chain(of_system);
    for (python, package) in wanted {
        let directory = python.wheels(&workspace(), package);
        if directory.exists() {
            continue;
        }
        if let Err(error) = download(python, package, &directory) {
            let version = python.version;
            say(format_args!("NOT HERE: {package} for {version:?}: {error:#}"));
        }
    }
    Ok(())
}

/// By one pip for all: it needs not run on the Python that the package is for.
fn download(python: &Python, package: &str, directory: &Path) -> Result<()> {
    let version = format!("3.{}", python.version.1);
    say(format_args!("missing: {package} for Python {version}: downloading it"));
    let scratch = directory.with_extension("new");
    let _ = fs::remove_dir_all(&scratch);
    let mut command = Command::new(python_with_pip()?);
    command.args(["-m", "pip", "install", "--quiet", "--no-compile", "--only-binary", ":all:"]);
    command.args(["--implementation", "cp", "--python-version", &version]);
    for platform in PLATFORMS {
        command.args(["--platform", &format!("{platform}_{}", std::env::consts::ARCH)]);
    }
    output(command.arg("--target").arg(&scratch).arg(package))?;
    fs::rename(&scratch, directory).context("cannot rename it")
}

/// A Python that has pip.
pub fn python_with_pip() -> Result<PathBuf> {
    let candidates = ["python3", "/usr/bin/python3"].map(PathBuf::from).into_iter();
    { candidates }
        .find(|python| succeeds(Command::new(python).args(["-m", "pip", "--version"])))
        .context("no Python here has pip")
}
