//! What the user side tells the BPF programs while they run.

/// How stacks are walked.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackMode {
    /// Not at all.
    Off = 0,
    /// By frame pointers.
    FramePointers = 1,
    /// By unwind tables.
    Tables = 2,
}

/// The one element of the `CONFIG` map. Only the user side writes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// 1 while the window is open: with 0 every probe returns at once. Opening it after the last
    /// probe is armed gives all functions one common start.
    pub active: u32,
    /// A [`StackMode`].
    pub stacks: u32,
    /// The target's thread group id, for fork and exec; probes are filtered by the kernel.
    pub tgid: u32,
    /// Which element of the map of executable mappings is current; the other is free for the next
    /// version.
    pub mappings: u32,
    /// Where the kernel's return-probe trampoline is mapped in the target, 0 when not known yet.
    pub trampoline: u64,
    /// The reader is woken when this many bytes are waiting, and not once per record.
    pub wake_bytes: u64,
}

// SAFETY: `repr(C)`, only integers, no padding, any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Config {}
