//! A target's memory made up by a test.

use std::collections::BTreeMap;

use crate::model::{
    mapping::{FileId, Mapping, Permissions},
    memory::{PageRun, PageState, Residency, TargetMemory},
};

/// Stretches of memory by their first address, all of it resident.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    parts: BTreeMap<u64, Vec<u8>>,
}

impl Image {
    /// With these parts, which start and end at pages and do not overlap.
    pub(super) fn new(parts: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Self {
        Self { parts: parts.into_iter().collect() }
    }

    fn part(&self, address: u64) -> Option<(u64, &Vec<u8>)> {
        let (start, bytes) = self.parts.range(..=address).next_back()?;
        (address - start < bytes.len() as u64).then_some((*start, bytes))
    }

    /// Overwrites some of it.
    pub(super) fn write(&mut self, address: u64, bytes: &[u8]) {
        let (start, part) = self.parts.range_mut(..=address).next_back().unwrap();
        let at = (address - start) as usize;
        part[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl TargetMemory for Image {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let Some((start, bytes)) = self.part(address) else { return false };
        let rest = &bytes[(address - start) as usize..];
        let found = rest.get(..buffer.len());
        if let Some(found) = found {
            buffer.copy_from_slice(found);
        }
        found.is_some()
    }
}

impl Residency for Image {
    fn runs(&self, start: u64, end: u64) -> Option<Vec<PageRun>> {
        let run = |(at, bytes): (&u64, &Vec<u8>)| PageRun {
            start: start.max(*at),
            end: end.min(at + bytes.len() as u64),
            state: PageState::Resident,
            file_backed: false,
            huge: false,
        };
        Some(self.parts.iter().map(run).filter(|run| run.start < run.end).collect())
    }
}

/// A mapping that can be read and written; of a file when it has a name.
pub(super) fn writable(start: u64, length: usize, name: &str) -> Mapping {
    let file = FileId { device: (8, 1), inode: 7 };
    Mapping {
        start,
        end: start + length as u64,
        file_offset: 0,
        file: (!name.is_empty()).then_some(file),
        name: name.to_owned(),
        deleted: false,
        permissions: Permissions { read: true, write: true, execute: false },
    }
}
