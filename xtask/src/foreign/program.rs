//! One program of a Debian suite, unpacked with everything that it needs and run from there: where
//! installing it is more than asked for, or would take something else off the system.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use xtask::glibcs::Glibc;

use super::{
    archive::Archive,
    root::{point_links_inside, remove, unpack},
};
use crate::shell::work_dir;

/// Headers tell the release of a glibc.
const HEADERS: &str = "libc6-dev";

/// Where to get a program, and how to run it.
pub(super) struct Program {
    /// The directory below `target/` that it is unpacked to.
    pub place: &'static str,
    /// The suite whose package it is.
    pub suite: &'static str,
    /// Its package.
    pub package: &'static str,
    /// Where the package has it.
    pub path: &'static str,
    /// What it is run with, before the caller's own, as a shell writes it; `$root` is where it is unpacked.
    pub arguments: &'static str,
    /// What its environment has, likewise.
    pub environment: &'static str,
}

impl Program {
    /// What runs it; not there until `get` was called once.
    pub fn script(&self) -> PathBuf {
        work_dir(self.place).join("run")
    }

    /// Unpacks it, unless that was done.
    pub fn get(&self) -> Result<PathBuf> {
        let script = self.script();
        if script.exists() {
            return Ok(script);
        }
        let root = work_dir(self.place).join("root");
        let scratch = work_dir("tmp").join(format!("apt-{}", self.package));
        remove(&root)?;
        remove(&scratch)?;
        let archive = Archive::open(self.suite, &scratch)?;
        unpack(&archive.download(&[self.package, HEADERS])?, &root)?;
        remove(&scratch)?;
        point_links_inside(&root, &root)?;
        self.write_script(&root)?;
        Ok(script)
    }

    /// It is run by the dynamic linker that it was linked for, in the same process.
    fn write_script(&self, root: &Path) -> Result<()> {
        let program = root.join(self.path);
        ensure!(program.exists(), "{} of {} has no {}", self.package, self.suite, self.path);
        let glibc = Glibc::at(root).context("it holds no glibc")?;
        // Where it lies is asked for at each run: a checkout can be moved.
        let text = format!(
            "#!/bin/sh\nroot=$(cd \"$(dirname \"$0\")\" && pwd)/root\n\
             exec env {} \"{}\" --library-path \"{}\" \"{}\" {} \"$@\"\n",
            self.environment,
            glibc.interpreter.display(),
            glibc.rpath().display(),
            program.display(),
            self.arguments,
        );
        let text = text.replace(&*root.to_string_lossy(), "$root");
        fs::write(self.script(), text)?;
        Ok(fs::set_permissions(self.script(), fs::Permissions::from_mode(0o755))?)
    }
}
