//! From a place in a code object's bytecode to a source line: CPython's three table formats.
//!
//! Pure. Tables come from another process's memory: whatever they hold, decoding ends after one
//! pass over them.

/// Which format a version's line tables have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// `co_lnotab` of 3.8 and 3.9 (Objects/lnotab_notes.txt).
    Lnotab,
    /// `co_linetable` of 3.10 (Objects/lnotab_notes.txt, PEP 626).
    Ranges,
    /// `co_linetable` of 3.11 and later (Objects/locations.md, InternalDocs/code_objects.md).
    Locations,
}

impl LineFormat {
    /// The line of the instruction at `offset` (bytes from the first instruction; negative before
    /// it has started, which gives `first_line`). `None` for instructions without a line (or with
    /// line 0, as modules start), and outside of the table.
    pub fn line_at(self, table: &[u8], first_line: i32, offset: i64) -> Option<u32> {
        if offset < 0 {
            return u32::try_from(first_line).ok();
        }
        let line = match self {
            Self::Lnotab => Some(lnotab_line(table, first_line, offset)),
            Self::Ranges => ranges_line(table, first_line, offset),
            Self::Locations => locations_line(table, first_line, offset),
        }?;
        u32::try_from(line).ok().filter(|line| *line > 0)
    }
}

/// Pairs of (bytes, lines) to advance by; the last that is not past the offset counts.
/// Source: `PyCode_Addr2Line`, Objects/codeobject.c, 3.9.
fn lnotab_line(table: &[u8], first_line: i32, offset: i64) -> i64 {
    let (mut line, mut address) = (i64::from(first_line), 0);
    for [bytes, lines] in table.as_chunks::<2>().0 {
        address += i64::from(*bytes);
        if address > offset {
            break;
        }
        line += i64::from(lines.cast_signed());
    }
    line
}

/// Pairs of (length in bytes, lines to advance by); -128 lines: none.
/// Source: `advance`, Objects/codeobject.c, 3.10.
fn ranges_line(table: &[u8], first_line: i32, offset: i64) -> Option<i64> {
    let (mut line, mut end) = (i64::from(first_line), 0);
    for [bytes, lines] in table.as_chunks::<2>().0 {
        end += i64::from(*bytes);
        let lines = lines.cast_signed();
        let has_line = lines != i8::MIN;
        if has_line {
            line += i64::from(lines);
        }
        if offset < end {
            return has_line.then_some(line);
        }
    }
    None
}

/// Bytes of a code unit.
const CODE_UNIT_BYTES: i64 = 2;

/// Set in an entry's first byte and in no other.
const ENTRY_START: u8 = 0x80;

/// Entries of variable length: a code, a number of code units, and by the code the line's advance.
fn locations_line(table: &[u8], first_line: i32, offset: i64) -> Option<i64> {
    let (mut line, mut end) = (i64::from(first_line), 0);
    for entry in entries(table) {
        let (first, operands) = entry.split_first()?;
        end += (i64::from(first & 7) + 1) * CODE_UNIT_BYTES;
        let advance = line_advance(first >> 3 & 15, operands);
        line = line.saturating_add(advance.unwrap_or(0));
        if offset < end {
            return advance.map(|_| line);
        }
    }
    None
}

/// The entries; bytes before the first start are none of them.
fn entries(table: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_start = |byte: &u8| byte & ENTRY_START != 0;
    let first = table.iter().position(is_start).unwrap_or(table.len());
    table[first..].chunk_by(move |_, next| !is_start(next))
}

/// `None` for an entry without a line.
fn line_advance(code: u8, operands: &[u8]) -> Option<i64> {
    match code {
        15 => None,
        13 | 14 => Some(signed(variable_length(operands))),
        10..=12 => Some(i64::from(code) - 10),
        _ => Some(0),
    }
}

/// Six bits a byte, the lowest first; bit 6 says that more follow.
fn variable_length(bytes: &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    for byte in bytes.iter().take(u64::BITS as usize / 6) {
        value |= u64::from(byte & 0x3f) << shift;
        shift += 6;
        if byte & 0x40 == 0 {
            break;
        }
    }
    value
}

