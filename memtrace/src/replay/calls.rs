//! The calls themselves, of whatever allocator the process has.

use std::ffi::c_void;

/// Smaller than any page there is.
const PAGE_BYTES: usize = 4096;

/// `malloc`, of which all pages are used up to `used_bytes`; 0 when it refused.
pub fn malloc(size_bytes: u64, used_bytes: u64) -> usize {
    // SAFETY: any size may be asked for.
    used(unsafe { libc::malloc(size_bytes as usize) }, 0, used_bytes)
}

/// `calloc`.
pub fn calloc(size_bytes: u64) -> usize {
    // SAFETY: any size may be asked for.
    used(unsafe { libc::calloc(1, size_bytes as usize) }, 0, size_bytes)
}

/// `posix_memalign`, to two to the power of `exponent`.
pub fn aligned(size_bytes: u64, exponent: u8) -> usize {
    let alignment = (1_usize << exponent.min(30)).max(size_of::<usize>());
    let mut block = std::ptr::null_mut();
    // SAFETY: the alignment is a power of two, and `block` takes the result.
    let error = unsafe { libc::posix_memalign(&raw mut block, alignment, size_bytes as usize) };
    if error == 0 { used(block, 0, size_bytes) } else { 0 }
}

/// `realloc` of a block of these functions, or of none.
///
/// # Safety
/// The block is not used afterwards, unless the call refused.
pub unsafe fn realloc(block: usize, size_bytes: u64, used_bytes: u64) -> usize {
    // glibc's realloc to nothing frees and returns nothing; others do not.
    let size = (size_bytes as usize).max(1);
    // SAFETY: as the caller promises.
    let new = unsafe { libc::realloc(block as *mut c_void, size) };
    used(new, used_bytes, size_bytes)
}

/// `free` of a block of these functions, or of none.
///
/// # Safety
/// The block is not used afterwards.
pub unsafe fn free(block: usize) {
    // SAFETY: as the caller promises.
    unsafe { libc::free(block as *mut c_void) };
}

/// Writes to each page that `from..to` of the block is on. `to` is not beyond its end.
fn used(block: *mut c_void, from: u64, to: u64) -> usize {
    let start = block as usize;
    if start == 0 || from >= to {
        return start;
    }
    let (mut at, end) = (start + from as usize, start + to as usize);
    while at < end {
        // SAFETY: within the block, which is new or resized and belongs to this thread.
        unsafe { (at as *mut u8).write_volatile(1) };
        at = (at | (PAGE_BYTES - 1)) + 1;
    }
    start
}

/// `malloc_trim(0)`, where the C library has it.
pub fn trim() {
    // SAFETY: the name is a C string.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"malloc_trim".as_ptr()) };
    if !found.is_null() {
        // SAFETY: a function of this name has this type.
        let malloc_trim = unsafe {
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn(usize) -> i32>(found)
        };
        // SAFETY: it may be called at any time.
        unsafe { malloc_trim(0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_obtained_resized_and_freed() {
        let block = malloc(10_000, 10_000);
        // SAFETY: a block of malloc, which is not used afterwards.
        let block = unsafe { realloc(block, 100_000, 10_000) };
        assert_ne!(block, 0);
        let (zeroed, aligned) = (calloc(5000), aligned(100, 12));
        assert_eq!((zeroed % 16, aligned % 4096), (0, 0));
        for block in [block, zeroed, aligned] {
            // SAFETY: blocks of malloc and kin, which are not used afterwards.
            unsafe { free(block) };
        }
        trim();
    }
}
