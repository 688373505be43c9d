//! A word for each page: Documentation/admin-guide/mm/pagemap.rst. The upper bits are told without
//! privileges since 4.2.

use std::{fs::File, os::unix::fs::FileExt as _};

use crate::model::memory::{PageRun, PageState};

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// The page is of a file, or shared anonymous.
const FILE: u64 = 1 << 61;
/// Guard region (6.15), which is marked as swapped, too.
const GUARD: u64 = 1 << 58;

const ENTRY_BYTES: u64 = 8;
/// Entries that are read at once: 128 KiB, for 64 MiB of pages of 4 KiB.
const BATCH: u64 = 16 << 10;

/// The runs in a range; `None` when the kernel does not tell.
pub(super) fn runs(pagemap: &File, start: u64, end: u64) -> Option<Vec<PageRun>> {
    let page_bytes = rustix::param::page_size() as u64;
    let (mut page, last) = (start / page_bytes, end.div_ceil(page_bytes));
    let mut bytes = vec![0; (BATCH.min(last.saturating_sub(page)) * ENTRY_BYTES) as usize];
    let mut runs = Vec::new();
    while page < last {
        let count = BATCH.min(last - page);
        let bytes = &mut bytes[..(count * ENTRY_BYTES) as usize];
        pagemap.read_exact_at(bytes, page * ENTRY_BYTES).ok()?;
        for (entry, page) in bytes.as_chunks::<8>().0.iter().zip(page..) {
            let at = page * page_bytes;
            add(&mut runs, at.max(start), (at + page_bytes).min(end), u64::from_le_bytes(*entry));
        }
        page += count;
    }
    Some(runs)
}

/// Adds a page: to the last run, if it goes on like that.
fn add(runs: &mut Vec<PageRun>, start: u64, end: u64, entry: u64) {
    let Some(state) = state(entry) else { return };
    let page = PageRun { start, end, state, file_backed: entry & FILE != 0, huge: false };
    match runs.last_mut() {
        Some(last) if continues(last, &page) => last.end = end,
        _ => runs.push(page),
    }
}

fn continues(run: &PageRun, page: &PageRun) -> bool {
    (run.end, run.state, run.file_backed) == (page.start, page.state, page.file_backed)
}

fn state(entry: u64) -> Option<PageState> {
    match entry {
        _ if entry & GUARD != 0 => None,
        _ if entry & PRESENT != 0 => Some(PageState::Resident),
        _ if entry & SWAPPED != 0 => Some(PageState::Swapped),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_the_same_state_are_one_run() {
        let entries = [PRESENT | 5, PRESENT | 9, 0, PRESENT, PRESENT | FILE, SWAPPED, GUARD];
        let mut runs = Vec::new();
        for (entry, page) in entries.iter().zip(0..) {
            add(&mut runs, page * 4096, (page + 1) * 4096, *entry);
        }
        let seen: Vec<_> =
            runs.iter().map(|run| (run.start >> 12, run.end >> 12, run.file_backed)).collect();
        assert_eq!(seen, [(0, 2, false), (3, 4, false), (4, 5, true), (5, 6, false)]);
        assert_eq!(runs[3].state, PageState::Swapped);
    }
}
