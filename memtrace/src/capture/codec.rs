//! Numbers as bytes: LEB128, zigzag differences, and a reader that never trusts a length.

use thiserror::Error;

/// A payload that is not what its kind of block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// It ends in the middle of something.
    #[error("it ends too early")]
    Short,
    /// A number has more than 64 bits.
    #[error("a number is too large")]
    Overlong,
    /// An index leads to nothing.
    #[error("an index is out of range")]
    Index,
    /// A name is not UTF-8.
    #[error("a name is not UTF-8")]
    Text,
    /// A code stands for nothing that this version knows.
    #[error("a code is not known")]
    Code,
    /// It holds more than is read.
    #[error("it holds more than a capture can")]
    TooMuch,
    /// A structured record does not parse.
    #[error("it is not the JSON of its kind")]
    Json,
    /// A block before it is missing.
    #[error("a block that it builds on is missing")]
    OutOfStep,
}

/// Appends a number in LEB128: seven bits a byte, the lowest first.
#[inline]
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends bytes after their number.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Small for small differences of either sign: 0, -1, 1, -2 become 0, 1, 2, 3.
#[inline]
pub fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ ((difference as i64 >> 63) as u64)
}

/// The reverse of [`zigzag`].
#[inline]
pub fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

/// Appends the difference from the value before, which becomes this one. Differences wrap.
#[inline]
pub fn put_difference(out: &mut Vec<u8>, before: &mut u64, value: u64) {
    put(out, zigzag(value.wrapping_sub(*before)));
    *before = value;
}

/// Bytes that are taken one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// A number in LEB128.
    #[inline]
    pub fn number(&mut self) -> Result<u64, Malformed> {
        match self.0 {
            [byte @ 0..0x80, rest @ ..] => {
                self.0 = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_number(),
        }
    }

    fn long_number(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::Overlong)
    }

    /// A number of 32 bits.
    pub fn number_u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.number()?).map_err(|_| Malformed::Overlong)
    }

    /// A number that an index or a count in memory may have.
    pub fn index(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.number()?).map_err(|_| Malformed::Overlong)
    }

    /// A difference, see [`put_difference`].
    #[inline]
    pub fn difference(&mut self, before: &mut u64) -> Result<u64, Malformed> {
        *before = before.wrapping_add(unzigzag(self.number()?));
        Ok(*before)
    }

    /// One byte.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (byte, rest) = self.0.split_first().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*byte)
    }

    /// Eight bytes, the lowest first.
    pub fn word(&mut self) -> Result<u64, Malformed> {
        let (word, rest) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*word))
    }

    /// Bytes after their number, see [`put_bytes`].
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.index()?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// A name after its length.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::Text)
    }

    /// The parts of a payload that is made of columns.
    pub fn columns<const COUNT: usize>(&mut self) -> Result<[Self; COUNT], Malformed> {
        let mut columns = [Self::default(); COUNT];
        for column in &mut columns {
            *column = Self(self.bytes()?);
        }
        Ok(columns)
    }

    /// How many things follow: never more than there are bytes, so that room can be made for them.
    pub fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.index()?;
        if count > self.0.len() { Err(Malformed::Short) } else { Ok(count) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_number_comes_back(value: u64, before: u64) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            let mut last = before;
            put_difference(&mut bytes, &mut last, value);
            let mut fields = Fields(&bytes);
            prop_assert_eq!(fields.number(), Ok(value));
            let mut last = before;
            prop_assert_eq!(fields.difference(&mut last), Ok(value));
            prop_assert_eq!(fields.0.len(), 0);
        }

        #[test]
        fn no_bytes_make_a_reader_panic(bytes: Vec<u8>) {
            let mut fields = Fields(&bytes);
            while fields.number().is_ok() {}
            let _ = Fields(&bytes).text();
            let _ = Fields(&bytes).columns::<3>();
            let _ = Fields(&bytes).word();
        }
    }

    #[test]
    fn small_differences_of_either_sign_take_one_byte() {
        for (difference, code) in [(0, 0), (u64::MAX, 1), (1, 2), (u64::MAX - 1, 3), (63, 126)] {
            assert_eq!(zigzag(difference), code);
            assert_eq!(unzigzag(code), difference);
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_refused() {
        let mut largest = Vec::new();
        put(&mut largest, u64::MAX);
        assert_eq!(Fields(&largest).number(), Ok(u64::MAX));
        *largest.last_mut().unwrap() = 2;
        assert_eq!(Fields(&largest).number(), Err(Malformed::Overlong));
        assert_eq!(Fields(&[0x80; 11]).number(), Err(Malformed::Overlong));
        assert_eq!(Fields(&[0x80; 3]).number(), Err(Malformed::Short));
    }

    #[test]
    fn a_claimed_count_is_never_more_than_the_bytes_that_are_there() {
        let mut bytes = Vec::new();
        put(&mut bytes, 1 << 40);
        assert_eq!(Fields(&bytes).count(), Err(Malformed::Short));
        assert_eq!(Fields(&bytes).bytes(), Err(Malformed::Short));
    }
}
