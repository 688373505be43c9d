//! CPython's objects in another process's memory. Everything that is read is checked: an address
//! may point to anything by now.

use super::offsets::{OB_SIZE, OB_TYPE, ObjectOffsets, UNICODE_STATE};

/// The longest name that is read, in bytes; source paths are shorter than 4,096.
const MAX_STRING_BYTES: u64 = 4096 * 4;

/// The longest line table that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A place in memory with contents that the header of an object says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its first byte.
    pub address: u64,
    /// How many.
    pub size_bytes: usize,
    /// Bytes of a character; 1 for bytes objects.
    pub character_bytes: usize,
}

/// Enough of any object to tell what it is: `PyASCIIObject` up to its `state`.
pub const HEADER_BYTES: usize = 36;

/// The start of an object.
#[derive(Clone, Copy, Debug)]
pub struct Header(pub [u8; HEADER_BYTES]);

impl Header {
    fn u64(&self, at: u32) -> u64 {
        word(&self.0, at)
    }

    /// `ob_type`.
    pub fn object_type(&self) -> u64 {
        self.u64(OB_TYPE)
    }

    /// Where the characters of a compact string are; `None` when it is none, or too long.
    pub fn string(&self, address: u64, offsets: &ObjectOffsets) -> Option<Extent> {
        let state = half_word(&self.0, UNICODE_STATE);
        let (character_bytes, compact, ascii) = (state >> 2 & 7, state >> 5 & 1, state >> 6 & 1);
        let plausible = matches!(character_bytes, 1 | 2 | 4)
            && compact == 1
            && (ascii == 0 || character_bytes == 1);
        let size_bytes = self.u64(OB_SIZE).checked_mul(u64::from(character_bytes))?;
        let data = if ascii == 1 { offsets.ascii_data } else { offsets.compact_data };
        (plausible && size_bytes <= MAX_STRING_BYTES).then_some(Extent {
            address: address.checked_add(data.into())?,
            size_bytes: size_bytes as usize,
            character_bytes: character_bytes as usize,
        })
    }

    /// Where the contents of a bytes object are; `None` when it is too long.
    pub fn bytes(&self, address: u64, offsets: &ObjectOffsets) -> Option<Extent> {
        let size_bytes = self.u64(OB_SIZE);
        (size_bytes <= MAX_BYTES).then_some(Extent {
            address: address.checked_add(offsets.bytes_data.into())?,
            size_bytes: size_bytes as usize,
            character_bytes: 1,
        })
    }
}

/// The text of a string's characters: Latin-1, UCS-2 or UCS-4, which may hold single surrogates
/// (undecodable bytes of file names), shown as U+FFFD. `None` when a character cannot be, or is a
/// control character, which no name has.
pub fn text(characters: &[u8], character_bytes: usize) -> Option<String> {
    let decoded: Option<String> = match character_bytes {
        1 => Some(characters.iter().map(|byte| char::from(*byte)).collect()),
        2 => {
            let units = characters.as_chunks::<2>().0;
            units.iter().map(|unit| scalar(u16::from_le_bytes(*unit).into())).collect()
        }
        4 => {
            let units = characters.as_chunks::<4>().0;
            units.iter().map(|unit| scalar(u32::from_le_bytes(*unit))).collect()
        }
        _ => None,
    };
    decoded.filter(|text| !text.is_empty() && !text.chars().any(char::is_control))
}

fn scalar(unit: u32) -> Option<char> {
    match unit {
        0xd800..=0xdfff => Some(char::REPLACEMENT_CHARACTER),
        _ => char::from_u32(unit),
    }
}

