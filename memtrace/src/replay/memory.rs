//! How much private memory a process has, read without allocating any.

use rustix::{
    fd::OwnedFd,
    fs::{Mode, OFlags},
};

/// The sum of all mappings: about 700 bytes.
const ROLLUP_BYTES: usize = 2048;

/// Lines that count: huge pages of hugetlbfs are not among the anonymous ones, and what was swapped
/// out would be here if there were room.
const FIELDS: [&[u8]; 3] = [b"\nAnonymous:", b"\nPrivate_Hugetlb:", b"\nSwap:"];

/// Of this process, exactly; `None` where the kernel does not tell (before Linux 4.14).
pub fn private_bytes() -> Option<u64> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file: OwnedFd = rustix::fs::open(c"/proc/self/smaps_rollup", flags, Mode::empty()).ok()?;
    let mut buffer = [0; ROLLUP_BYTES];
    let mut length = 0;
    while let Ok(count @ 1..) = rustix::io::read(&file, &mut buffer[length..]) {
        length += count;
    }
    private_bytes_of(&buffer[..length])
}

fn private_bytes_of(rollup: &[u8]) -> Option<u64> {
    FIELDS.iter().map(|name| kilobytes(rollup, name)).sum::<Option<u64>>().map(|sum| sum << 10)
}

/// A kernel without a field has nothing of it.
fn kilobytes(rollup: &[u8], name: &[u8]) -> Option<u64> {
    let Some(at) = memchr::memmem::find(rollup, name) else {
        return (name != FIELDS[0]).then_some(0);
    };
    let digits = rollup[at + name.len()..].trim_ascii_start();
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    digits[..end]
        .iter()
        .try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_memory_is_what_is_anonymous_in_huge_pages_and_swapped() {
        let rollup =
            b"5555-7fff ---p 00000000 00:00 0  [rollup]\nRss:  900 kB\nAnonymous:   100 kB\n\
            AnonHugePages:   0 kB\nPrivate_Hugetlb:  2048 kB\nSwap:   4 kB\nSwapPss:  4 kB\n";
        assert_eq!(private_bytes_of(rollup), Some((100 + 2048 + 4) << 10));
        assert_eq!(private_bytes_of(b"head\nAnonymous:  8 kB\n"), Some(8 << 10));
        assert_eq!(private_bytes_of(b"head\nRss:  8 kB\n"), None);
    }

    /// By how much private memory grew while this ran. The other tests run in the same process.
    fn growth_of<T>(use_memory: impl FnOnce() -> T) -> i64 {
        let before = private_bytes().unwrap();
        let _used = use_memory();
        private_bytes().unwrap() as i64 - before as i64
    }

    #[test]
    fn memory_that_is_used_is_counted_and_shared_memory_is_not() {
        const BYTES: usize = 256 << 20;
        let shared = super::super::shared::map(BYTES).unwrap();
        // SAFETY: the mapping is as long.
        let growth = growth_of(|| unsafe { shared.write_bytes(1, BYTES) });
        assert!(growth < BYTES as i64 / 2, "{growth}");
        let growth = growth_of(|| std::hint::black_box(vec![1_u8; BYTES]));
        assert!(growth >= BYTES as i64 / 2, "{growth}");
    }
}
