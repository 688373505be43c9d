//! What the growth mode does at the attach: nothing is looked for in the target.

use std::path::Path;

use memtrace_common::{
    growth::{GrowthConfig, RSS_KINDS, RssCounts, RssKind},
    sample::Interval,
};

use super::AttachError;
use crate::{
    model::{
        footprint::{GrowthProbes, RssChanges},
        timeline::RssParts,
    },
    probe::load::Kernel,
    sys::{
        btf::{KERNEL_BTF, growth_config},
        procfs::{ProcFs, Resident},
    },
};

/// Where the kernel has what.
pub(super) fn config(interval: Interval) -> Result<GrowthConfig, AttachError> {
    growth_config(Path::new(KERNEL_BTF), interval).map_err(AttachError::Growth)
}

/// Arms the kernel's side; returns how many probes that made.
pub(super) fn arm(
    kernel: &mut Kernel,
    config: &GrowthConfig,
    proc: &ProcFs,
    pid: u32,
    interval: Interval,
) -> Result<(usize, Option<GrowthProbes>), AttachError> {
    let initial = counts(proc.resident(pid)?, page_bytes());
    let (probes, at_functions) = kernel.grow(config, &initial)?;
    Ok((probes, Some(GrowthProbes { interval_bytes: interval.mean_bytes(), at_functions })))
}

/// What the kernel counted in a window that was opened then.
pub(super) fn changes(counts: &RssCounts, opened_ns: u64) -> RssChanges {
    let parts = |pages: &[u64; RSS_KINDS]| RssParts {
        anonymous_bytes: pages[RssKind::Anonymous as usize] * page_bytes(),
        file_bytes: pages[RssKind::File as usize] * page_bytes(),
        shmem_bytes: pages[RssKind::Shared as usize] * page_bytes(),
    };
    RssChanges {
        updates: counts.updates,
        peak_bytes: counts.peak_pages * page_bytes(),
        peak_at_ns: counts.peak_ns.saturating_sub(opened_ns),
        at_peak: parts(&counts.at_peak),
        at_end: parts(&counts.pages),
    }
}

/// What a reader must know of how growth was followed.
pub(super) fn note(probes: GrowthProbes) -> Option<String> {
    (!probes.at_functions).then(|| {
        "growth was followed at tracepoints, because this kernel lets no program hang on its \
         functions: meanwhile every system call of every process took a little longer; pages that \
         come with MAP_POPULATE were not seen, and large pages smaller than 2 MiB count as small ones"
            .to_owned()
    })
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
