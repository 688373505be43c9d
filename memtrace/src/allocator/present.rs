//! Reads only what is in memory: reading any other page would make it be there, and grow the
//! target.

use std::collections::HashMap;

use thiserror::Error;

use crate::model::{
    census::Extent,
    memory::{PageRun, PageState, Residency, TargetMemory},
};

/// Residency is asked for in pieces of this size, and kept: what pointers lead to lies close
/// together.
const BLOCK_BYTES: u64 = 2 << 20;

/// What the kernel is asked about starts and ends at such addresses. With larger pages it is asked
/// about less than a page, and tells of the whole.
const PAGE_BYTES: u64 = 4096;

/// Pieces that are kept.
const MAX_BLOCKS: usize = 4096;

/// A large area is read in pieces of this size.
const CHUNK_BYTES: u64 = 1 << 20;

/// Without it, no memory can be read without changing the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the kernel does not tell which pages are in memory (/proc/PID/pagemap)")]
pub struct NoResidency;

/// A target's memory, as far as it is there.
pub(super) struct Present<'a, M, R> {
    memory: &'a M,
    residency: &'a R,
    blocks: HashMap<u64, Vec<PageRun>>,
}

impl<'a, M: TargetMemory, R: Residency> Present<'a, M, R> {
    pub(super) fn new(memory: &'a M, residency: &'a R) -> Self {
        Self { memory, residency, blocks: HashMap::new() }
    }

    /// The pages in a range, by their state.
    pub(super) fn runs(&self, range: Extent) -> Result<Vec<PageRun>, NoResidency> {
        let (start, end) =
            (range.start & !(PAGE_BYTES - 1), range.end.next_multiple_of(PAGE_BYTES));
        let mut runs = self.residency.runs(start, end).ok_or(NoResidency)?;
        for run in &mut runs {
            run.start = run.start.max(range.start);
            run.end = run.end.min(range.end);
        }
        Ok(runs)
    }

    /// Whether all of a stretch can be read.
    pub(super) fn has(&mut self, address: u64, length: u64) -> bool {
        let Some(end) = address.checked_add(length) else { return false };
        let mut at = address;
        while at < end {
            let Some(next) = self.present_until(at) else { return false };
            at = next;
        }
        true
    }

    /// Where the stretch of memory ends that is there at this address, or where its block does.
    fn present_until(&mut self, address: u64) -> Option<u64> {
        let runs = self.block(address / BLOCK_BYTES);
        let run = runs.iter().find(|run| (run.start..run.end).contains(&address));
        run.filter(|run| is_readable(run)).map(|run| run.end)
    }

    fn block(&mut self, number: u64) -> &[PageRun] {
        if self.blocks.len() >= MAX_BLOCKS {
            self.blocks.clear();
        }
        if !self.blocks.contains_key(&number) {
            let start = number * BLOCK_BYTES;
            let end = start.saturating_add(BLOCK_BYTES);
            // Where no memory can be, the kernel refuses to answer.
            self.blocks.insert(number, self.residency.runs(start, end).unwrap_or_default());
        }
        &self.blocks[&number]
    }

    /// Reads a stretch; `false` when a part of it is not there.
    pub(super) fn read(&mut self, address: u64, buffer: &mut [u8]) -> bool {
        self.has(address, buffer.len() as u64) && self.memory.read(address, buffer)
    }

    /// Reads one of `LENGTH` bytes at each address, many in a call; `None` where it is not there.
    pub(super) fn read_each<const LENGTH: usize>(
        &mut self,
        addresses: &[u64],
    ) -> Vec<Option<[u8; LENGTH]>> {
        let mut buffers = vec![[0; LENGTH]; addresses.len()];
        let mut parts: Vec<(u64, &mut [u8])> = Vec::new();
        let mut places = Vec::new();
        for (place, (address, buffer)) in addresses.iter().zip(&mut buffers).enumerate() {
            if self.has(*address, LENGTH as u64) {
                parts.push((*address, buffer));
                places.push(place);
            }
        }
        let done = self.memory.read_many(&mut parts);
        let mut found = vec![None; addresses.len()];
        for (place, _) in places.into_iter().zip(done).filter(|(_, done)| *done) {
            found[place] = Some(buffers[place]);
        }
        found
    }

    /// Calls with each word of a range that is there, and its address.
    pub(super) fn words(
        &self,
        range: Extent,
        mut with: impl FnMut(u64, u64),
    ) -> Result<(), NoResidency> {
        let mut buffer = Vec::new();
        for run in self.runs(range)?.iter().filter(|run| is_readable(run)) {
            let mut start = run.start.next_multiple_of(8);
            while start + 8 <= run.end {
                let length = CHUNK_BYTES.min((run.end - start) / 8 * 8);
                buffer.resize(length as usize, 0);
                if self.memory.read(start, &mut buffer) {
                    let words = buffer.as_chunks::<8>().0.iter().map(|it| u64::from_le_bytes(*it));
                    words.zip((start..).step_by(8)).for_each(|(word, at)| with(at, word));
                }
                start += length;
            }
        }
        Ok(())
    }
}

/// A swapped page would be brought back.
pub(super) fn is_readable(run: &PageRun) -> bool {
    run.state != PageState::Swapped
}

/// Bytes of a range that count in RSS and are the process's own, of runs that cover it.
pub(super) fn resident_bytes(runs: &[PageRun], range: Extent) -> u64 {
    let first = runs.partition_point(|run| run.end <= range.start);
    let inside = runs[first..].iter().take_while(|run| run.start < range.end);
    let own = |run: &&PageRun| run.state == PageState::Resident && !run.file_backed;
    let resident = inside.filter(own);
    resident.map(|run| run.end.min(range.end) - run.start.max(range.start)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocator::image::Image;

    #[test]
    fn a_stretch_that_is_not_all_there_is_not_read() {
        let image = Image::new([(0x1000, vec![7; 4096]), (0x3000, vec![7; 4096])]);
        let mut present = Present::new(&image, &image);
        assert!(present.has(0x1ff8, 8));
        assert!(!present.has(0x1ff8, 16));
        assert_eq!(present.read_each::<2>(&[0x1000, 0x2000]), vec![Some([7; 2]), None]);
    }
}
