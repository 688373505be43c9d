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

/// Most ranges of allocator code that are known: an armed library has one, an armed program one and
/// one for each mapping function. With more, calls inside calls are told by the stack alone.
pub const ALLOCATOR_RANGES: usize = 8;

/// Addresses of code.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeRange {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
}

impl Config {
    /// Whether an address is in the code of an armed object; `true` when that is not known.
    #[inline(always)]
    pub fn may_be_allocator_code(&self, address: u64, image: u64) -> bool {
        if image != self.allocator_code_image || self.allocator_code[0].end == 0 {
            return true;
        }
        for range in &self.allocator_code {
            if address >= range.start && address < range.end {
                return true;
            }
        }
        false
    }
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
    /// Code that calls of allocators inside allocators come from: `[start, end)` of each armed
    /// object; unused ones are empty.
    pub allocator_code: [CodeRange; ALLOCATOR_RANGES],
    /// The program image (a number of execs) that `allocator_code` is of.
    pub allocator_code_image: u64,
    /// How often the mappings, the unwind tables or what is known of Python were told: stacks that
    /// were walked before are not taken for the same as after.
    pub generation: u64,
    /// The reader is woken when this many bytes are waiting, and not once per record.
    pub wake_bytes: u64,
    /// Where `task_struct` has the thread group id; 0 where nobody wants to know who was forked.
    pub task_tgid: u64,
}

// SAFETY: `repr(C)`, only integers, no padding, any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Config {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocator_code_is_told_by_its_ranges_and_for_its_image_only() {
        let mut config = Config { allocator_code_image: 1, ..Config::default() };
        assert!(config.may_be_allocator_code(0x10, 1), "nothing is known");
        config.allocator_code[0] = CodeRange { start: 0x100, end: 0x200 };
        config.allocator_code[3] = CodeRange { start: 0x300, end: 0x400 };
        for (address, expected) in
            [(0xff, false), (0x100, true), (0x1ff, true), (0x200, false), (0x3ff, true)]
        {
            assert_eq!(config.may_be_allocator_code(address, 1), expected, "{address:#x}");
        }
        assert!(config.may_be_allocator_code(0xff, 2), "another image");
    }
}
