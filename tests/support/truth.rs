//! What a target says it did, and the comparison with what memtrace says.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::report::{Amount, Report, Stats};

/// The books of a test program (see `programs/c/truth.h`).
#[derive(Clone, Debug, Deserialize)]
pub struct Truth {
    /// By site.
    pub sites: Vec<SiteTruth>,
    /// By function.
    pub functions: Vec<FunctionTruth>,
    /// Frees of blocks from before the window.
    pub unmatched_frees: u64,
    /// Unmapped bytes from before the window.
    pub unmatched_unmapped_bytes: u64,
}

/// One site.
#[derive(Clone, Debug, Deserialize)]
pub struct SiteTruth {
    /// The program's function.
    pub name: String,
    /// The allocator's function.
    pub function: String,
    /// Its books.
    #[serde(flatten)]
    pub stats: Stats,
}

/// One function.
#[derive(Clone, Debug, Deserialize)]
pub struct FunctionTruth {
    /// Its name.
    pub function: String,
    /// Outermost calls.
    pub calls: u64,
    /// Those that failed or had nothing to do.
    pub void: u64,
}

/// malloc and kin, in the order of `AllocFn`.
pub const HEAP_FUNCTIONS: [&str; 10] = [
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "free",
    "memalign",
    "aligned_alloc",
    "posix_memalign",
    "valloc",
    "pvalloc",
];

/// mmap and kin.
pub const MAPPING_FUNCTIONS: [&str; 5] = ["mmap", "munmap", "mremap", "brk", "sbrk"];

/// glibc has one function under two names, which cannot be told apart.
fn known_as(function: &str) -> &str {
    if function == "aligned_alloc" { "memalign" } else { function }
}

fn is_mapping(function: &str) -> bool {
    MAPPING_FUNCTIONS.contains(&function)
}

/// Books by (caller, function).
type Books = BTreeMap<(String, String), Stats>;

fn add(books: &mut Books, caller: &str, function: &str, stats: &Stats) {
    let sum = books.entry((caller.to_owned(), known_as(function).to_owned())).or_default();
    sum.allocated += stats.allocated;
    sum.freed += stats.freed;
    sum.live += stats.live;
}

impl Truth {
    fn books(&self) -> Books {
        let mut books = Books::new();
        for site in &self.sites {
            add(&mut books, &site.name, &site.function, &site.stats);
        }
        books
    }

    /// Sums over the sites of malloc and kin, or of mmap and kin.
    fn total(&self, of_mappings: bool) -> Stats {
        let mut total = Stats::default();
        for site in self.sites.iter().filter(|site| is_mapping(&site.function) == of_mappings) {
            total.allocated += site.stats.allocated;
            total.freed += site.stats.freed;
            total.live += site.stats.live;
        }
        total
    }

    /// A function's calls and voids, both of its names together.
    pub fn calls(&self, function: &str) -> (u64, u64) {
        let same = self.functions.iter().filter(|it| known_as(&it.function) == function);
        same.fold((0, 0), |(calls, void), it| (calls + it.calls, void + it.void))
    }

    /// Asserts that every site of the program has the same books in the report, and that the
    /// report knows no other site of the program.
    pub fn assert_same_sites(&self, report: &Report) {
        let mut seen = Books::new();
        for site in report.sites.iter().filter(|site| site.caller().starts_with("site_")) {
            add(&mut seen, site.caller(), &site.function, &site.stats);
        }
        let books = self.books();
        for (site, stats) in &books {
            assert_eq!(seen.get(site), Some(stats), "{site:?}: seen (left), true (right)");
        }
        for site in seen.keys() {
            assert!(books.contains_key(site), "{site:?} was seen, but never happened");
        }
    }

    /// Asserts that peaks are the same, of the sites that have only one stack: peaks of several
    /// cannot be summed up. Holds where one thread uses each site.
    pub fn assert_same_peaks(&self, report: &Report) {
        for site in &self.sites {
            let mut seen = report.sites_of(&site.name);
            if let (Some(only), None) = (seen.next(), seen.next()) {
                assert_eq!(only.stats.peak, site.stats.peak, "peak of {}", site.name);
            }
        }
    }

    /// Asserts that the kernel counted the same calls of these functions, and lost none.
    pub fn assert_same_calls(&self, report: &Report, functions: &[&str]) {
        for function in functions.iter().filter(|function| known_as(function) == **function) {
            let (mut calls, mut void, mut lost) = (0, 0, 0);
            for seen in report.functions.iter().filter(|it| known_as(&it.function) == *function) {
                calls += seen.calls;
                void += seen.void;
                lost += seen.lost;
            }
            let (true_calls, true_void) = self.calls(function);
            assert_eq!((calls, void, lost), (true_calls, true_void, 0), "{function}");
        }
    }

    /// Asserts that nothing but the program's own sites used the heap.
    pub fn assert_same_heap_total(&self, report: &Report) {
        assert_same_total(&self.total(false), &report.totals.heap);
    }

    /// Asserts that nothing but the program's own sites mapped memory.
    pub fn assert_same_mapping_total(&self, report: &Report) {
        assert_same_total(&self.total(true), &report.totals.mappings);
    }

    /// Asserts that the same frees were of memory from before the window.
    pub fn assert_same_unmatched(&self, report: &Report) {
        let seen = (report.totals.unmatched_frees, report.totals.unmatched_unmapped_bytes);
        assert_eq!(seen, (self.unmatched_frees, self.unmatched_unmapped_bytes));
    }

    /// All that can be equal for a program that does nothing but use the heap.
    pub fn assert_same_heap(&self, report: &Report) {
        assert_complete(report);
        self.assert_same_sites(report);
        self.assert_same_heap_total(report);
        self.assert_same_calls(report, &HEAP_FUNCTIONS);
        self.assert_same_unmatched(report);
    }
}

fn assert_same_total(truth: &Stats, seen: &Stats) {
    let parts = |stats: &Stats| -> [Amount; 3] { [stats.allocated, stats.freed, stats.live] };
    assert_eq!(parts(seen), parts(truth), "[allocated, freed, live] seen (left), true (right)");
}

/// Asserts that nothing was lost.
pub fn assert_complete(report: &Report) {
    assert_eq!(report.completeness.losses, [], "{:?}", report.completeness.notes);
    assert!(report.completeness.complete);
}
