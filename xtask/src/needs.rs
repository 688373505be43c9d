//! What each task needs from the system: how to see that it is there, and which Debian packages
//! bring it.

use std::{path::Path, process::Command};

use clap::ValueEnum;

use crate::{
    bpf_toolchain::BpfRustc,
    foreign,
    shell::{succeeds, which},
};

/// What a setup is for.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Purpose {
    /// Building the BPF object from source.
    Build,
    /// Unit tests, suite and live tests on the running kernel.
    Test,
    /// Live tests on other kernels, in a virtual machine.
    Vm,
    /// The benchmark.
    Bench,
    /// The tools that the benchmark compares memtrace with, and what they are compared on.
    Peers,
    /// Building memtrace and the programs that it is shown on.
    Demo,
}

/// One thing that a task cannot do without.
pub struct Need {
    /// What it is.
    pub what: &'static str,
    /// What it is for.
    pub why: &'static str,
    /// The Debian packages that bring it.
    pub packages: &'static [&'static str],
    present: fn() -> bool,
    purposes: &'static [Purpose],
}

use Purpose::{Bench, Build, Demo, Peers, Test, Vm};

/// What the tests look for (tests/support/browser.rs).
const BROWSERS: [&str; 4] =
    ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];

/// What the tests of other allocators load or link.
const ALLOCATORS: [&str; 4] =
    ["libjemalloc.so.2", "libjemalloc_pic.a", "libtcmalloc_minimal.so.4", "libmimalloc.so.2"];

/// Whether Debian's directory of libraries has a file.
fn library(name: &str) -> bool {
    let directory = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    Path::new(&directory).join(name).exists()
}

const NEEDS: &[Need] = &[
    Need {
        what: "a C compiler with libc's headers and static library",
        why: "compiles the test programs and links Rust programs",
        packages: &["gcc", "libc6-dev"],
        present: || compiles("cc", "c", &["-static"]),
        purposes: &[Build, Test, Vm, Bench, Demo],
    },
    Need {
        what: "a C++ compiler",
        why: "compiles the C++ test program",
        packages: &["g++"],
        present: || compiles("c++", "c++", &[]),
        purposes: &[Test, Vm, Bench],
    },
    Need {
        what: "Python 3",
        why: "runs the Python test program",
        packages: &["python3"],
        present: || succeeds(Command::new("python3").arg("--version")),
        purposes: &[Test],
    },
    Need {
        what: "musl's headers and libraries",
        why: "compiles the program whose musl heap is walked",
        packages: &["musl-tools"],
        present: || which("musl-gcc").is_some(),
        purposes: &[Test],
    },
    Need {
        what: "jemalloc, tcmalloc and mimalloc, and jemalloc's archive",
        why: "serve the programs whose allocator is not the C library's",
        packages: &["libjemalloc-dev", "libtcmalloc-minimal4", "libmimalloc2.0"],
        present: || ALLOCATORS.iter().all(|name| library(name)),
        purposes: &[Test],
    },
    Need {
        what: "pip",
        why: "downloads numpy, memray, py-spy and others for the tests",
        packages: &["python3-pip"],
        present: || foreign::python_with_pip().is_ok(),
        purposes: &[Test],
    },
    Need {
        what: "a libpython of the system",
        why: "is linked into the test program that embeds Python",
        packages: &["libpython3-dev"],
        present: || succeeds(Command::new("/usr/bin/python3-config").arg("--embed").arg("--libs")),
        purposes: &[Test],
    },
    Need {
        what: "PyPy",
        why: "is a Python that memtrace refuses by name",
        packages: &["pypy3"],
        present: || which("pypy3").is_some(),
        purposes: &[Test],
    },
    Need {
        what: "patchelf",
        why: "makes Pythons of other Debian suites run",
        packages: &["patchelf"],
        present: || which("patchelf").is_some(),
        purposes: &[Test],
    },
    Need {
        what: "Chromium without a window",
        why: "opens the page that reports are shown on",
        packages: &["chromium-headless-shell", "fonts-dejavu-core"],
        present: || BROWSERS.iter().any(|name| which(name).is_some()),
        purposes: &[Test],
    },
    Need {
        what: "a rustc that has its standard library's source",
        why: "`core` is compiled for the BPF target",
        packages: &["rustc-web", "rust-web-src"],
        present: || BpfRustc::find().is_ok(),
        purposes: &[Build],
    },
    Need {
        what: "strip",
        why: "takes debug information out of what goes into a virtual machine",
        packages: &["binutils"],
        present: || which("strip").is_some(),
        purposes: &[Vm],
    },
    Need {
        what: "bpftrace",
        why: "is compared with memtrace",
        packages: &["bpftrace"],
        present: || which("bpftrace").is_some(),
        purposes: &[Peers],
    },
    Need {
        what: "heaptrack",
        why: "is compared with memtrace",
        packages: &["heaptrack"],
        present: || which("heaptrack").is_some(),
        purposes: &[Peers],
    },
    Need {
        what: "jemalloc",
        why: "its profiler is compared with memtrace",
        packages: &["libjemalloc2"],
        present: || has_jemalloc(),
        purposes: &[Peers],
    },
    Need {
        what: "lldb",
        why: "lets memray into a running Python, to compare it with memtrace",
        packages: &["lldb"],
        present: || which("lldb").is_some(),
        purposes: &[Peers],
    },
    Need {
        what: "redis-server and redis-benchmark",
        why: "tools are compared on it",
        packages: &["redis-server", "redis-tools"],
        present: || which("redis-server").is_some(),
        purposes: &[Peers],
    },
    Need {
        what: "the shell of sqlite",
        why: "tools are compared on it",
        packages: &["sqlite3"],
        present: || which("sqlite3").is_some(),
        purposes: &[Peers],
    },
    Need {
        what: "wrk",
        why: "asks the HTTP service that tools are compared on",
        packages: &["wrk"],
        present: || which("wrk").is_some(),
        purposes: &[Peers],
    },
];

