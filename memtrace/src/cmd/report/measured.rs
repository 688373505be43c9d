//! What a what-if measured, among the remedies of a report.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::{
    report::Report,
    whatif::result::{SCHEMA, WhatIf},
};

/// Puts what was measured before what is only likely.
///
/// # Errors
/// When the file is none of `memtrace whatif --format json`, or of another process.
pub fn add(report: &mut Report, path: &Path) -> Result<()> {
    let name = path.display();
    let text = std::fs::read(path).with_context(|| format!("cannot open {name}"))?;
    let result: WhatIf = serde_json::from_slice(&text)
        .with_context(|| format!("{name} is not what `memtrace whatif --format json` writes"))?;
    ensure!(
        result.schema == SCHEMA,
        "{name} is not what `memtrace whatif --format json` writes: its schema is `{}`",
        result.schema
    );
    let pid = report.target.pid;
    ensure!(result.pid == pid, "{name} is of the process {}, and the capture of {pid}", result.pid);
    if let Some(verdict) = &mut report.verdict {
        verdict.remedies.splice(0..0, result.remedies());
    }
    Ok(())
}
