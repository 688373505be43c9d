//! Numbers of one kind, one for each frame, node or site.

use base64::{display::Base64Display, prelude::BASE64_STANDARD};
use serde::{Serialize, Serializer};

/// Unsigned numbers in LEB128 (seven bits a byte, the lowest first, the eighth bit says that more
/// follow; DWARF 5, section 7.6), in base64: a third of the size of JSON's digits, and read faster.
#[derive(Debug, Default)]
pub(super) struct Column(Vec<u8>);

impl Column {
    /// Appends a number.
    pub(super) fn push(&mut self, value: u64) {
        let mut rest = value;
        while rest >= 0x80 {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
    }

    /// Appends `value - expected`, small where the two are close, as a number whose lowest bit is
    /// the sign (zigzag, as in protocol buffers).
    pub(super) fn push_difference(&mut self, value: u64, expected: u64) {
        let difference = value.wrapping_sub(expected) as i64;
        self.push(((difference << 1) ^ (difference >> 63)) as u64);
    }
}

impl Serialize for Column {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(&self.0, &BASE64_STANDARD))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use base64::Engine;
    use proptest::prelude::*;

    use super::*;

    /// What a page reads.
    pub(in super::super) fn numbers(column: &serde_json::Value) -> Vec<u64> {
        let bytes = BASE64_STANDARD.decode(column.as_str().unwrap()).unwrap();
        let mut numbers = Vec::new();
        let (mut number, mut shift) = (0, 0);
        for byte in bytes {
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                numbers.push(std::mem::take(&mut number));
                shift = 0;
            }
        }
        assert_eq!(shift, 0, "cut short");
        numbers
    }

    /// The inverse of [`Column::push_difference`].
    pub(in super::super) fn added(expected: u64, number: u64) -> u64 {
        expected.wrapping_add((number >> 1) ^ (number & 1).wrapping_neg())
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were_written(values: Vec<(u64, u64)>) {
            let mut column = Column::default();
            for (value, expected) in &values {
                column.push(*value);
                column.push_difference(*value, *expected);
            }
            let read = numbers(&serde_json::to_value(&column).unwrap());
            let read: Vec<_> = read.chunks(2).map(|it| (it[0], it[1])).collect();
            prop_assert_eq!(read.len(), values.len());
            for ((plain, difference), (value, expected)) in read.into_iter().zip(values) {
                prop_assert_eq!((plain, added(expected, difference)), (value, value));
            }
        }
    }
}
