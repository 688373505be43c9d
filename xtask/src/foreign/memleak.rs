//! memleak of libbpf-tools, the eBPF tool that memtrace is compared with. Debian 12's package is
//! older than it; that of Debian 13 is unpacked, with the libraries that it was linked with.

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
use crate::shell::{say, which, work_dir};

const SUITE: &str = "trixie";
/// The second has headers, which tell the release of a glibc.
const PACKAGES: [&str; 2] = ["libbpf-tools", "libc6-dev"];

/// Debian's name for it, to tell it from bcc's, and its own.
const NAMES: [&str; 2] = ["memleak-libbpf", "memleak"];

/// A memleak that can be run: the system's, or one that is unpacked now if it is not yet.
pub fn memleak() -> Result<PathBuf> {
    let script = work_dir("bench").join("memleak/memleak");
    match NAMES.into_iter().find_map(which) {
        Some(memleak) => return Ok(memleak),
        None if script.exists() => return Ok(script),
        None => say("no memleak of libbpf-tools: unpacking that of Debian 13"),
    }
    let root = work_dir("bench").join("memleak/root");
    let scratch = work_dir("tmp").join("apt-memleak");
    remove(&root)?;
    remove(&scratch)?;
    unpack(&Archive::open(SUITE, &scratch)?.download(&PACKAGES)?, &root)?;
    remove(&scratch)?;
    point_links_inside(&root, &root)?;
    write_script(&root, &script)?;
    Ok(script)
}

/// It is run by the dynamic linker that it was linked for, in the same process.
fn write_script(root: &Path, script: &Path) -> Result<()> {
    let program = root.join("usr/sbin").join(NAMES[0]);
    ensure!(program.exists(), "libbpf-tools of {SUITE} has no {}", NAMES[0]);
    let glibc = Glibc::at(root).context("it holds no glibc")?;
    let text = format!(
        "#!/bin/sh\nexec '{}' --library-path '{}' '{}' \"$@\"\n",
        glibc.interpreter.display(),
        glibc.rpath().to_string_lossy(),
        program.display()
    );
    fs::write(script, text)?;
    Ok(fs::set_permissions(script, fs::Permissions::from_mode(0o755))?)
}
