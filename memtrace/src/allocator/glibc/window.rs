//! A copy of a stretch of the heap, made of the pages that are there.

use super::{
    header::Header,
    shape::{align_down, align_up},
    target::Pages,
};
use crate::model::memory::{PageState, TargetMemory};

/// How much is copied at once: what is read again when the heap changes under the reader.
pub const WINDOW_BYTES: u64 = 512 << 10;
/// How much before that is copied with it, at most, to find the way from there.
pub const OVERLAP_BYTES: u64 = 64 << 10;
/// A chunk's header and the two words after it can be read at the end of the copy, too.
const SLACK_BYTES: usize = 32;

/// The copy. Pages that are not there read as zeros.
pub struct Window<'t> {
    memory: &'t dyn TargetMemory,
    start: u64,
    end: u64,
    bytes: Vec<u8>,
}

impl<'t> Window<'t> {
    /// An empty one.
    pub fn new(memory: &'t dyn TargetMemory) -> Self {
        let bytes = vec![0; (OVERLAP_BYTES + WINDOW_BYTES) as usize + SLACK_BYTES];
        Self { memory, start: 0, end: 0, bytes }
    }

    /// Whether the chunk header at an address, and the two words after it, are in the copy.
    pub fn holds(&self, address: u64) -> bool {
        address >= self.start && address + SLACK_BYTES as u64 <= self.end
    }

    /// Whether it also has what follows, to an address.
    pub fn reaches(&self, address: u64, until: u64) -> bool {
        self.holds(address) && until <= self.end
    }

    /// Forgets the copy.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Copies from the page of `address` on, at most to the end of the page of `limit`.
    pub fn load(&mut self, pages: &mut Pages<'_>, address: u64, limit: u64) {
        self.load_around(pages, (address, address), limit);
    }

    /// The same, with what is before `address`, from the page of `from` on.
    pub fn load_around(&mut self, pages: &mut Pages<'_>, (from, address): (u64, u64), limit: u64) {
        let page = pages.page_bytes();
        let address = align_down(address, page);
        let start = align_down(from, page).max(address.saturating_sub(OVERLAP_BYTES));
        let end = align_up(limit, page).min(address.saturating_add(WINDOW_BYTES));
        // The last header of a segment has less behind it.
        let is_last = end >= limit;
        (self.start, self.end) = (start, if is_last { end + SLACK_BYTES as u64 } else { end });
        self.fill(pages, start, end);
    }

    fn fill(&mut self, pages: &mut Pages<'_>, start: u64, end: u64) {
        let mut rest = self.bytes.as_mut_slice();
        let mut at = start;
        let mut parts: Vec<(u64, &mut [u8])> = Vec::new();
        pages.for_each_run(start, end, |run| {
            if run.state == PageState::Resident && run.start >= at {
                let whole = std::mem::take(&mut rest);
                let (gap, behind) = whole.split_at_mut((run.start - at) as usize);
                let (part, behind) = behind.split_at_mut((run.end - run.start) as usize);
                gap.fill(0);
                parts.push((run.start, part));
                rest = behind;
                at = run.end;
            }
        });
        rest.fill(0);
        let filled = self.memory.read_many(&mut parts);
        for ((_, part), _) in parts.iter_mut().zip(filled).filter(|(_, filled)| !filled) {
            part.fill(0);
        }
    }

    /// The two words at an address that it holds.
    pub fn header(&self, address: u64) -> Header {
        let words = self.bytes(address, 16).and_then(|words| words.as_chunks().0.try_into().ok());
        let [footer, size] =
            words.map_or([0; 2], |words: [[u8; 8]; 2]| words.map(u64::from_le_bytes));
        Header { footer, size }
    }

    /// The word at an address that it holds.
    pub fn word(&self, address: u64) -> u64 {
        self.bytes(address, 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes)
    }

    /// Bytes of the copy; `None` when it does not have them all.
    pub fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        let at = usize::try_from(address.checked_sub(self.start)?).ok()?;
        let end = at.checked_add(length)?;
        if address.checked_add(length as u64)? > self.end {
            return None;
        }
        self.bytes.get(at..end)
    }
}
