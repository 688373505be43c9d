//! The process that is looked at, and reads that cannot change it.

use std::cell::RefCell;

use super::shape::{align_down, align_up};
use crate::model::{
    mapping::Mapping,
    memory::{PageRun, PageState, Residency, TargetMemory},
};

/// A process, as the walk sees it.
#[derive(Clone, Copy)]
pub struct Target<'t> {
    /// Its memory.
    pub memory: &'t dyn TargetMemory,
    /// Which of its pages are there.
    pub residency: &'t dyn Residency,
    /// Its mappings, ascending.
    pub mappings: &'t [Mapping],
    /// Size of its pages, a power of two.
    pub page_bytes: u64,
}

impl Target<'_> {
    /// The mapping that an address is in.
    pub fn mapping(&self, address: u64) -> Option<&Mapping> {
        let after = self.mappings.partition_point(|mapping| mapping.start <= address);
        let mapping = self.mappings.get(after.checked_sub(1)?)?;
        mapping.contains(address).then_some(mapping)
    }
}

/// Resident bytes of a range, and swapped ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// In memory and counted in RSS.
    pub resident_bytes: u64,
    /// In swap.
    pub swapped_bytes: u64,
}

impl std::ops::AddAssign for Presence {
    fn add_assign(&mut self, other: Self) {
        self.resident_bytes += other.resident_bytes;
        self.swapped_bytes += other.swapped_bytes;
    }
}

/// What is asked of the kernel at once. The runs of a slice are kept, so that it bounds the
/// memory that is needed: 4096 pages, half as many runs.
const SLICE_BYTES: u64 = 16 << 20;

/// Which pages are there, asked slice by slice by somebody who goes through memory upwards.
pub struct Pages<'t> {
    residency: &'t dyn Residency,
    page_bytes: u64,
    slice: (u64, u64),
    runs: Vec<PageRun>,
    /// The resident run that was last looked at.
    current: (u64, u64),
    /// The kernel did not tell: the process has no memory any more.
    is_gone: bool,
}

impl<'t> Pages<'t> {
    /// Nothing is known yet.
    pub fn new(target: &Target<'t>) -> Self {
        Self {
            residency: target.residency,
            page_bytes: target.page_bytes,
            slice: (0, 0),
            runs: Vec::new(),
            current: (0, 0),
            is_gone: false,
        }
    }

    /// Whether there is nothing left to look at: the process has ended.
    pub fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Size of a page.
    pub fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    /// Forgets what it knew, because it may have changed.
    pub fn forget(&mut self) {
        self.slice = (0, 0);
        self.current = (0, 0);
    }

    /// Whether a range is in the resident run that was last looked at.
    pub fn is_in_current(&self, start: u64, end: u64) -> bool {
        start >= self.current.0 && end <= self.current.1
    }

    /// How much of a range is there.
    pub fn presence(&mut self, start: u64, end: u64) -> Presence {
        if self.is_in_current(start, end) {
            return Presence { resident_bytes: end.saturating_sub(start), swapped_bytes: 0 };
        }
        let mut sum = Presence::default();
        self.for_each_run(start, end, |run| match run.state {
            PageState::Resident => sum.resident_bytes += run.end - run.start,
            PageState::Swapped => sum.swapped_bytes += run.end - run.start,
            PageState::Zero => {}
        });
        sum
    }

    /// Calls `visit` with the runs of a range, ascending and clipped to it. A run that crosses the
    /// border of slices comes in pieces.
    pub fn for_each_run(&mut self, start: u64, end: u64, mut visit: impl FnMut(PageRun)) {
        let mut at = start;
        while at < end {
            self.load(at);
            let stop = self.slice.1.min(end);
            self.visit_slice(at, stop, &mut visit);
            at = stop;
        }
    }

    fn visit_slice(&mut self, start: u64, end: u64, visit: &mut impl FnMut(PageRun)) {
        let first = self.runs.partition_point(|run| run.end <= start);
        for run in self.runs[first..].iter().take_while(|run| run.start < end) {
            if run.state == PageState::Resident {
                self.current = (run.start, run.end);
            }
            visit(PageRun { start: run.start.max(start), end: run.end.min(end), ..*run });
        }
    }

