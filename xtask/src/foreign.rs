//! What other systems have and this one lacks: Pythons and glibcs of other Debian suites, unpacked
//! below `target/` and never installed, packages of PyPI for the tests, pprof and
//! Prometheus.
//!
//! A suite that cannot be had is said and left out: the tests count what is there, and fail when
//! that is too little.

mod archive;
mod memleak;
mod pprof;
mod program;
mod prometheus;
mod qemu;
mod root;
mod wheels;

use std::time::Instant;

use anyhow::Result;

pub use self::{memleak::memleak, qemu::qemu, wheels::python_with_pip};
use crate::shell::say;

/// A suite of Debian, and which Python it has.
struct Suite {
    name: &'static str,
    /// The package of the interpreter, and its name in `/usr/bin`.
    python: &'static str,
}

/// Newest last. Debian 12 itself, with Python 3.11 and glibc 2.36, lies between the first two.
const SUITES: [Suite; 3] = [
    Suite { name: "bullseye", python: "python3.9" },
    Suite { name: "trixie", python: "python3.13" },
    Suite { name: "forky", python: "python3.14" },
];

/// Unpacks what is missing. Quick when nothing is.
pub fn install() {
    for suite in SUITES.iter().filter(|suite| !root::is_complete(suite)) {
        say(format_args!("missing: {} of Debian {}: unpacking it", suite.python, suite.name));
        left_out_if_failed(suite.name, || root::make(suite));
    }
    left_out_if_failed("packages of PyPI", wheels::install);
    left_out_if_failed("pprof", pprof::install);
    left_out_if_failed("prometheus", prometheus::install);
}

fn left_out_if_failed(what: &str, work: impl FnOnce() -> Result<()>) {
    let start = Instant::now();
    match work() {
        Ok(()) if start.elapsed().as_secs() > 0 => {
            say(format_args!("{what}: done in {:.1} s", start.elapsed().as_secs_f64()));
        }
        Ok(()) => {}
        Err(error) => say(format_args!("NOT HERE: {what}, tests must do without: {error:#}")),
    }
}
