//! pprof itself, for the test of what memtrace exports for it. It is a part of Go's toolchain,
//! whose package is unpacked only for it: installed, that is 300 MB.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use xtask::readers;

use crate::{
    apt,
    shell::{output, root as workspace, say, work_dir},
};

/// Depends on the toolchain of the distribution's choice.
const METAPACKAGE: &str = "golang-go";

/// Where the toolchain's package has it, of whatever version and machine.
const PLACE: &str = "./usr/lib/go-*/pkg/tool/*/pprof";

/// Components of the path above it.
const ABOVE: &str = "--strip-components=7";

/// Downloads it if it is missing.
pub fn install() -> Result<()> {
    let pprof = readers::pprof(&workspace());
    if pprof.exists() {
        return Ok(());
    }
    say("missing: pprof: unpacking it from the Go toolchain's package");
    let scratch = work_dir("tmp").join("pprof");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch)?;
    extract(&download(&scratch)?, &scratch)?;
    fs::create_dir_all(pprof.parent().context("it has no directory")?)?;
    fs::rename(scratch.join("pprof"), &pprof).context("the package holds no pprof")?;
    fs::remove_dir_all(&scratch).context("cannot clean up")
}

fn download(scratch: &Path) -> Result<PathBuf> {
    apt::refresh();
    let depends = output(Command::new("apt-cache").args(["depends", METAPACKAGE]))?;
    let package = toolchain(&depends).context("golang-go depends on no toolchain")?;
    output(Command::new("apt-get").args(["download", package]).current_dir(scratch))?;
    let entry = fs::read_dir(scratch)?.next().context("nothing was downloaded")?;
    Ok(entry?.path())
}

/// The name in the first line like `Depends: golang-1.19-go`.
fn toolchain(depends: &str) -> Option<&str> {
    let names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    { names }.find(|name| name.starts_with("golang-") && name.ends_with("-go"))
}

fn extract(package: &Path, directory: &Path) -> Result<()> {
    let script = "dpkg-deb --fsys-tarfile \"$1\" | tar -x -C \"$2\" --wildcards \"$3\" \"$4\"";
    let mut shell = Command::new("sh");
    output(shell.args(["-c", script, "sh"]).args([package, directory]).args([ABOVE, PLACE]))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_toolchain_is_what_the_metapackage_depends_on() {
        let depends =
            "golang-go\n  Depends: golang-src\n  Depends: golang-1.19-go\n  Suggests: git";
        assert_eq!(toolchain(depends), Some("golang-1.19-go"));
        assert_eq!(toolchain("golang-go\n  Depends: golang-src\n"), None);
    }
}
