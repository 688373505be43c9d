//! From the bytes that a call names to the pages that it means.

/// `MAP_FIXED` of linux/mman.h, the same on every architecture.
pub const MAP_FIXED: u32 = 0x10;
/// `MAP_HUGETLB` of asm-generic/mman-common.h.
pub const MAP_HUGETLB: u32 = 0x4_0000;
/// `MAP_HUGE_SHIFT` of asm-generic/hugetlb_encode.h: where the flags hold log2 of the page size.
pub const MAP_HUGE_SHIFT: u32 = 26;
/// `MAP_HUGE_MASK` of the same; 0 there means the default huge page.
const MAP_HUGE_MASK: u32 = 0x3f;
/// log2 of the default huge page on x86-64, and on aarch64 with 4 KiB pages.
const DEFAULT_HUGE_PAGE_SHIFT: u32 = 21;

/// Addresses `start..end`, not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
}

impl Range {
    /// `start..end`, unless that is empty.
    pub fn new(start: u64, end: u64) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    /// The pages that hold a range; `None` when it is empty or no address space holds it.
    pub fn of_pages(address: u64, length_bytes: u64, page_bytes: u64) -> Option<Self> {
        let end = address.checked_add(length_bytes)?.checked_next_multiple_of(page_bytes)?;
        Self::new(address - address % page_bytes, end).filter(|_| length_bytes > 0)
    }

    /// Bytes spanned.
    pub fn span_bytes(self) -> u64 {
        self.end - self.start
    }
}

/// What `mmap` with these flags rounds its length to.
pub fn rounding_bytes(map_flags: u32, page_bytes: u64) -> u64 {
    if map_flags & MAP_HUGETLB == 0 {
        return page_bytes;
    }
    match map_flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK {
        0 => 1 << DEFAULT_HUGE_PAGE_SHIFT,
        shift => 1 << shift,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_widened_to_whole_pages() {
        let pages = |address, length| Range::of_pages(address, length, 4096);
        assert_eq!(pages(0x1000, 1), Range::new(0x1000, 0x2000));
        assert_eq!(pages(0x1000, 0x1000), Range::new(0x1000, 0x2000));
        assert_eq!(pages(0x1000, 0x1001), Range::new(0x1000, 0x3000));
        assert_eq!(pages(0x1fff, 2), Range::new(0x1000, 0x3000));
    }

    #[test]
    fn nothing_and_the_impossible_are_no_range() {
        let pages = |address, length| Range::of_pages(address, length, 4096);
        assert_eq!(pages(0x1000, 0), None);
        assert_eq!(pages(0x1fff, 0), None);
        assert_eq!(pages(0x1000, u64::MAX), None);
        assert_eq!(pages(u64::MAX - 1, 1), None);
    }

    #[test]
    fn huge_pages_round_to_their_own_size() {
        assert_eq!(rounding_bytes(0x22, 4096), 4096);
        assert_eq!(rounding_bytes(MAP_HUGETLB, 4096), 2 << 20);
        assert_eq!(rounding_bytes(MAP_HUGETLB | 30 << MAP_HUGE_SHIFT, 4096), 1 << 30);
    }
}
