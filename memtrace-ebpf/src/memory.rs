//! The target's memory, read by the helper that cannot fault.

use aya_ebpf::helpers::{
    bpf_probe_read_user,
    generated::{self, bpf_get_current_task, bpf_probe_read_kernel},
};
use memtrace_common::memory::ReadMemory;

/// The memory of the current task.
pub struct UserMemory;

impl ReadMemory for UserMemory {
    #[inline(always)]
    fn read_words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        // SAFETY: the helper checks the address and copies; the value is plain integers.
        unsafe { bpf_probe_read_user(address as *const [u64; N]) }.ok()
    }

    #[inline(always)]
    fn read_part<const N: usize>(&self, address: u64, bytes: u32, window: &mut [u64; N]) -> bool {
        let bytes = bytes.min(size_of::<[u64; N]>() as u32);
        let window = core::ptr::from_mut(window);
        // SAFETY: the helper checks the address, and the window has room for as many bytes.
        unsafe { generated::bpf_probe_read_user(window.cast(), bytes, address as *const _) == 0 }
    }
}

/// The current task's thread pointer, which the kernel keeps at this offset of its `task_struct`.
#[inline(always)]
pub fn thread_pointer(offset: u64) -> Option<u64> {
    let mut value = 0u64;
    // SAFETY: the helper checks the address, and the value has as many bytes.
    let result = unsafe {
        let task = bpf_get_current_task() as u64;
        let source = task.wrapping_add(offset) as *const _;
        bpf_probe_read_kernel((&raw mut value).cast(), size_of::<u64>() as u32, source)
    };
    (result == 0).then_some(value)
}

/// A number of 32 bits at this offset of a `task_struct`.
#[inline(always)]
pub fn task_number(task: u64, offset: u64) -> Option<u32> {
    let mut value = 0u32;
    let source = task.wrapping_add(offset) as *const _;
    // SAFETY: the helper checks the address, and the value has as many bytes.
    let result =
        unsafe { bpf_probe_read_kernel((&raw mut value).cast(), size_of::<u32>() as u32, source) };
    (result == 0).then_some(value)
}
