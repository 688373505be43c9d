//! qemu for x86-64, which boots the other kernels. It is unpacked rather than installed: its package
//! excludes other releases of qemu's tools, which a system may well have for purposes of its own.

use std::path::PathBuf;

use anyhow::Result;

use super::program::Program;
use crate::shell::{say, which};

const NAME: &str = "qemu-system-x86_64";

const QEMU: Program = Program {
    place: "qemu",
    suite: "bookworm",
    package: "qemu-system-x86",
    path: "usr/bin/qemu-system-x86_64",
    // Firmware, which it else looks for beside its own executable.
    arguments: r#"-L "$root/usr/share/qemu" -L "$root/usr/share/seabios""#,
    environment: r#"QEMU_MODULE_DIR="$root/usr/lib/x86_64-linux-gnu/qemu""#,
};

/// A qemu that can be run: the system's, or one that is unpacked now if it is not yet.
pub fn qemu() -> Result<PathBuf> {
    if let Some(qemu) = which(NAME) {
        return Ok(qemu);
    }
    if !QEMU.script().exists() {
        say("missing: qemu for x86-64 (boots the other kernels): unpacking that of Debian 12");
    }
    QEMU.get()
}
