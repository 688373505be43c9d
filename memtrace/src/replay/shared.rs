//! Memory of the replay's own, apart from the memory that is measured: shared mappings are no
//! anonymous pages to the kernel's books.

use std::{io, ptr::NonNull};

/// A table of words.
pub struct Words {
    start: NonNull<usize>,
    count: usize,
}

impl Words {
    /// One of zeros.
    ///
    /// # Errors
    /// When there is no room.
    pub fn new(count: usize) -> io::Result<Self> {
        let start = map(count.max(1).saturating_mul(size_of::<usize>()))?.cast();
        Ok(Self { start, count })
    }

    /// A word; 0 beyond the end.
    #[inline]
    pub fn get(&self, index: u32) -> usize {
        match (index as usize) < self.count {
            // SAFETY: it is within the mapping, which is never unmapped.
            true => unsafe { self.start.add(index as usize).read() },
            false => 0,
        }
    }

    /// Changes a word; nothing beyond the end.
    #[inline]
    pub fn set(&mut self, index: u32, word: usize) {
        if (index as usize) < self.count {
            // SAFETY: it is within the mapping, which is never unmapped.
            unsafe { self.start.add(index as usize).write(word) };
        }
    }
}

/// Zeroed memory that stays until the process ends.
///
/// # Errors
/// When there is no room.
pub fn map(length_bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length_bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    match NonNull::new(start.cast()) {
        Some(start) if start.as_ptr() as *mut libc::c_void != libc::MAP_FAILED => Ok(start),
        _ => Err(io::Error::last_os_error()),
    }
}
