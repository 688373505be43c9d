//! Programs of others that read what memtrace exports, which `cargo xtask setup` gets for the tests.

use std::path::{Path, PathBuf};

/// pprof, the one of Go's toolchain.
pub fn pprof(workspace: &Path) -> PathBuf {
    workspace.join("target/readers/pprof")
}

/// Packages of PyPI for the system's Python: OpenTelemetry's own messages, and a validator of JSON
/// by schema.
pub const PACKAGES: [&str; 2] = ["opentelemetry-proto", "jsonschema"];