/// A little-endian word of a struct; 0 outside of it.
pub fn word(bytes: &[u8], at: u32) -> u64 {
    let bytes = bytes.get(at as usize..).and_then(|bytes| bytes.first_chunk());
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A little-endian half word of a struct; 0 outside of it.
pub fn half_word(bytes: &[u8], at: u32) -> u32 {
    let bytes = bytes.get(at as usize..).and_then(|bytes| bytes.first_chunk());
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OFFSETS: ObjectOffsets =
        ObjectOffsets { ascii_data: 40, compact_data: 56, bytes_data: 32 };

    fn header(length: u64, state: u32) -> Header {
        let mut header = Header([0; HEADER_BYTES]);
        header.0[16..24].copy_from_slice(&length.to_le_bytes());
        header.0[32..].copy_from_slice(&state.to_le_bytes());
        header
    }

    fn extent(address: u64, size_bytes: usize, character_bytes: usize) -> Option<Extent> {
        Some(Extent { address, size_bytes, character_bytes })
    }

    #[test]
    fn characters_are_where_the_state_says() {
        let string = |state| header(3, state).string(0x1000, &OFFSETS);
        assert_eq!(string(1 << 2 | 1 << 5 | 1 << 6), extent(0x1000 + 40, 3, 1));
        assert_eq!(string(1 << 2 | 1 << 5), extent(0x1000 + 56, 3, 1));
        assert_eq!(string(2 << 2 | 1 << 5), extent(0x1000 + 56, 6, 2));
        assert_eq!(string(4 << 2 | 1 << 5), extent(0x1000 + 56, 12, 4));
    }

    #[test]
    fn what_is_no_compact_string_is_refused() {
        for state in [0, 1 << 2, 3 << 2 | 1 << 5, 2 << 2 | 1 << 5 | 1 << 6, u32::MAX] {
            assert_eq!(header(3, state).string(0x1000, &OFFSETS), None, "{state:#x}");
        }
        for length in [MAX_STRING_BYTES + 1, u64::MAX] {
            assert_eq!(header(length, 1 << 2 | 1 << 5).string(0x1000, &OFFSETS), None);
            assert_eq!(header(length.max(MAX_BYTES + 1), 0).bytes(0x1000, &OFFSETS), None);
        }
        assert_eq!(header(3, 1 << 2 | 1 << 5).string(u64::MAX, &OFFSETS), None);
    }

    #[test]
    fn text_is_latin_1_and_not_utf_8() {
        assert_eq!(text(&[b'd', 0xe9, b'j', 0xe0], 1).as_deref(), Some("déjà"));
        assert_eq!(text(&[0x2d, 0x4e, b'x', 0], 2).as_deref(), Some("中x"));
        assert_eq!(text(&0x1_f40d_u32.to_le_bytes(), 4).as_deref(), Some("🐍"));
    }

    #[test]
    fn undecodable_bytes_of_file_names_are_marked_and_garbage_is_no_text() {
        assert_eq!(text(&[b'a', 0, 0x80, 0xdc], 2).as_deref(), Some("a\u{fffd}"));
        assert_eq!(text(&0x11_0000_u32.to_le_bytes(), 4), None);
        assert_eq!(text(b"a\0b", 1), None);
        assert_eq!(text(b"", 1), None);
        assert_eq!(text(b"abc", 3), None);
    }

    proptest! {
        #[test]
        fn every_text_survives_each_width_that_holds_it(name in "[^\\p{C}]{1,20}") {
            let wide: Vec<u8> = name.chars().flat_map(|it| u32::from(it).to_le_bytes()).collect();
            let decoded = text(&wide, 4);
            prop_assert_eq!(decoded.as_deref(), Some(name.as_str()));
        }

        #[test]
        fn arbitrary_headers_and_characters_never_panic(
            bytes in any::<[[u8; 12]; 3]>(),
            address in any::<u64>(),
            characters in prop::collection::vec(any::<u8>(), 0..64),
            width in 0usize..6,
        ) {
            let header = Header(bytes.concat().try_into().unwrap());
            for extent in [header.string(address, &OFFSETS), header.bytes(address, &OFFSETS)] {
                prop_assert!(extent.is_none_or(|extent| extent.size_bytes <= MAX_BYTES as usize));
            }
            let _ = text(&characters, width);
        }
    }
}
