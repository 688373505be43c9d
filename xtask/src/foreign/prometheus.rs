//! Prometheus and its promtool, for the tests of what memtrace serves to it. Debian's package is
//! unpacked and not installed: installed, it would run a server.

use std::fs;

use anyhow::{Context, Result};
use xtask::readers;

use super::root::remove;
use crate::{
    apt,
    shell::{root as workspace, say, work_dir},
};

const PACKAGE: &str = "prometheus";

/// Downloads them if they are missing.
pub fn install() -> Result<()> {
    let wanted = [readers::prometheus(&workspace()), readers::promtool(&workspace())];
    if wanted.iter().all(|it| it.exists()) {
        return Ok(());
    }
    say("missing: prometheus and promtool: unpacking Debian's package");
    apt::refresh();
    let scratch = work_dir("tmp").join("prometheus");
    remove(&scratch)?;
    fs::create_dir_all(&scratch)?;
    let root = apt::unpack(PACKAGE, &scratch)?;
    for program in wanted {
        let name = program.file_name().context("it has no name")?;
        fs::create_dir_all(program.parent().context("it has no directory")?)?;
        fs::rename(root.join("usr/bin").join(name), &program)
            .with_context(|| format!("the package holds no {}", name.display()))?;
    }
    remove(&scratch).context("cannot clean up")
}
