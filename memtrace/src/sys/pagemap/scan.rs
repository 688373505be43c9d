//! `PAGEMAP_SCAN`. Layout and numbers: include/uapi/linux/fs.h.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use crate::model::memory::{PageRun, PageState};

/// Categories of a page (`PAGE_IS_*`).
const FILE: u64 = 1 << 2;
const PRESENT: u64 = 1 << 3;
const SWAPPED: u64 = 1 << 4;
const PFNZERO: u64 = 1 << 5;
const HUGE: u64 = 1 << 6;
/// Guard regions (6.15), which older scans call swapped; asking for it is an error before.
const GUARD: u64 = 1 << 8;
const ASKED: u64 = FILE | PRESENT | SWAPPED | PFNZERO | HUGE;

/// Runs that one call can return: 96 KiB.
const MAX_REGIONS: usize = 4096;

/// `struct pm_scan_arg`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Arguments {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// `_IOWR('f', 16, struct pm_scan_arg)`, by the encoding of include/uapi/asm-generic/ioctl.h.
const PAGEMAP_SCAN: u64 =
    (3 << 30) | ((size_of::<Arguments>() as u64) << 16) | ((b'f' as u64) << 8) | 16;

/// Whether the kernel has the call: an empty range is refused only by kernels that have not.
pub(super) fn is_available(pagemap: BorrowedFd<'_>) -> bool {
    call(pagemap, 0, 0, ASKED, &mut []).is_ok()
}

/// The runs in a range; `None` when the kernel does not tell.
///
/// `walk_end` is not looked at: when the kernel's inner buffer (512 runs) was full once and the walk
/// then came to its end, it still is where that buffer was full (seen on 6.18). Only an answer that
/// fills the whole vector is incomplete, and the next one begins where its last run ends.
pub(super) fn runs(pagemap: BorrowedFd<'_>, start: u64, end: u64) -> Option<Vec<PageRun>> {
    let pages = usize::try_from(end.saturating_sub(start) >> 12).unwrap_or(usize::MAX);
    let mut regions = vec![Region::default(); pages.clamp(1, MAX_REGIONS)];
    let mut runs = Vec::new();
    let mut next = start;
    while next < end {
        let count = fill(pagemap, next, end, &mut regions).ok()?;
        runs.extend(regions[..count].iter().filter_map(run));
        next = match regions[..count].last() {
            Some(last) if count == regions.len() && last.end > next => last.end,
            _ => end,
        };
    }
    Some(runs)
}

/// One call; how many regions it filled.
fn fill(
    pagemap: BorrowedFd<'_>,
    start: u64,
    end: u64,
    regions: &mut [Region],
) -> io::Result<usize> {
    let with_guards = call(pagemap, start, end, ASKED | GUARD, regions);
    match with_guards {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            call(pagemap, start, end, ASKED, regions)
        }
        answer => answer,
    }
}

fn call(
    pagemap: BorrowedFd<'_>,
    start: u64,
    end: u64,
    asked: u64,
    regions: &mut [Region],
) -> io::Result<usize> {
    let mut arguments = Arguments {
        size: size_of::<Arguments>() as u64,
        start,
        end,
        vec: if regions.is_empty() { 0 } else { regions.as_mut_ptr() as u64 },
        vec_len: regions.len() as u64,
        category_anyof_mask: PRESENT | SWAPPED,
        return_mask: asked,
        ..Arguments::default()
    };
    // SAFETY: the descriptor is open; the arguments are of the size that they state, and the
    // kernel writes at most `vec_len` regions at `vec`, which is borrowed mutably.
    let filled = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN as _, &mut arguments) };
    let filled = usize::try_from(filled).map_err(|_| io::Error::last_os_error())?;
    Ok(filled.min(regions.len()))
}

fn run(region: &Region) -> Option<PageRun> {
    let Region { start, end, categories } = *region;
    let state = match categories {
        _ if categories & GUARD != 0 => return None,
        _ if categories & PFNZERO != 0 => PageState::Zero,
        _ if categories & PRESENT != 0 => PageState::Resident,
        _ => PageState::Swapped,
    };
    let (file_backed, huge) = (categories & FILE != 0, categories & HUGE != 0);
    Some(PageRun { start, end, state, file_backed, huge })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_has_the_number_of_the_kernel_headers() {
        assert_eq!((PAGEMAP_SCAN, size_of::<Region>()), (0xc060_6610, 24));
    }

    #[test]
    fn a_guard_is_no_page_and_the_page_of_zeros_is_not_resident() {
        let state = |categories| run(&Region { start: 0, end: 1, categories }).map(|it| it.state);
        assert_eq!(state(SWAPPED | GUARD), None);
        assert_eq!(state(PRESENT | PFNZERO), Some(PageState::Zero));
        assert_eq!(state(PRESENT | FILE | HUGE), Some(PageState::Resident));
        assert_eq!(state(SWAPPED), Some(PageState::Swapped));
    }
}
