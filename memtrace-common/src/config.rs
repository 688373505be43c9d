//! What the user side tells the BPF programs while they run.

use crate::sample::Interval;

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
        contains(&self.allocator_code, address)
    }

    /// Whether an address is in code of malloc and kin themselves, which nothing else calls the
    /// allocator from; `false` when that is not known.
    #[inline(always)]
    pub fn is_heap_code(&self, address: u64, image: u64) -> bool {
        image == self.allocator_code_image && contains(&self.heap_code, address)
    }

    /// Whether what an address maps is the allocator's own; `false` when that is not known.
    #[inline(always)]
    pub fn is_mapping_code(&self, address: u64, image: u64) -> bool {
        image == self.allocator_code_image && contains(&self.mapping_code, address)
    }

    /// How densely allocations are looked at.
    #[inline(always)]
    pub fn interval(&self) -> Interval {
        Interval::from_exponent(self.interval as u8)
    }

    /// [`Self::interval`]'s exponent as it is now, for the kernel side, where it changes at any time.
    #[inline(always)]
    pub fn present_interval(&self) -> u32 {
        // SAFETY: a reference is valid.
        unsafe { (&raw const self.interval).read_volatile() }
    }

    /// Whether the addresses of blocks are remembered, and releases of others passed over.
    #[inline(always)]
    pub fn remembers(&self) -> bool {
        self.remembered_buckets != 0
    }
}

#[inline(always)]
fn contains(ranges: &[CodeRange; ALLOCATOR_RANGES], address: u64) -> bool {
    // SAFETY: a reference is valid.
    unsafe { is_in_code(ranges, address) != 0 }
}

/// Whether an address is in one of some ranges: not 0. In the kernel it is exported, so that the
/// verifier looks at it once and not for each of its callers; hence the types.
///
/// # Safety
/// The ranges are valid for the call, or null.
#[cfg_attr(target_arch = "bpf", unsafe(no_mangle))]
#[inline(never)]
pub unsafe extern "C" fn is_in_code(
    ranges: *const [CodeRange; ALLOCATOR_RANGES],
    address: u64,
) -> u32 {
    // SAFETY: by contract.
    let Some(ranges) = (unsafe { ranges.as_ref() }) else { return 0 };
    for range in ranges {
        if range.contains(address) {
            return 1;
        }
    }
    0
}

impl CodeRange {
    /// Volatile, so that ranges are looked at one after the other: combined without branches, each
    /// comparison would double what the verifier has to follow.
    #[inline(always)]
    fn contains(&self, address: u64) -> bool {
        // SAFETY: a reference is valid for reads.
        let Self { start, end } = unsafe { core::ptr::from_ref(self).read_volatile() };
        address >= start && address < end
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
    /// Code of malloc and kin alone, for calls whose outer call was passed over; likewise.
    pub heap_code: [CodeRange; ALLOCATOR_RANGES],
    /// Code in which allocators map memory for themselves, likewise.
    pub mapping_code: [CodeRange; ALLOCATOR_RANGES],
    /// The program image (a number of execs) that these ranges of code are of.
    pub allocator_code_image: u64,
    /// How often the mappings, the unwind tables or what is known of Python were told: stacks that
    /// were walked before are not taken for the same as after.
    pub generation: u64,
    /// The reader is woken when this many bytes are waiting, and not once per record.
    pub wake_bytes: u64,
    /// Where `task_struct` has the thread group id; 0 where nobody wants to know who was forked.
    pub task_tgid: u64,
    /// [`Interval::exponent`]: which allocations are looked at from now on.
    pub interval: u32,
    /// How many [`crate::remembered::Bucket`]s there are, a power of two; 0 = no address is
    /// remembered, which needs all allocations to be looked at. Does not change while the window
    /// is open.
    pub remembered_buckets: u32,
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

    #[test]
    fn code_of_malloc_itself_is_none_when_it_is_not_known() {
        let mut config = Config { allocator_code_image: 1, ..Config::default() };
        assert!(!config.is_heap_code(0x10, 1) && !config.is_mapping_code(0x10, 1));
        config.heap_code[1] = CodeRange { start: 0x100, end: 0x200 };
        config.mapping_code[0] = CodeRange { start: 0x80, end: 0x300 };
        assert!(config.is_heap_code(0x100, 1) && !config.is_heap_code(0x80, 1));
        assert!(config.is_mapping_code(0x80, 1) && !config.is_mapping_code(0x300, 1));
        assert!(!config.is_heap_code(0x100, 2) && !config.is_mapping_code(0x100, 2));
    }
}
