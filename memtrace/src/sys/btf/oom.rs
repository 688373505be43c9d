//! What the program at `mark_victim` has to know of the running kernel.

use std::{fs, path::Path};

use memtrace_common::oom::OomLayout;

use super::{Btf, BtfError};
use crate::sys::kernel::KernelVersion;

/// The first kernel whose tracepoint gives the task and not only its pid.
const TASK_SINCE: KernelVersion = KernelVersion::new(6, 10);

/// Reads it from the kernel's BTF. Before 6.10 there is nothing to know.
///
/// # Errors
/// When there is no BTF, or it has not got what it takes.
pub fn oom_layout(btf: &Path, version: KernelVersion) -> Result<OomLayout, BtfError> {
    if version < TASK_SINCE {
        return Ok(OomLayout::default());
    }
    let bytes = fs::read(btf).map_err(|source| {
        let path = btf.display().to_string();
        BtfError::Missing { path, source }
    })?;
    let btf = Btf::parse(&bytes).ok_or(BtfError::Unknown { what: "anything" })?;
    let member = |of, what| btf.offset(of, what).ok_or(BtfError::Unknown { what });
    let counter = btf.struct_named("percpu_counter");
    let counter = counter.ok_or(BtfError::Unknown { what: "percpu_counter" })?;
    let count = btf.offset_in(&counter, "count", 1).ok_or(BtfError::Unknown { what: "count" })?;
    Ok(OomLayout {
        task_tgid: member("task_struct", "tgid")?,
        task_comm: member("task_struct", "comm")?,
        task_mm: member("task_struct", "mm")?,
        task_signal: member("task_struct", "signal")?,
        score: member("signal_struct", "oom_score_adj")?,
        rss_count: member("mm_struct", "rss_stat")? + count,
        rss_step: counter.size_bytes,
        has_task: 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::btf::KERNEL_BTF;

    #[test]
    fn the_running_kernel_says_where_a_victim_has_what() {
        let layout = oom_layout(Path::new(KERNEL_BTF), TASK_SINCE).unwrap();
        let OomLayout { task_comm, task_mm, score, rss_step, has_task, .. } = layout;
        assert!(task_comm > 0 && task_mm > 0 && score > 0, "{layout:?}");
        assert!(rss_step >= 24 && has_task == 1, "{layout:?}");
    }

    #[test]
    fn before_the_tracepoint_told_the_task_nothing_is_wanted() {
        let former = KernelVersion::new(6, 1);
        assert_eq!(oom_layout(Path::new("/nonexistent"), former).unwrap(), OomLayout::default());
    }
}
