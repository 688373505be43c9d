//! The target's memory, read by the helper that cannot fault.

use core::mem::{MaybeUninit, offset_of};

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
    // SAFETY: the helper has no preconditions.
    kernel_word(unsafe { bpf_get_current_task() }.wrapping_add(offset))
}

/// A word of the kernel's memory.
#[inline(always)]
pub fn kernel_word(address: u64) -> Option<u64> {
    let mut value = 0u64;
    // SAFETY: the helper checks the address, and the value has as many bytes.
    let result = unsafe {
        bpf_probe_read_kernel((&raw mut value).cast(), size_of::<u64>() as u32, address as *const _)
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

/// A part of `struct pt_regs` of x86-64 (arch/x86/include/asm/ptrace.h), from `dx` to `ip`. The rest
/// is read when it is wanted: the stack of a program has no room for all.
#[repr(C)]
pub struct UserRegisters {
    pub dx: u64,
    pub si: u64,
    pub di: u64,
    pub orig_ax: u64,
    pub ip: u64,
    /// Where the kernel has them.
    at: u64,
}

/// Offsets in `struct pt_regs`.
const BP: u64 = 32;
const R10: u64 = 56;
const DX: u64 = 96;
const SP: u64 = 152;

impl UserRegisters {
    #[inline(always)]
    pub fn bp(&self) -> u64 {
        kernel_word(self.at.wrapping_add(BP)).unwrap_or_default()
    }

    #[inline(always)]
    pub fn sp(&self) -> u64 {
        kernel_word(self.at.wrapping_add(SP)).unwrap_or_default()
    }

    #[inline(always)]
    pub fn r10(&self) -> u64 {
        kernel_word(self.at.wrapping_add(R10)).unwrap_or_default()
    }
}

/// Reads them where the kernel has put them. Into the caller's memory: a copy would be made byte by
/// byte.
#[inline(always)]
pub fn user_registers(
    at: u64,
    registers: &mut MaybeUninit<UserRegisters>,
) -> Option<&UserRegisters> {
    let result = unsafe {
        // SAFETY: the helper checks the address, and the value has as many bytes.
        let source = at.wrapping_add(DX) as *const _;
        let bytes = offset_of!(UserRegisters, at) as u32;
        bpf_probe_read_kernel(registers.as_mut_ptr().cast(), bytes, source)
    };
    // SAFETY: it is this function's to write.
    unsafe { (&raw mut (*registers.as_mut_ptr()).at).write(at) };
    // SAFETY: the helper has written all before it, also where it failed; any bits are valid.
    (result == 0).then(|| unsafe { registers.assume_init_ref() })
}
