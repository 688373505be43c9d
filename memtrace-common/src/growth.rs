//! What the programs of the growth mode and the user side share.

/// What the growth programs have to know of the running kernel. The one element of the `GROWTH` map.
/// Offsets and sizes in bytes, from the kernel's BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrowthConfig {
    /// The exponent of the [`Interval`](crate::sample::Interval) that first uses of pages are sampled
    /// at.
    pub interval: u32,
    /// The flag of a page that is the first of several (`PG_head`).
    pub head_mask: u32,
    /// Of the byte that has the order of a large folio, from the folio: `_flags_1`, or `_folio_order`
    /// before Linux 6.6.
    pub folio_order: u32,
    /// Of `mm` in `struct task_struct`.
    pub task_mm: u32,
    /// Of the first counter's `count` in `struct mm_struct`.
    pub rss_count: u32,
    /// From one counter to the next.
    pub rss_step: u32,
}

/// Kinds of resident pages, by the number that the kernel gives them (`enum` in
/// include/linux/mm_types_task.h).
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RssKind {
    /// Of files.
    File = 0,
    /// Of nothing but the process.
    Anonymous = 1,
    /// Swapped out: not resident.
    Swap = 2,
    /// Of shared memory.
    Shared = 3,
}

/// How many kinds there are.
pub const RSS_KINDS: usize = 4;

/// The target's resident pages as its memory management counts them. The one element of the `RSS`
/// map. Those of a kind that has not changed in the window are what the user side has written.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RssCounts {
    /// By [`RssKind`].
    pub pages: [u64; RSS_KINDS],
    /// The most that all but swapped ones were together.
    pub peak_pages: u64,
    /// What they were then, by [`RssKind`].
    pub at_peak: [u64; RSS_KINDS],
    /// When that was, `CLOCK_MONOTONIC`.
    pub peak_ns: u64,
    /// How often the kernel told.
    pub updates: u64,
}

impl RssCounts {
    /// All that are resident.
    #[inline(always)]
    pub fn resident_pages(&self) -> u64 {
        self.pages[RssKind::File as usize]
            + self.pages[RssKind::Anonymous as usize]
            + self.pages[RssKind::Shared as usize]
    }
}

// SAFETY: `repr(C)`, only integers, no padding, any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for GrowthConfig {}

// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl aya::Pod for RssCounts {}

/// Whether this advice to `madvise` gives pages back at once, so that they count no longer: what
/// `MADV_FREE` gives stays resident until somebody needs it. Numbers of
/// include/uapi/asm-generic/mman-common.h.
#[inline(always)]
pub fn discards(advice: u64) -> bool {
    const DONTNEED: u64 = 4;
    const REMOVE: u64 = 9;
    const DONTNEED_LOCKED: u64 = 24;
    const GUARD_INSTALL: u64 = 102;
    advice == DONTNEED || advice == REMOVE || advice == DONTNEED_LOCKED || advice == GUARD_INSTALL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_swapped_out_is_not_resident() {
        let counts = RssCounts { pages: [1, 20, 300, 4000], ..RssCounts::default() };
        assert_eq!(counts.resident_pages(), 4021);
    }

    #[test]
    fn only_advice_that_gives_back_at_once_discards() {
        let given_back: [u64; 4] = std::array::from_fn(|index| [4, 9, 24, 102][index]);
        assert_eq!(
            (0..200).filter(|advice| discards(*advice)).collect::<std::vec::Vec<_>>(),
            given_back
        );
    }
}