/// The sign is the lowest bit.
fn signed(value: u64) -> i64 {
    let magnitude = (value >> 1).cast_signed();
    if value & 1 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::version::Version, *};

    /// What the interpreters themselves make of their tables; see `testdata/line_tables.py`.
    const TABLES: &str = include_str!("testdata/line_tables.txt");

    fn bytes_of(hex: &str) -> Vec<u8> {
        let digits = hex.trim_matches('-').as_bytes();
        let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.as_chunks::<2>().0.iter().map(byte).collect()
    }

    fn format_of(version: &str) -> LineFormat {
        Version::from_name(&format!("python{version}")).unwrap().line_format()
    }

    #[test]
    fn every_instruction_has_the_line_that_its_interpreter_says() {
        let (mut checked, mut without_line) = (0, 0);
        for recorded in TABLES.lines() {
            let [version, first, table, runs] =
                recorded.split(' ').collect::<Vec<_>>().try_into().unwrap();
            let (format, table) = (format_of(version), bytes_of(table));
            let mut offset = 0;
            for run in runs.split(',') {
                let (count, line) = run.split_once('x').unwrap();
                for _ in 0..count.parse::<u32>().unwrap() {
                    let found = format.line_at(&table, first.parse().unwrap(), offset);
                    let expected = line.parse::<u32>().ok().filter(|line| *line > 0);
                    assert_eq!(found, expected, "{version} {first} at {offset}");
                    offset += CODE_UNIT_BYTES;
                    checked += 1;
                    without_line += usize::from(found.is_none());
                }
            }
        }
        assert!(checked > 10_000 && without_line > 0, "{checked} {without_line}");
    }

    #[test]
    fn six_versions_are_in_the_recorded_tables() {
        for version in ["3.8 ", "3.9 ", "3.10 ", "3.11 ", "3.12 ", "3.13 "] {
            assert!(TABLES.lines().any(|line| line.starts_with(version)), "{version}");
        }
    }

    #[test]
    fn before_its_first_instruction_a_function_is_at_its_first_line() {
        for format in [LineFormat::Lnotab, LineFormat::Ranges, LineFormat::Locations] {
            assert_eq!(format.line_at(&[], 7, -1), Some(7));
            assert_eq!(format.line_at(&[], -7, -1), None);
        }
    }

    #[test]
    fn past_the_end_of_a_table_of_ranges_there_is_no_line() {
        assert_eq!(LineFormat::Ranges.line_at(&[2, 1], 7, 0), Some(8));
        assert_eq!(LineFormat::Ranges.line_at(&[2, 1], 7, 2), None);
        let one_unit_on_the_next_line = [0x80 | 11 << 3, 0, 0];
        let line_at = |at| LineFormat::Locations.line_at(&one_unit_on_the_next_line, 7, at);
        assert_eq!((line_at(0), line_at(2)), (Some(8), None));
    }

    proptest! {
        #[test]
        fn arbitrary_tables_never_panic(
            table in prop::collection::vec(any::<u8>(), 0..200),
            first_line in any::<i32>(),
            offset in prop_oneof![-2i64..2000, any::<i64>()],
        ) {
            for format in [LineFormat::Lnotab, LineFormat::Ranges, LineFormat::Locations] {
                prop_assert_ne!(format.line_at(&table, first_line, offset), Some(0));
            }
        }

        #[test]
        fn a_table_of_ranges_is_decoded_as_it_was_written(
            ranges in prop::collection::vec((1u8..=254, -127i8..=127), 1..50),
        ) {
            let table: Vec<u8> =
                ranges.iter().flat_map(|(bytes, lines)| [*bytes, lines.cast_unsigned()]).collect();
            let (mut start, mut line) = (0, 100_000);
            for (bytes, lines) in ranges {
                line += i32::from(lines);
                let found = LineFormat::Ranges.line_at(&table, 100_000, start);
                prop_assert_eq!(found, u32::try_from(line).ok());
                start += i64::from(bytes);
            }
        }
    }
}
