//! The target's memory, read by the helper that cannot fault.

use aya_ebpf::helpers::bpf_probe_read_user;
use memtrace_common::memory::ReadMemory;

/// The memory of the current task.
pub struct UserMemory;

impl ReadMemory for UserMemory {
    #[inline(always)]
    fn read_words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        // SAFETY: the helper checks the address and copies; the value is plain integers.
        unsafe { bpf_probe_read_user(address as *const [u64; N]) }.ok()
    }
}
