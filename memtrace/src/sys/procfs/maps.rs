//! `/proc/PID/maps`. Format: proc_pid_maps(5); the kernel escapes a newline in a name as `\012`
//! and nothing else (`seq_file_path` in fs/proc/task_mmu.c).
//!
//! The procfs crate's parser is not used: it fails on names that are not UTF-8 and on a `/SYSV`
//! prefix that is not a key, and keeps ` (deleted)` in the path.

use crate::model::mapping::{FileId, Mapping, Permissions};

const DELETED: &str = " (deleted)";

/// Parses the whole file. Errors: the first line that is not understood.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Mapping>, String> {
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let line = String::from_utf8_lossy(line);
            parse_line(&line).ok_or_else(|| line.into_owned())
        })
        .collect()
}

fn parse_line(line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = hex_pair(fields.next()?, '-')?;
    let permissions = permissions(fields.next()?)?;
    let file_offset = hex(fields.next()?)?;
    let (major, minor) = hex_pair(fields.next()?, ':')?;
    let inode = fields.next()?.parse().ok()?;
    let (name, deleted) = name(fields.next().unwrap_or_default());
    if end < start || file_offset.checked_add(end - start).is_none() {
        return None;
    }
    Some(Mapping {
        start,
        end,
        file_offset,
        file: file(major, minor, inode)?,
        name,
        deleted,
        permissions,
    })
}

/// The kernel shows device 0:0 and inode 0 for memory without a file.
fn file(major: u64, minor: u64, inode: u64) -> Option<Option<FileId>> {
    let device = (u32::try_from(major).ok()?, u32::try_from(minor).ok()?);
    Some((inode != 0).then_some(FileId { device, inode }))
}

/// The kernel pads with spaces up to the name. A file whose real name ends in ` (deleted)` cannot
/// be told from a deleted one.
fn name(padded: &str) -> (String, bool) {
    let printed = padded.trim_start_matches(' ').replace("\\012", "\n");
    match printed.strip_suffix(DELETED) {
        Some(name) if name.starts_with('/') => (name.to_owned(), true),
        _ => (printed, false),
    }
}

fn permissions(text: &str) -> Option<Permissions> {
    let &[read, write, execute, _shared] = text.as_bytes() else { return None };
    Some(Permissions { read: read == b'r', write: write == b'w', execute: execute == b'x' })
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

fn hex_pair(text: &str, separator: char) -> Option<(u64, u64)> {
    let (first, second) = text.split_once(separator)?;
    Some((hex(first)?, hex(second)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(line: &str) -> Mapping {
        parse(line.as_bytes()).unwrap().remove(0)
    }

    #[test]
    fn a_mapped_library_has_all_its_fields() {
        let mapping = one("7f3a5c026000-7f3a5c17b000 r-xp 00026000 fe:01 1044683  \
             /usr/lib/x86_64-linux-gnu/libc.so.6\n");
        assert_eq!(
            mapping,
            Mapping {
                start: 0x7f3a_5c02_6000,
                end: 0x7f3a_5c17_b000,
                file_offset: 0x2_6000,
                file: Some(FileId { device: (0xfe, 1), inode: 1_044_683 }),
                name: "/usr/lib/x86_64-linux-gnu/libc.so.6".to_owned(),
                deleted: false,
                permissions: Permissions { read: true, write: false, execute: true },
            }
        );
    }

    #[test]
    fn anonymous_memory_has_neither_file_nor_name() {
        let mapping = one("7ffe0000-7fff0000 rw-p 00000000 00:00 0 ");
        assert_eq!((mapping.file, mapping.name.as_str()), (None, ""));
        assert_eq!(one("1000-2000 rw-p 00000000 00:00 0").name, "");
    }

    #[test]
    fn special_names_keep_their_brackets() {
        assert_eq!(one("1000-2000 rw-p 00000000 00:00 0    [heap]").name, "[heap]");
        assert!(!one("1000-2000 rw-p 0 00:00 0    [anon:a (deleted)]").deleted);
    }

    #[test]
    fn a_deleted_file_loses_the_suffix_and_says_so() {
        let mapping = one("1000-2000 r-xp 00000000 08:01 7    /opt/old lib.so (deleted)");
        assert_eq!((mapping.name.as_str(), mapping.deleted), ("/opt/old lib.so", true));
    }

    #[test]
    fn names_keep_spaces_backslashes_newlines_and_other_bytes() {
        assert_eq!(one("1000-2000 r-xp 0 08:01 7    /a  b ").name, "/a  b ");
        assert_eq!(one("1000-2000 r-xp 0 08:01 7    /a\\012b").name, "/a\nb");
        assert_eq!(one("1000-2000 r-xp 0 08:01 7    /a\\134b").name, "/a\\134b");
        let bytes = b"1000-2000 r-xp 00000000 08:01 7    /a\xffb";
        assert_eq!(parse(bytes).unwrap()[0].name, "/a\u{fffd}b");
    }

    #[test]
    fn a_line_that_is_not_understood_is_returned() {
        for line in [
            "zzz",
            "1000 r-xp 0 08:01 7 /a",
            "2000-1000 r-xp 0 08:01 7 /a",
            "1000-2000 rx 0 08:01 7 /a",
            "1000-2000 r-xp 0 08:01 x /a",
            "0-ffffffffffffffff r-xp ffff 08:01 1 /a",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(line.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<Vec<u8>>()) {
            let _ = parse(&text);
        }

        #[test]
        fn what_the_kernel_prints_is_read_back(
            start in 0u64..1 << 47, pages in 1u64..1 << 20, inode in 1u64.., name in "/[a-z ()\n]{0,40}"
        ) {
            prop_assume!(!name.ends_with(DELETED));
            let end = start + pages * 4096;
            let printed = name.replace('\n', "\\012");
            let mapping = one(&format!("{start:x}-{end:x} r-xp 00001000 08:1f {inode}   {printed}\n"));
            prop_assert_eq!(mapping.name, name);
            prop_assert_eq!((mapping.start, mapping.end), (start, end));
            prop_assert_eq!(mapping.file, Some(FileId { device: (8, 0x1f), inode }));
        }
    }
}
