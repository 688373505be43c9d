//! The frame around every payload: lengths, kind, and checksums.
//!
//! The header has a checksum of its own, so that a payload that went bad can be stepped over by a
//! length that is known to be right.

use std::io;

use super::format::{BLOCK_HEADER_BYTES, MAX_BLOCK_BYTES};

/// Fast: events are written while they happen.
const LEVEL: i32 = 1;

/// What precedes a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Bytes of the payload in the file.
    pub stored_bytes: u32,
    /// Bytes of it when it is decompressed.
    pub plain_bytes: u32,
    /// A [`super::format::BlockKind`], or one that a later version knows.
    pub kind: u16,
    /// `FLAG_*` bits.
    pub flags: u16,
    /// CRC-32 of the payload as it is in the file.
    pub payload_crc: u32,
}

impl BlockHeader {
    /// As in the file.
    pub fn to_bytes(self) -> [u8; BLOCK_HEADER_BYTES] {
        let mut bytes = [0; BLOCK_HEADER_BYTES];
        bytes[..4].copy_from_slice(&self.stored_bytes.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.plain_bytes.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.kind.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.flags.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.payload_crc.to_le_bytes());
        let own_crc = crc32fast::hash(&bytes[..16]);
        bytes[16..].copy_from_slice(&own_crc.to_le_bytes());
        bytes
    }

    /// The reverse; `None` when its checksum is wrong, or when it claims more than blocks have.
    pub fn parse(bytes: &[u8; BLOCK_HEADER_BYTES]) -> Option<Self> {
        let long = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let header = Self {
            stored_bytes: long(0),
            plain_bytes: long(4),
            kind: short(8),
            flags: short(10),
            payload_crc: long(12),
        };
        let is_sane = header.plain_bytes as usize <= MAX_BLOCK_BYTES
            && header.stored_bytes as usize <= zstd::zstd_safe::compress_bound(MAX_BLOCK_BYTES);
        (is_sane && crc32fast::hash(&bytes[..16]) == long(16)).then_some(header)
    }
}

/// Makes blocks of payloads.
pub struct Packer {
    zstd: zstd::bulk::Compressor<'static>,
    stored: Vec<u8>,
}

impl Packer {
    /// # Errors
    /// When there is no memory for the compressor.
    pub fn new() -> io::Result<Self> {
        Ok(Self { zstd: zstd::bulk::Compressor::new(LEVEL)?, stored: Vec::new() })
    }

    /// The header and the payload as they go into the file. A payload has at most
    /// [`MAX_BLOCK_BYTES`].
    ///
    /// # Errors
    /// When it has more.
    pub fn pack(
        &mut self,
        kind: u16,
        flags: u16,
        payload: &[u8],
    ) -> io::Result<([u8; BLOCK_HEADER_BYTES], &[u8])> {
        if payload.len() > MAX_BLOCK_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a block is too large"));
        }
        self.stored.clear();
        self.stored.reserve(zstd::zstd_safe::compress_bound(payload.len()));
        self.zstd.compress_to_buffer(payload, &mut self.stored)?;
        let header = BlockHeader {
            stored_bytes: self.stored.len() as u32,
            plain_bytes: payload.len() as u32,
            kind,
            flags,
            payload_crc: crc32fast::hash(&self.stored),
        };
        Ok((header.to_bytes(), &self.stored))
    }
}

/// Decompresses into a buffer of the size that the header says, which is at most
/// [`MAX_BLOCK_BYTES`]. `false` when it does not come out as that.
pub fn unpack(
    zstd: &mut zstd::bulk::Decompressor<'_>,
    header: &BlockHeader,
    stored: &[u8],
    plain: &mut Vec<u8>,
) -> bool {
    plain.clear();
    plain.reserve_exact(header.plain_bytes as usize);
    let length = zstd.decompress_to_buffer(stored, plain);
    length.is_ok_and(|length| length == header.plain_bytes as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_any_bit_flipped_is_none() {
        let mut packer = Packer::new().unwrap();
        let (header, _) = packer.pack(4, 1, b"payload").unwrap();
        assert!(BlockHeader::parse(&header).is_some());
        for bit in 0..BLOCK_HEADER_BYTES * 8 {
            let mut flipped = header;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BlockHeader::parse(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn a_payload_comes_back_and_a_wrong_length_is_noticed() {
        let mut packer = Packer::new().unwrap();
        let (header, stored) = packer.pack(4, 0, &[7; 1000]).unwrap();
        let header = BlockHeader::parse(&header).unwrap();
        let mut zstd = zstd::bulk::Decompressor::new().unwrap();
        let mut plain = Vec::new();
        assert!(unpack(&mut zstd, &header, stored, &mut plain));
        assert_eq!(plain, [7; 1000]);
        for plain_bytes in [0, 999, 1001, 1 << 20] {
            let wrong = BlockHeader { plain_bytes, ..header };
            assert!(!unpack(&mut zstd, &wrong, stored, &mut plain), "{plain_bytes}");
        }
    }

    #[test]
    fn a_header_that_claims_more_than_blocks_have_is_none() {
        let header = BlockHeader {
            stored_bytes: 10,
            plain_bytes: u32::MAX,
            kind: 1,
            flags: 0,
            payload_crc: 0,
        };
        assert_eq!(BlockHeader::parse(&header.to_bytes()), None);
        let header = BlockHeader { stored_bytes: u32::MAX, plain_bytes: 10, ..header };
        assert_eq!(BlockHeader::parse(&header.to_bytes()), None);
    }
}
