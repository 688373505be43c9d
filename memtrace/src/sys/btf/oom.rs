//! What the program at `mark_victim` has to know of the running kernel.

use std::path::Path;

use memtrace_common::oom::OomLayout;

use super::{Btf, BtfError, ENUMERATOR_BYTES, KIND_POINTER, KIND_TYPEDEF, read, word};

/// The type of functions that are called at the tracepoint.
const TRACEPOINT: &str = "btf_trace_mark_victim";

/// Reads it from the kernel's BTF. Where the tracepoint tells a pid only there is nothing to know. The
/// kernel's version does not tell: what came with 6.10 is in 6.1.172, too.
///
/// # Errors
/// When there is no BTF, or it has not got what it takes.
pub fn oom_layout(btf: &Path) -> Result<OomLayout, BtfError> {
    let bytes = read(btf)?;
    let btf = Btf::parse(&bytes).ok_or(BtfError::Unknown { what: "anything" })?;
    if !gives_a_task(&btf).ok_or(BtfError::Unknown { what: "mark_victim" })? {
        return Ok(OomLayout::default());
    }
    let member = |of, what| btf.offset(of, what).ok_or(BtfError::Unknown { what });
    let (count, rss_step) = counters(&btf).ok_or(BtfError::Unknown { what: "count" })?;
    Ok(OomLayout {
        task_tgid: member("task_struct", "tgid")?,
        task_comm: member("task_struct", "comm")?,
        task_mm: member("task_struct", "mm")?,
        task_signal: member("task_struct", "signal")?,
        score: member("signal_struct", "oom_score_adj")?,
        rss_count: member("mm_struct", "rss_stat")? + count,
        rss_step,
        has_task: 1,
    })
}

/// Whether the tracepoint's first argument is a task, and not a pid.
pub(super) fn gives_a_task(btf: &Btf<'_>) -> Option<bool> {
    let is_it = |name| btf.is_named(name, TRACEPOINT);
    let of_calls = btf.types().find(|it| it.kind == KIND_TYPEDEF && is_it(it.name))?;
    let pointer = btf.type_with_id(of_calls.refers_to())?;
    let function = btf.type_with_id(pointer.refers_to())?;
    // Before it is what the called function itself is registered with.
    let first = word(btf.types, function.trailer.start + ENUMERATOR_BYTES + 4)?;
    Some(btf.type_with_id(first)?.kind == KIND_POINTER)
}

/// Where the first of a process's counters is in `rss_stat`, and how far the next one is.
pub(super) fn counters(btf: &Btf<'_>) -> Option<(u32, u32)> {
    // Before Linux 6.2.
    if let Some(of_old) = btf.struct_named("mm_rss_stat") {
        return Some((btf.offset_in(&of_old, "count", 0)?, size_of::<u64>() as u32));
    }
    let counter = btf.struct_named("percpu_counter")?;
    Some((btf.offset_in(&counter, "count", 1)?, counter.size_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::btf::KERNEL_BTF;

    #[test]
    fn the_running_kernel_says_where_a_victim_has_what() {
        let layout = oom_layout(Path::new(KERNEL_BTF)).unwrap();
        let OomLayout { task_comm, task_mm, score, rss_step, has_task, .. } = layout;
        assert!(task_comm > 0 && task_mm > 0 && score > 0, "{layout:?}");
        assert!(rss_step >= 24 && has_task == 1, "{layout:?}");
    }
}
