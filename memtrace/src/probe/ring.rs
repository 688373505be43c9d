//! The user side of the ring buffer. It ends at `&[u8]`; `decode` knows what the bytes mean.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use aya::maps::{Map, MapData, MapError, RingBuf};

/// The ring buffer.
pub struct Ring {
    buffer: RingBuf<MapData>,
}

impl Ring {
    /// Maps the ring of a BPF map into memtrace.
    pub fn new(map: Map) -> Result<Self, MapError> {
        RingBuf::try_from(map).map(|buffer| Self { buffer })
    }

    /// Hands up to `limit` records to `consume` and returns how many there were.
    pub fn drain(&mut self, limit: usize, mut consume: impl FnMut(&[u8])) -> usize {
        for drained in 0..limit {
            match self.buffer.next() {
                Some(record) => consume(&record),
                None => return drained,
            }
        }
        limit
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.buffer.as_fd()
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.buffer.as_raw_fd()
    }
}
