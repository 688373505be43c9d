//! memleak of libbpf-tools, the eBPF tool that memtrace is compared with. Debian 12's package is
//! older than it; that of Debian 13 is unpacked.

use std::path::PathBuf;

use anyhow::Result;

use super::program::Program;
use crate::shell::{say, which};

/// Debian's name for it, to tell it from bcc's, and its own.
const NAMES: [&str; 2] = ["memleak-libbpf", "memleak"];

const MEMLEAK: Program = Program {
    place: "bench/memleak",
    suite: "trixie",
    package: "libbpf-tools",
    path: "usr/sbin/memleak-libbpf",
    arguments: "",
    environment: "",
};

/// A memleak that can be run: the system's, or one that is unpacked now if it is not yet.
pub fn memleak() -> Result<PathBuf> {
    if let Some(memleak) = NAMES.into_iter().find_map(which) {
        return Ok(memleak);
    }
    if !MEMLEAK.script().exists() {
        say("no memleak of libbpf-tools: unpacking that of Debian 13");
    }
    MEMLEAK.get()
}
