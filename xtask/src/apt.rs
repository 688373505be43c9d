//! Debian packages: what can be had, getting it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
};

use anyhow::{Result, bail};

use crate::{
    privilege::{Privilege, Unmet},
    shell::{output, run, say, which},
};

/// Installs `packages`. Never removes one: a conflict is the caller's to solve.
pub fn install(packages: &[&str]) -> Result<()> {
    if which("apt-get").is_none() {
        bail!("no apt-get here: install the counterpart of {} by hand", packages.join(" "));
    }
    refresh();
    run(&mut apt_get(&install_arguments(packages))?)
}

/// Refreshes the package lists, once: what lists of another day name may not be there any more, and
/// newer versions are not named. Without them, what is known has to do.
pub fn refresh() {
    static REFRESHED: Once = Once::new();
    REFRESHED.call_once(|| {
        let updated = apt_get(&["update", "--quiet"]).map_err(anyhow::Error::from);
        if let Err(error) = updated.and_then(|mut command| run(&mut command)) {
            say(format_args!("apt's package lists stay as they are: {error:#}"));
        }
    });
}

/// Names of known packages that match the regular expression `pattern`.
pub fn search(pattern: &str) -> Result<Vec<String>> {
    let found = output(Command::new("apt-cache").args(["search", "--names-only", pattern]))?;
    Ok(found.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect())
}

/// Downloads `package` into `dir`, which must exist, and unpacks it to `dir/root` without
/// installing it. Needs no root.
pub fn unpack(package: &str, dir: &Path) -> Result<PathBuf> {
    run(Command::new("apt-get").args(["download", "--quiet", package]).current_dir(dir))?;
    let target = dir.join("root");
    for entry in std::fs::read_dir(dir)? {
        let archive = entry?.path();
        if archive.extension().is_some_and(|it| it == "deb") {
            run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&target))?;
            std::fs::remove_file(&archive)?;
        }
    }
    Ok(target)
}

fn install_arguments<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    [&["install", "--yes", "--no-install-recommends", "--no-remove"], packages].concat()
}

fn apt_get(arguments: &[&str]) -> Result<Command, Unmet> {
    let what = "Debian packages are missing, and installing them needs root";
    let quiet = [("DEBIAN_FRONTEND", "noninteractive")];
    let apt_get = Path::new("apt-get");
    let command = Privilege::now().command(what, &quiet, apt_get, arguments);
    command.map_err(|unmet| Unmet {
        command: format!("sudo apt-get {}", arguments.join(" ")),
        ..unmet
    })
}
