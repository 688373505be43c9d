//! What the growth mode does at the attach.

use std::path::Path;

use memtrace_common::{
    growth::{GrowthConfig, RSS_KINDS, RssCounts, RssKind},
    sample::Interval,
};

use super::{
    Options,
    attach::{self, AttachError, First},
};
use crate::{
    model::{
        footprint::{GrowthBy, GrowthProbes, RssChanges},
        timeline::RssParts,
    },
    probe::{
        calls::CallPlan,
        growth::{Growing, GrowthOptions},
        load::Kernel,
    },
    sys::{
        btf::{KERNEL_BTF, growth_config},
        preflight::preflight,
        procfs::{ProcFs, Process, Resident},
    },
};

/// Where the kernel has what.
pub(super) fn config(interval: Interval) -> Result<GrowthConfig, AttachError> {
    growth_config(Path::new(KERNEL_BTF), interval).map_err(AttachError::Growth)
}

/// Arms all of it; returns how many probes that made, and what is seen in the target, if anything is.
pub(super) fn arm(
    kernel: &mut Kernel,
    options: &Options,
    config: GrowthConfig,
    calls: CallPlan,
    proc: &ProcFs,
    process: &Process,
) -> Result<(usize, Option<GrowthProbes>, Option<CallPlan>), AttachError> {
    let pid = process.pid;
    let by = options.growth_by;
    let knows_calls = calls.is_complete() && may_probe(options, proc, process);
    if by == GrowthBy::Program && !knows_calls {
        return Err(AttachError::NoCalls { pid });
    }
    let initial = counts(proc.resident(pid)?, page_bytes());
    let Growing { mut probes, at_functions, mut in_program } =
        kernel.grow(&GrowthOptions { config, knows_calls }, &initial)?;
    if in_program {
        match attach::arm(kernel, &calls.objects, proc, pid, First::default()) {
            Ok(armed) => probes += armed,
            Err(error) if by == GrowthBy::Program => return Err(error),
            Err(error) => {
                log::info!("system calls are seen in the kernel: {error}");
                kernel.see_all_calls()?;
                in_program = false;
            }
        }
    }
    let interval_bytes = options.growth.map_or(0, Interval::mean_bytes);
    let growth = GrowthProbes { interval_bytes, at_functions, in_program };
    Ok((probes, Some(growth), in_program.then_some(calls)))
}

/// Whether a probe in the target does it no harm.
fn may_probe(options: &Options, proc: &ProcFs, process: &Process) -> bool {
    let version = proc.kernel_version();
    options.ignore_hazards || version.is_ok_and(|version| preflight(proc, process, version).is_ok())
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
    if probes.at_functions {
        return None;
    }
    let (what, cost) = match probes.in_program {
        true => ("new pages were", ""),
        false => {
            ("growth was", ": meanwhile every system call of every process took a little longer")
        }
    };
    Some(format!(
        "{what} followed at tracepoints, because this kernel lets no program hang on its \
         functions{cost}; pages that come with MAP_POPULATE were not seen, and large pages smaller \
         than 2 MiB count as small ones"
    ))
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