/// What `purposes` need and this system lacks.
pub fn missing(purposes: &[Purpose]) -> Vec<&'static Need> {
    let wanted = |need: &&Need| need.purposes.iter().any(|it| purposes.contains(it));
    NEEDS.iter().filter(wanted).filter(|need| !(need.present)()).collect()
}

/// Whether it lies where Debian puts it.
fn has_jemalloc() -> bool {
    let arch = std::env::consts::ARCH;
    Path::new(&format!("/usr/lib/{arch}-linux-gnu/libjemalloc.so.2")).exists()
}

/// Whether `compiler` makes a program out of the standard headers.
fn compiles(compiler: &str, language: &str, flags: &[&str]) -> bool {
    // A shell feeds the source: a compiler without headers or crt1.o is as good as none.
    let script = "printf '#include <stdlib.h>\\nint main(void) { return 0; }\\n' | \
                  \"$@\" -o /dev/null -";
    let compile = [&["-c", script, "sh", compiler, "-x", language], flags].concat();
    which(compiler).is_some() && succeeds(Command::new("sh").args(compile))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_that_does_not_exist_does_not_compile() {
        assert!(!compiles("no-such-compiler", "c", &[]));
    }

    #[test]
    fn a_compiler_that_rejects_its_flags_does_not_compile() {
        assert!(compiles("cc", "c", &[]));
        assert!(!compiles("cc", "c", &["-no-such-flag"]));
    }

    /// It is unpacked: its package excludes other releases of qemu's tools.
    #[test]
    fn qemu_is_never_installed() {
        let packages = NEEDS.iter().flat_map(|need| need.packages);
        assert!(packages.clone().count() > 0);
        assert!({ packages }.all(|it| !it.starts_with("qemu")));
    }
}
