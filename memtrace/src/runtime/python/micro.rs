//! The last number of versions before 3.11, which export no constant with it: `sys.version` was made
//! in a buffer among the interpreter's zeroed data, and is still there.
//!
//! Source: `Py_GetVersion` in Python/getversion.c: `static char version[250]`, filled by
//! `"%.80s (%.80s) %.80s"` from version, build and compiler while the interpreter starts.

use std::ops::Range;

use memchr::memmem;

use super::version::Version;
use crate::model::memory::TargetMemory;

/// The most that is looked through; CPython's zeroed data are up to 300 KiB.
const MAX_BYTES: u64 = 4 << 20;

/// `series` with its last number, if it is found in the zeroed data.
pub(super) fn complete(
    series: Version,
    zeroed: &Range<u64>,
    memory: &impl TargetMemory,
) -> Version {
    let mut bytes = vec![0; zeroed.end.saturating_sub(zeroed.start).min(MAX_BYTES) as usize];
    let is_read = memory.read(zeroed.start, &mut bytes);
    Version { micro: is_read.then(|| find(&bytes, series)).flatten(), ..series }
}

/// The last number of the first text of this series.
fn find(bytes: &[u8], series: Version) -> Option<u8> {
    let start = format!("\0{}.{}.", series.major, series.minor);
    let mut places = memmem::find_iter(bytes, &start);
    places.find_map(|at| micro(bytes.get(at + start.len()..)?))
}

/// 18 of `18 (main, Aug 24 2023 ...` and `18+ (...`, nothing else.
fn micro(text: &[u8]) -> Option<u8> {
    let end = text.iter().take(MAX_NUMBER).position(|byte| *byte == b' ')?;
    let (number, rest) = text.split_at(end);
    let digits = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, level) = number.split_at(digits);
    let is_whole = !level.contains(&0) && rest.starts_with(b" (");
    is_whole.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

/// The longest last number with what may follow it: `18rc1+`.
const MAX_NUMBER: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<u8> {
        find(format!("\0\0{text}\0").as_bytes(), Version::v3(9))
    }

    #[test]
    fn the_number_is_that_of_a_whole_version_text() {
        assert_eq!(found("3.9.18 (main, Aug 24 2023, 10:00:00) \n[GCC 12.2.0]"), Some(18));
        assert_eq!(found("3.9.0rc2+ (heads/3.9-dirty:1, Oct  1 2020) \n[Clang]"), Some(0));
        assert_eq!(found("nothing\x003.9.18\x003.9.2 (default)"), Some(2), "the second has it all");
    }

    #[test]
    fn other_numbers_are_not_taken_for_it() {
        for text in ["3.10.4 (main)", "13.9.4 (main)", "3.9.x (main)", "3.9.18", "3.9.999 (x)", ""]
        {
            assert_eq!(found(text), None, "{text}");
        }
        assert_eq!(find(b"\x003.9.1", Version::v3(9)), None, "the text ends early");
    }
}
