//! The blocks of a file: where they are, and whether they are what was written.

use std::io::{self, Read, Seek, SeekFrom};

use super::{
    block::BlockHeader,
    format::{BLOCK_HEADER_BYTES, PREAMBLE_BYTES, Preamble, parse_preamble},
};

/// A block whose header is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// Where its payload is in the file.
    pub offset: u64,
    /// What precedes it.
    pub header: BlockHeader,
}

/// Goes from block to block.
pub struct Scanner<R> {
    source: io::BufReader<R>,
    offset: u64,
    length: u64,
}

/// What comes next in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A block; its payload is in the buffer.
    Block(BlockRef),
    /// A block whose payload is not what was written.
    Damaged(BlockRef),
    /// The file's end, or something from which no way leads on.
    End,
}

impl<R: Read + Seek> Scanner<R> {
    /// Reads what precedes the first block; `None` when it is another sort of file, or ends before.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(mut source: R) -> io::Result<(Self, Option<Preamble>)> {
        let length = source.seek(SeekFrom::End(0))?;
        source.seek(SeekFrom::Start(0))?;
        let mut source = io::BufReader::with_capacity(1 << 16, source);
        let mut bytes = [0; PREAMBLE_BYTES];
        let is_long_enough = length >= bytes.len() as u64 && is_filled(&mut source, &mut bytes)?;
        let preamble = is_long_enough.then(|| parse_preamble(&bytes)).flatten();
        Ok((Self { source, offset: PREAMBLE_BYTES as u64, length }, preamble))
    }

    /// The next block, with its payload as it is in the file.
    ///
    /// # Errors
    /// When it cannot be read; not when it ends.
    pub fn next(&mut self, stored: &mut Vec<u8>) -> io::Result<Next> {
        let mut header = [0; BLOCK_HEADER_BYTES];
        if self.left() < header.len() as u64 || !is_filled(&mut self.source, &mut header)? {
            return Ok(Next::End);
        }
        let Some(header) = BlockHeader::parse(&header) else { return Ok(Next::End) };
        let offset = self.offset + BLOCK_HEADER_BYTES as u64;
        let end = offset + u64::from(header.stored_bytes);
        if end > self.length {
            return Ok(Next::End);
        }
        stored.resize(header.stored_bytes as usize, 0);
        if !is_filled(&mut self.source, stored)? {
            return Ok(Next::End);
        }
        self.offset = end;
        let block = BlockRef { offset, header };
        let is_right = crc32fast::hash(stored) == header.payload_crc;
        Ok(if is_right { Next::Block(block) } else { Next::Damaged(block) })
    }

    /// Bytes from the file's start to the end of the last block.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of the file when it was opened.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The file itself.
    pub fn into_source(self) -> R {
        self.source.into_inner()
    }

    fn left(&self) -> u64 {
        self.length.saturating_sub(self.offset)
    }
}

/// Fills a buffer; `false` at the file's end.
fn is_filled(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match source.read_exact(buffer) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        result => result.map(|()| true),
    }
}
