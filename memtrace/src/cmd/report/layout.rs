//! What the views of where blocks lie need of a capture.

use std::path::Path;

use anyhow::{Result, bail};

use crate::{capture::Capture, cli::ReportArgs, report::View};

/// Refuses a view that the capture knows nothing of.
pub(in crate::cmd) fn check(capture: &Capture, view: View, path: &Path) -> Result<()> {
    if !view.needs_layout() || capture.layouts.after.is_some() {
        return Ok(());
    }
    let name = path.display();
    if capture.processes.len() > 1 {
        bail!(
            "{name} is of several processes: choose one with --process, for what lies where in it"
        );
    }
    if capture.header.growth.is_some() {
        bail!("{name} is of attach --growth, which does not tell where blocks lie");
    }
    bail!(
        "{name} does not tell where blocks lay at the end: there was no walk of the heap then \
         (--no-walk, or the target had ended), or it is of an earlier version of memtrace"
    );
}

/// Refuses to tell of some blocks what follows from all.
pub(super) fn check_whole(args: &ReportArgs) -> Result<()> {
    let is_part = args.since.is_some_and(|since| !since.is_zero())
        || args.until.is_some()
        || !args.threads.is_empty()
        || args.site.is_some();
    if is_part {
        bail!(
            "--view trapped is of all blocks together, as they share what they keep: it goes without \
             --since, --until, --thread and --site"
        );
    }
    Ok(())
}
