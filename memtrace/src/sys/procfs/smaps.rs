//! `/proc/PID/smaps`: what the kernel counts for each mapping, by its page tables.
//! Format: proc_pid_smaps(5); the flags: Documentation/filesystems/proc.rst.

/// What is taken from a mapping's paragraph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MappingPages {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Resident bytes. Unlike `VmRSS` exact on every kernel.
    pub rss_bytes: u64,
    /// Swapped out, this process's share of shared memory not included.
    pub swap_bytes: u64,
    /// Part of `rss_bytes` that is in huge pages, of anonymous memory, shared memory or files.
    pub huge_bytes: u64,
    /// Part of `rss_bytes` that the kernel may take at any time (`MADV_FREE`).
    pub lazy_free_bytes: u64,
    /// Its pages are not counted in RSS, whatever the page map says: hugetlbfs (`ht`), device
    /// memory (`pf`).
    pub is_uncounted: bool,
}

/// Parses the whole file. Errors: the first line that is not understood.
pub(super) fn parse(text: &[u8]) -> Result<Vec<MappingPages>, String> {
    let mut mappings: Vec<MappingPages> = Vec::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        if let Some((start, end)) = range(line) {
            mappings.push(MappingPages { start, end, ..MappingPages::default() });
        } else if mappings.last_mut().and_then(|mapping| field(mapping, line)).is_none() {
            return Err(String::from_utf8_lossy(line).into_owned());
        }
    }
    Ok(mappings)
}

/// The addresses, if it is the first line of a paragraph: only those begin in lower case or with a
/// digit.
fn range(line: &[u8]) -> Option<(u64, u64)> {
    let first = std::str::from_utf8(line.split(|byte| *byte == b' ').next()?).ok()?;
    let (start, end) = first.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

/// Takes a `Name: value` line in; `None` when it is not of that form.
fn field(mapping: &mut MappingPages, line: &[u8]) -> Option<()> {
    let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    match name {
        "Rss" => mapping.rss_bytes = kib(value)?,
        "Swap" => mapping.swap_bytes = kib(value)?,
        "AnonHugePages" | "ShmemPmdMapped" | "FilePmdMapped" => mapping.huge_bytes += kib(value)?,
        "LazyFree" => mapping.lazy_free_bytes = kib(value)?,
        "VmFlags" => {
            mapping.is_uncounted =
                value.split_ascii_whitespace().any(|it| it == "ht" || it == "pf");
        }
        _ => {}
    }
    Some(())
}

fn kib(value: &str) -> Option<u64> {
    value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"\
7f3a5c026000-7f3a5c17b000 r-xp 00026000 fe:01 1044683  /usr/lib/a: b.so
Size:               1364 kB
Rss:                1100 kB
Swap:                  8 kB
LazyFree:              4 kB
AnonHugePages:      1024 kB
ShmemPmdMapped:        4 kB
THPeligible:           0
VmFlags: rd ex mr mw me sd
7fff0000-7fff1000 r--p 00000000 00:00 0    [vvar]
Rss:                   0 kB
VmFlags: rd mr pf io de dd sd
";

    #[test]
    fn paragraphs_are_told_apart_and_their_lines_taken() {
        let mappings = parse(TEXT).unwrap();
        let library = MappingPages {
            start: 0x7f3a_5c02_6000,
            end: 0x7f3a_5c17_b000,
            rss_bytes: 1100 << 10,
            swap_bytes: 8 << 10,
            huge_bytes: 1028 << 10,
            lazy_free_bytes: 4 << 10,
            is_uncounted: false,
        };
        assert_eq!(mappings[0], library);
        assert_eq!((mappings.len(), mappings[1].is_uncounted), (2, true));
    }

    #[test]
    fn a_line_that_is_not_understood_is_returned() {
        for (text, line) in [("Rss: 4 kB", "Rss: 4 kB"), ("1-2 r\nRss: 4 MB", "Rss: 4 MB")] {
            assert_eq!(parse(text.as_bytes()), Err(line.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<Vec<u8>>()) {
            let _ = parse(&text);
        }
    }
}
