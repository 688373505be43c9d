//! Building with cargo, and learning where it put the executables.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::shell::{cargo, output};

/// What the live tests are made of.
pub struct Built {
    /// The `memtrace` binary.
    pub memtrace: PathBuf,
    /// The test binary `live`.
    pub live: PathBuf,
}

/// Builds memtrace and the live tests, together so that they share their dependencies.
pub fn build() -> Result<Built> {
    let messages = output(cargo().args([
        "build",
        "--workspace",
        "--bins",
        "--tests",
        "--message-format=json-render-diagnostics",
    ]))?;
    let executable = |name, is_test| {
        find(&messages, name, is_test).with_context(|| format!("cargo built no `{name}`"))
    };
    Ok(Built { memtrace: executable("memtrace", false)?, live: executable("live", true)? })
}

/// What the benchmark is made of, optimized.
pub struct Bench {
    /// The `memtrace` binary.
    pub memtrace: PathBuf,
    /// The benchmark `overhead`.
    pub overhead: PathBuf,
}

/// Builds memtrace and the benchmark of its overhead.
pub fn build_bench() -> Result<Bench> {
    let messages = output(cargo().args([
        "build",
        "--release",
        "--package=memtrace",
        "--bins",
        "--bench=overhead",
        "--message-format=json-render-diagnostics",
    ]))?;
    let executable = |name, is_test| {
        find(&messages, name, is_test).with_context(|| format!("cargo built no `{name}`"))
    };
    Ok(Bench { memtrace: executable("memtrace", false)?, overhead: executable("overhead", true)? })
}

/// Builds memtrace as it is shipped, with cargo's progress shown; returns its path.
pub fn release() -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--release", "--package", "memtrace", "--bin", "memtrace"]);
    build.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let messages = output(&mut build)?;
    find(&messages, "memtrace", false).context("cargo built no `memtrace`")
}

#[derive(Deserialize)]
struct Message {
    target: Target,
    profile: Profile,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// The executable of target `name` in cargo's messages (its reference, "External tools"): other
/// kinds of message have other fields, and are passed over.
fn find(messages: &str, name: &str, is_test: bool) -> Option<PathBuf> {
    let artifacts = messages.lines().filter_map(|it| serde_json::from_str::<Message>(it).ok());
    artifacts
        .filter(|it| it.target.name == name && it.profile.test == is_test)
        .find_map(|it| it.executable)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &str = r#"
{"reason":"compiler-artifact","target":{"name":"memtrace"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","target":{"name":"memtrace"},"profile":{"test":true},"executable":"/t/deps/memtrace-1"}
{"reason":"compiler-artifact","target":{"name":"memtrace"},"profile":{"test":false},"executable":"/t/memtrace"}
{"reason":"build-finished","success":true}"#;

    #[test]
    fn the_binary_is_told_from_its_library_and_its_unit_tests() {
        assert_eq!(find(MESSAGES, "memtrace", false), Some("/t/memtrace".into()));
        assert_eq!(find(MESSAGES, "memtrace", true), Some("/t/deps/memtrace-1".into()));
        assert_eq!(find(MESSAGES, "live", true), None);
    }
}
