//! What is told of a process that the kernel kills for want of memory.

/// Where the running kernel has what, in bytes from its BTF. The one element of the `OOM_LAYOUT` map;
/// all 0 where the tracepoint gives a pid and not a task (before Linux 6.10).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OomLayout {
    /// Of `tgid` in `struct task_struct`.
    pub task_tgid: u32,
    /// Of `comm`.
    pub task_comm: u32,
    /// Of `mm`.
    pub task_mm: u32,
    /// Of `signal`.
    pub task_signal: u32,
    /// Of `oom_score_adj` in `struct signal_struct`.
    pub score: u32,
    /// Of the first counter's `count` in `struct mm_struct`.
    pub rss_count: u32,
    /// From one counter to the next.
    pub rss_step: u32,
    /// The tracepoint gives a task.
    pub has_task: u32,
}

/// A victim. What is not known is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Victim {
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Resident pages by [`RssKind`](crate::growth::RssKind): of files, of its own, swapped out,
    /// shared. Approximate by some dozen pages a CPU.
    pub pages: [u64; 4],
    /// Its pid, in the initial pid namespace.
    pub pid: u32,
    /// As it was set for it: -1000 to 1000.
    pub oom_score_adj: i32,
    /// The kernel's 15-byte name.
    pub command: [u8; 16],
}

impl Victim {
    /// Its size in the ring.
    pub const BYTES: usize = size_of::<Self>();

    /// From a record of the ring; `None` when it is too short.
    #[cfg(feature = "user")]
    pub fn decode(record: &[u8]) -> Option<Self> {
        if record.len() < Self::BYTES {
            return None;
        }
        // SAFETY: any bytes are a victim, and there are enough of them; it need not be aligned.
        Some(unsafe { record.as_ptr().cast::<Self>().read_unaligned() })
    }
}

// SAFETY: `repr(C)`, only integers, no padding, any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for OomLayout {}

#[cfg(all(test, feature = "user"))]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_cut_is_no_victim() {
        let record = [7_u8; Victim::BYTES];
        assert_eq!(Victim::decode(&record).map(|it| it.pid), Some(0x0707_0707));
        assert_eq!(Victim::decode(&record[1..]), None);
    }
}
