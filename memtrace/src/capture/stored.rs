//! The events of a file, which stay in it until they are asked for.

use std::{
    cell::RefCell,
    io::{self, Read, Seek, SeekFrom},
};

use thiserror::Error;
use zstd::bulk::Decompressor;

use super::{
    Events, KeptEvent,
    block::{BlockHeader, unpack},
    codec::Malformed,
    events::EventDecoder,
    format::PROCESS_SHIFT,
    scan::BlockRef,
    upgrade::{Upgrade, upgrade},
};

/// Why events cannot be read.
#[derive(Debug, Error)]
pub enum EventsError {
    /// The file cannot be read.
    #[error("the events of the capture cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The file is not what it was when it was opened.
    #[error("the capture has changed since it was opened, at byte {offset}")]
    Changed {
        /// Where.
        offset: u64,
    },
    /// A block is whole but makes no sense.
    #[error("the events at byte {offset} of the capture cannot be read: {why}")]
    Malformed {
        /// Where.
        offset: u64,
        /// What is wrong.
        why: Malformed,
    },
}

/// Reads blocks of a file again; one at a time is in memory.
pub(super) struct BlockSource<R> {
    source: RefCell<R>,
    upgrades: Vec<&'static Upgrade>,
}

/// What reading a block takes.
struct Buffers {
    zstd: Decompressor<'static>,
    stored: Vec<u8>,
    plain: Vec<u8>,
}

impl<R: Read + Seek> BlockSource<R> {
    pub(super) fn new(source: R, upgrades: Vec<&'static Upgrade>) -> Self {
        Self { source: RefCell::new(source), upgrades }
    }

    /// Calls `visit` with the payload of each block, decompressed.
    pub(super) fn each(
        &self,
        blocks: &[BlockRef],
        mut visit: impl FnMut(&BlockHeader, &[u8]) -> Result<(), Malformed>,
    ) -> Result<(), EventsError> {
        let (stored, plain) = (Vec::new(), Vec::new());
        let mut buffers = Buffers { zstd: Decompressor::new()?, stored, plain };
        for block in blocks {
            self.payload(block, &mut buffers)?;
            let offset = block.offset;
            visit(&block.header, &buffers.plain)
                .map_err(|why| EventsError::Malformed { offset, why })?;
        }
        Ok(())
    }

    fn payload(&self, block: &BlockRef, buffers: &mut Buffers) -> Result<(), EventsError> {
        let BlockRef { offset, header } = *block;
        let Buffers { zstd, stored, plain } = buffers;
        stored.resize(header.stored_bytes as usize, 0);
        self.read_at(offset, stored)?;
        let is_right = crc32fast::hash(stored) == header.payload_crc;
        if !is_right || !unpack(zstd, &header, stored, plain) {
            return Err(EventsError::Changed { offset });
        }
        if !self.upgrades.is_empty() {
            let upgraded = upgrade(&self.upgrades, header.kind, std::mem::take(plain));
            *plain = upgraded.map(|(_, payload)| payload).unwrap_or_default();
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut source = self.source.borrow_mut();
        source.seek(SeekFrom::Start(offset))?;
        source.read_exact(buffer)
    }
}

/// See the module.
pub struct StoredEvents<R> {
    source: BlockSource<R>,
    blocks: Vec<BlockRef>,
}

impl<R> std::fmt::Debug for StoredEvents<R> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let blocks = self.blocks.len();
        formatter.debug_struct("StoredEvents").field("blocks", &blocks).finish_non_exhaustive()
    }
}

impl<R> StoredEvents<R> {
    pub(super) fn new(source: BlockSource<R>, blocks: Vec<BlockRef>) -> Self {
        Self { source, blocks }
    }

    /// The file.
    pub(super) fn source(&self) -> &BlockSource<R> {
        &self.source
    }

    /// No fewer events than there are: each has more than three bytes when it is decompressed.
    pub(super) fn at_most(&self) -> usize {
        let bytes = self.blocks.iter().map(|block| block.header.plain_bytes as usize);
        bytes.map(|bytes| bytes / 3).sum()
    }
}

impl<R: Read + Seek> Events for StoredEvents<R> {
    type Error = EventsError;

    fn replay(&self, visit: &mut dyn FnMut(&KeptEvent)) -> Result<(), EventsError> {
        let mut decoder = EventDecoder::default();
        self.source.each(&self.blocks, |header, payload| {
            let process = (header.flags >> PROCESS_SHIFT) as u8;
            decoder.block(payload, process, visit)
        })
    }
}
