//! Reads a capture, also one that was cut, is still being written, or has damaged blocks.

use std::io::{self, Read, Seek};

use thiserror::Error;

use super::{
    Capture,
    assemble::assemble,
    block::BlockHeader,
    cut::Cut,
    format::{BLOCK_HEADER_BYTES, VERSION, Version},
    found::Found,
    scan::Scanner,
    stored::StoredEvents,
    write::write_with,
};

/// Why a file is no capture that can be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// It cannot be read at all.
    #[error("the capture cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It does not begin as captures do.
    #[error("this is not a memtrace capture")]
    NotACapture,
    /// A later memtrace wrote it.
    #[error(
        "the capture is of format {version}, and this memtrace reads {VERSION}: \
         memtrace {needs} or later is needed"
    )]
    TooNew {
        /// Of the file.
        version: Version,
        /// The oldest memtrace that reads it.
        needs: String,
    },
    /// Nothing knows how to read it any more.
    #[error("the capture is of format {version}, which no released memtrace has written")]
    TooOld {
        /// Of the file.
        version: Version,
    },
    /// It has a part that must be understood, and is not.
    #[error(
        "the capture has a part (kind {kind}) that this memtrace does not know and that must not \
         be ignored: memtrace {needs} or later is needed"
    )]
    UnknownPart {
        /// Its number.
        kind: u16,
        /// The oldest memtrace that reads the file.
        needs: String,
    },
    /// It was cut before anything was in it, or its header is damaged.
    #[error("the capture ends before its header is whole, or the header is damaged")]
    NoHeader,
}

/// A record of a later version, as it is in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownRecord {
    /// Its kind.
    pub kind: u16,
    /// Its payload, compressed.
    pub bytes: Vec<u8>,
    pub(super) header: BlockHeader,
}

impl UnknownRecord {
    /// Header and payload as they were found.
    pub(super) fn as_stored(&self) -> ([u8; BLOCK_HEADER_BYTES], &[u8]) {
        (self.header.to_bytes(), &self.bytes)
    }
}

/// A capture that was read.
#[derive(Debug)]
pub struct Opened<R> {
    /// All but the events. What is missing is in its notes.
    pub capture: Capture,
    /// The events, which are read when they are asked for.
    pub events: StoredEvents<R>,
    /// What of the file could not be read; `None` when it is whole.
    pub cut: Option<Cut>,
    /// What a later version wrote.
    pub unknown: Vec<UnknownRecord>,
}

impl<R: Read + Seek> Opened<R> {
    /// Writes it again, in today's version, with what is not known.
    ///
    /// # Errors
    /// When it cannot be written, or the events cannot be read.
    pub fn rewrite<W: io::Write>(&self, out: W) -> io::Result<W> {
        write_with(&self.capture, &self.events, &self.unknown, out)
    }
}

/// Opens captures.
pub struct Reader;

impl Reader {
    /// Reads everything but the events, which are only checked. Of a file that ends early, what is
    /// missing is computed from the events, as far as it can be.
    ///
    /// # Errors
    /// When it is no capture, cannot be read, or needs a later memtrace.
    pub fn open<R: Read + Seek>(source: R) -> Result<Opened<R>, ReadError> {
        let (mut scanner, preamble) = Scanner::new(source)?;
        let preamble = preamble.ok_or(ReadError::NotACapture)?;
        let mut found = Found::new(preamble, scanner.length())?;
        found.scan(&mut scanner)?;
        assemble(found, scanner)
    }
}
