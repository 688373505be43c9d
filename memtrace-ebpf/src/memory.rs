//! The target's memory, read by the helper that cannot fault.

use aya_ebpf::helpers::{bpf_probe_read_user, generated};
use memtrace_common::{memory::ReadMemory, unwind::walk::WINDOW_WORDS};

/// The memory of the current task.
pub struct UserMemory;

impl ReadMemory for UserMemory {
    #[inline(always)]
    fn read_words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        // SAFETY: the helper checks the address and copies; the value is plain integers.
        unsafe { bpf_probe_read_user(address as *const [u64; N]) }.ok()
    }

    #[inline(always)]
    fn read_window(&self, address: u64, window: &mut [u64; WINDOW_WORDS]) -> bool {
        let (window, bytes) = (core::ptr::from_mut(window), size_of::<[u64; WINDOW_WORDS]>());
        // SAFETY: the helper checks the address, and the window has as many bytes.
        unsafe {
            generated::bpf_probe_read_user(window.cast(), bytes as u32, address as *const _) == 0
        }
    }
}
