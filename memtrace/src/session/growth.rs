//! What the growth mode does at the attach: nothing is looked for in the target.

use std::path::Path;

use memtrace_common::{
    growth::{GrowthConfig, RssCounts, RssKind},
    sample::Interval,
};

use super::AttachError;
use crate::{
    probe::load::Kernel,
    sys::{
        btf::{KERNEL_BTF, growth_config},
        procfs::{ProcFs, Resident},
    },
};

/// Arms the kernel's side; returns how many probes that made.
pub(super) fn arm(
    kernel: &mut Kernel,
    proc: &ProcFs,
    pid: u32,
    interval: Interval,
) -> Result<usize, AttachError> {
    let config: GrowthConfig =
        growth_config(Path::new(KERNEL_BTF), interval).map_err(AttachError::Growth)?;
    let initial = counts(proc.resident(pid)?, page_bytes());
    Ok(kernel.grow(&config, &initial)?)
}

/// Bytes of a page.
pub(super) fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// What is resident, as the kernel side counts it; it tells from now on what changes.
fn counts(resident: Resident, page_bytes: u64) -> RssCounts {
    let mut counts = RssCounts::default();
    if let Some(parts) = resident.parts {
        counts.pages[RssKind::Anonymous as usize] = parts.anonymous_bytes / page_bytes;
        counts.pages[RssKind::File as usize] = parts.file_bytes / page_bytes;
        counts.pages[RssKind::Shared as usize] = parts.shmem_bytes / page_bytes;
    }
    (counts.peak_pages, counts.at_peak) = (counts.resident_pages(), counts.pages);
    counts
}
