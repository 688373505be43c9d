//! What is found in a file from block to block.

use std::io::{Read, Seek};

use zstd::bulk::Decompressor;

use super::{
    block::{BlockHeader, unpack},
    format::{BlockKind, FLAG_REQUIRED, Preamble, VERSION},
    parts::Parts,
    read::{ReadError, UnknownRecord},
    scan::{BlockRef, Next, Scanner},
    upgrade::{Upgrade, steps_of, upgrade},
};

/// What is found from block to block.
pub(super) struct Found {
    preamble: Preamble,
    pub(super) upgrades: Vec<&'static Upgrade>,
    pub(super) parts: Parts,
    pub(super) events: Vec<BlockRef>,
    pub(super) raw_stacks: Vec<BlockRef>,
    /// Kinds of blocks that went bad.
    pub(super) damaged: Vec<u16>,
    pub(super) unknown: Vec<UnknownRecord>,
}

impl Found {
    pub(super) fn new(preamble: Preamble, file_bytes: u64) -> Result<Self, ReadError> {
        let Preamble { version, needs } = preamble.clone();
        if version.major > VERSION.major {
            return Err(ReadError::TooNew { version, needs });
        }
        let upgrades = steps_of(version.major).ok_or(ReadError::TooOld { version })?;
        let (events, raw_stacks, damaged, unknown) = Default::default();
        let parts = Parts::new(file_bytes);
        Ok(Self { preamble, upgrades, parts, events, raw_stacks, damaged, unknown })
    }

    /// Takes up blocks until the file ends.
    pub(super) fn scan<R: Read + Seek>(
        &mut self,
        scanner: &mut Scanner<R>,
    ) -> Result<(), ReadError> {
        let (mut stored, mut plain) = (Vec::new(), Vec::new());
        let mut zstd = Decompressor::new()?;
        while self.parts.end.is_none() {
            match scanner.next(&mut stored)? {
                Next::End => break,
                Next::Damaged(block) => self.damaged.push(block.header.kind),
                Next::Block(block) => self.block(block, &stored, &mut zstd, &mut plain)?,
            }
        }
        Ok(())
    }

    fn block(
        &mut self,
        block: BlockRef,
        stored: &[u8],
        zstd: &mut Decompressor<'_>,
        plain: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        let BlockHeader { kind, flags, .. } = block.header;
        if self.upgrades.is_empty() && self.is_for_later(kind, block) {
            return Ok(());
        }
        if self.upgrades.is_empty() && BlockKind::from_u16(kind).is_none() {
            return self.unknown(block.header, stored);
        }
        if !unpack(zstd, &block.header, stored, plain) {
            self.damaged.push(kind);
            return Ok(());
        }
        let Some((kind, payload)) = upgrade(&self.upgrades, kind, std::mem::take(plain)) else {
            return Ok(());
        };
        let known = BlockKind::from_u16(kind).filter(|_| !self.is_for_later(kind, block));
        if known.is_some_and(|kind| self.parts.take(kind, flags, &payload).is_err()) {
            self.damaged.push(kind);
        }
        *plain = payload;
        Ok(())
    }

    /// Notes blocks that are read when they are needed.
    fn is_for_later(&mut self, kind: u16, block: BlockRef) -> bool {
        match BlockKind::from_u16(kind) {
            Some(BlockKind::Events) => self.events.push(block),
            Some(BlockKind::RawStacks) => self.raw_stacks.push(block),
            _ => return false,
        }
        true
    }

    fn unknown(&mut self, header: BlockHeader, stored: &[u8]) -> Result<(), ReadError> {
        let kind = header.kind;
        if header.flags & FLAG_REQUIRED != 0 {
            return Err(ReadError::UnknownPart { kind, needs: self.preamble.needs.clone() });
        }
        self.unknown.push(UnknownRecord { kind, bytes: stored.to_vec(), header });
        Ok(())
    }

    /// How many blocks of a kind went bad.
    pub(super) fn count_damaged(&self, kind: BlockKind) -> u64 {
        self.damaged.iter().filter(|damaged| **damaged == kind as u16).count() as u64
    }
}
