//! The target's memory, read by the helper that cannot fault.

use core::mem::MaybeUninit;

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

/// `struct pt_regs` of x86-64 (arch/x86/include/asm/ptrace.h), from `bp` on.
#[repr(C)]
pub struct UserRegisters {
    pub bp: u64,
    bx: u64,
    r11: u64,
    pub r10: u64,
    r9: u64,
    r8: u64,
    ax: u64,
    cx: u64,
    pub dx: u64,
    pub si: u64,
    pub di: u64,
    pub orig_ax: u64,
    pub ip: u64,
    cs: u64,
    flags: u64,
    pub sp: u64,
}

/// Bytes of `r15`, `r14`, `r13` and `r12`, which come first.
const BEFORE_BP: u64 = 32;

/// Reads them where the kernel has put them. Into the caller's memory: a copy would be made byte by
/// byte.
#[inline(always)]
pub fn user_registers(
    at: u64,
    registers: &mut MaybeUninit<UserRegisters>,
) -> Option<&UserRegisters> {
    let result = unsafe {
        // SAFETY: the helper checks the address, and the value has as many bytes.
        let source = at.wrapping_add(BEFORE_BP) as *const _;
        let bytes = size_of::<UserRegisters>() as u32;
        bpf_probe_read_kernel(registers.as_mut_ptr().cast(), bytes, source)
    };
    // SAFETY: the helper has written all of it, also where it failed; any bits are valid.
    (result == 0).then(|| unsafe { registers.assume_init_ref() })
}
