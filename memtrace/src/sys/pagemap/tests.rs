//! On memory of the test's own.

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::*;
use crate::model::memory::PageState;

const PAGES: usize = 16;

/// Anonymous memory that nobody else touches.
struct Pages {
    start: u64,
    page_bytes: u64,
}

impl Pages {
    fn new() -> Self {
        let page_bytes = rustix::param::page_size() as u64;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let length = PAGES * page_bytes as usize;
        // SAFETY: new memory at a place of the kernel's choice.
        let start = unsafe {
            mmap_anonymous(std::ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, flags)
        };
        Self { start: start.unwrap() as u64, page_bytes }
    }

    fn end(&self) -> u64 {
        self.at(PAGES as u64)
    }

    fn at(&self, page: u64) -> u64 {
        self.start + page * self.page_bytes
    }

    fn write(&self, page: u64) {
        // SAFETY: the page is in this mapping, which only this test knows.
        unsafe { (self.at(page) as *mut u8).write_volatile(1) };
    }

    fn read(&self, page: u64) {
        // SAFETY: as above.
        unsafe { (self.at(page) as *const u8).read_volatile() };
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and nothing refers to it any more.
        unsafe { munmap(self.start as *mut _, PAGES * self.page_bytes as usize) }.unwrap();
    }
}

fn own() -> Pagemap {
    Pagemap::open(&ProcFs::new("/proc"), std::process::id()).unwrap()
}

/// First and one past last page of each run in a state.
fn pages_of(pagemap: &Pagemap, pages: &Pages, state: PageState) -> Vec<(u64, u64)> {
    let runs = pagemap.runs(pages.start, pages.end()).unwrap();
    let number = |address| (address - pages.start) / pages.page_bytes;
    let wanted = runs.iter().filter(|run| run.state == state && !run.file_backed);
    wanted.map(|run| (number(run.start), number(run.end))).collect()
}

#[test]
fn pages_are_there_once_they_are_written_to() {
    let pages = Pages::new();
    [1, 2, 7].into_iter().for_each(|page| pages.write(page));
    for pagemap in [own(), own().without_scan()] {
        assert_eq!(pages_of(&pagemap, &pages, PageState::Resident), [(1, 3), (7, 8)]);
    }
}

#[test]
fn a_page_that_is_only_read_is_the_page_of_zeros() {
    let pages = Pages::new();
    pages.read(3);
    pages.write(4);
    let pagemap = own();
    if pagemap.tells_zero_pages() {
        assert_eq!(pages_of(&pagemap, &pages, PageState::Zero), [(3, 4)]);
        assert_eq!(pages_of(&pagemap, &pages, PageState::Resident), [(4, 5)]);
    }
    assert_eq!(pages_of(&own().without_scan(), &pages, PageState::Resident), [(3, 5)]);
}

#[test]
fn looking_does_not_make_pages_be_there() {
    let pages = Pages::new();
    for _ in 0..2 {
        assert_eq!(own().runs(pages.start, pages.end()), Some(Vec::new()));
        assert_eq!(own().without_scan().runs(pages.start, pages.end()), Some(Vec::new()));
    }
}

#[test]
fn code_is_of_a_file() {
    let function = code_is_of_a_file as *const () as u64;
    for pagemap in [own(), own().without_scan()] {
        let runs = pagemap.runs(function & !0xfff, (function & !0xfff) + 0x1000).unwrap();
        assert!(runs[0].file_backed && runs[0].state == PageState::Resident, "{runs:?}");
    }
}

#[test]
fn more_runs_than_one_answer_holds_are_all_told() {
    let page_bytes = rustix::param::page_size();
    let mut memory = vec![0_u8; 20_000 * page_bytes];
    let start = (memory.as_ptr() as u64).next_multiple_of(page_bytes as u64);
    let first = (start - memory.as_ptr() as u64) as usize;
    for page in (1..19_999).step_by(2) {
        memory[first + page * page_bytes] = 1;
    }
    let runs = own().runs(start + page_bytes as u64, start + 19_998 * page_bytes as u64).unwrap();
    let bytes: u64 = runs.iter().map(|run| run.end - run.start).sum();
    assert!(bytes >= 9_998 * page_bytes as u64, "{bytes}");
    let overlap = runs.windows(2).find(|pair| pair[0].end > pair[1].start);
    assert_eq!(overlap, None);
}