    fn load(&mut self, address: u64) {
        if (self.slice.0..self.slice.1).contains(&address) {
            return;
        }
        let start = align_down(address, SLICE_BYTES.max(self.page_bytes));
        let end = start.saturating_add(SLICE_BYTES.max(self.page_bytes));
        let runs = self.residency.runs(start, end);
        self.is_gone |= runs.is_none();
        self.runs = runs.unwrap_or_default();
        // Whatever says more than it was asked for must not be counted twice.
        self.runs.retain(|run| run.start >= start && run.end <= end && run.start < run.end);
        self.slice = (start, end);
        self.current = (0, 0);
    }

    /// Whether a range can be read without a page being brought in for it.
    pub fn is_present(&mut self, start: u64, end: u64) -> bool {
        let mut present = 0;
        self.for_each_run(start, end, |run| {
            if run.state != PageState::Swapped {
                present += run.end - run.start;
            }
        });
        present == end.saturating_sub(start)
    }
}

/// Reads of single words and small structures, wherever they are, on present pages only.
pub struct PresentMemory<'t> {
    memory: &'t dyn TargetMemory,
    pages: RefCell<PageBits<'t>>,
}

impl<'t> PresentMemory<'t> {
    /// A reader that knows nothing yet.
    pub fn new(target: &Target<'t>) -> Self {
        let pages = PageBits {
            residency: target.residency,
            page_bytes: target.page_bytes,
            slices: Vec::new(),
        };
        Self { memory: target.memory, pages: RefCell::new(pages) }
    }

    /// Forgets which pages are there.
    pub fn forget(&self) {
        self.pages.borrow_mut().slices.clear();
    }

    /// Fills the buffer, when all its pages are there.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let Some(end) = address.checked_add(buffer.len() as u64) else { return false };
        self.pages.borrow_mut().are_there(address, end) && self.memory.read(address, buffer)
    }

    /// A word.
    pub fn word(&self, address: u64) -> Option<u64> {
        self.words::<1>(address).map(|[word]| word)
    }

    /// Words that follow each other.
    pub fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        let mut bytes = [[0; 8]; N];
        self.read(address, bytes.as_flattened_mut()).then(|| bytes.map(u64::from_le_bytes))
    }

    /// Half a word.
    pub fn half_word(&self, address: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes).then(|| u32::from_le_bytes(bytes))
    }

    /// Whether any of a range's pages is in swap.
    pub fn is_in_swap(&self, start: u64, end: u64) -> bool {
        let PageBits { residency, page_bytes, .. } = *self.pages.borrow();
        let runs = residency.runs(align_down(start, page_bytes), align_up(end, page_bytes));
        runs.into_iter().flatten().any(|run| run.state == PageState::Swapped)
    }

    /// Whether a page is there.
    pub fn has(&self, address: u64) -> bool {
        self.pages.borrow_mut().are_there(address, address.saturating_add(1))
    }
}

/// Pages of 2 MiB at once, and how many of those are remembered.
const BITS_SLICE_BYTES: u64 = 2 << 20;
const BITS_SLICES: usize = 256;

/// Which pages are there, for reads all over the address space.
struct PageBits<'t> {
    residency: &'t dyn Residency,
    page_bytes: u64,
    /// Slice numbers with the runs that can be read, most lately asked last.
    slices: Vec<(u64, Vec<(u64, u64)>)>,
}

impl PageBits<'_> {
    fn are_there(&mut self, start: u64, end: u64) -> bool {
        let first = align_down(start, self.page_bytes);
        let last = align_up(end, self.page_bytes);
        let mut pages = (first..last).step_by(self.page_bytes as usize);
        pages.all(|page| self.is_there(page))
    }

    fn is_there(&mut self, page: u64) -> bool {
        let slice = page / BITS_SLICE_BYTES;
        let found = self.slices.iter().rposition(|(number, _)| *number == slice);
        let found = found.unwrap_or_else(|| self.load(slice));
        let runs = &self.slices[found].1;
        let after = runs.partition_point(|run| run.0 <= page);
        after > 0 && page < runs[after - 1].1
    }

    fn load(&mut self, slice: u64) -> usize {
        if self.slices.len() >= BITS_SLICES {
            self.slices.clear();
        }
        let start = slice * BITS_SLICE_BYTES;
        let runs = self.residency.runs(start, start.saturating_add(BITS_SLICE_BYTES));
        let readable = runs.into_iter().flatten().filter(|run| run.state != PageState::Swapped);
        self.slices.push((slice, readable.map(|run| (run.start, run.end)).collect()));
        self.slices.len() - 1
    }
}
