//! Other tools on the same target, where they are installed.

use anyhow::Result;

use crate::{Setup, machine::Cpus, results::Results};

/// Measures, and adds the rows.
pub fn measure(_setup: &Setup, _cpus: Cpus, results: &mut Results) -> Result<()> {
    results.skip("bcc's memleak: memleak-bpfcc is not installed");
    Ok(())
}
